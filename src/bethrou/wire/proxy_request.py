"""The messages by which a client asks an exit for a connection, in both versions of the protocol.

`/bethrou/proxy/1.0.0` is what Go speaks: `{"address":"host:port"}\\n`, answered by `{"status":"ok"}\\n` or
`{"status":"error","message":"..."}\\n`; read by `JsonObjectReader`. As Go loses what it has read too far, the
answer goes out in a DATA frame of its own, newline included.

`/bethrou/proxy/1.1.0` is ours: uv(length) || JSON, read by `PrefixedJsonReader`; adds the request's id and
user, `dialing`, the bound address and a code for every failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from bethrou.errors import DecodeError, Failure, RequestError
from bethrou.wire import varint
from bethrou.wire.destination import join_address, pack_address, split_address
from bethrou.wire.json_reader import (
    JsonObjectReader,
    PrefixedJsonReader,
    encode_compact,
    encode_prefixed,
    text_field,
)

__all__ = [
    "DIALING_V1_1",
    "PROTOCOL_V1_0",
    "PROTOCOL_V1_1",
    "Answer",
    "Connected",
    "Dialing",
    "JsonObjectReader",
    "PrefixedJsonReader",
    "ProxyRequest",
    "Refused",
    "decode_answer_v1_0",
    "decode_answer_v1_1",
    "decode_request_v1_0",
    "decode_request_v1_1",
    "encode_answer_v1_0",
    "encode_answer_v1_1",
    "encode_request_v1_0",
    "encode_request_v1_1",
    "failure_of_text",
    "join_address",
    "split_address",
    "text_of_failure",
    "usual_answer",
]

PROTOCOL_V1_0 = "/bethrou/proxy/1.0.0"
PROTOCOL_V1_1 = "/bethrou/proxy/1.1.0"

MAX_MESSAGE_CHARS = 512
"""Longest error text that is sent or kept, in characters."""

MAX_USER_CHARS = 255
"""Longest user name in characters: what one SOCKS field can hold."""

_ID = re.compile(r"[0-9a-f]{16}")
_OK_V1_1 = encode_prefixed({"status": "ok"})
_OK_IPV4_V1_1 = re.compile(rb'.\{"status":"ok","bound":"([0-9.]{7,15}):([0-9]{1,5})"\}', re.DOTALL)
_OK_V1_0 = b'{"status":"ok"}\n'
DIALING_V1_1 = encode_prefixed({"status": "dialing"})
"""What an exit of ours says as soon as it has taken a request."""

_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


@dataclass(slots=True)  # frozen ones take five times as long to make, and every request has one
class ProxyRequest:
    """A connection that a client wants. `id` (16 hex digits) follows it through the logs of both sides."""

    host: str
    port: int
    id: str | None = None
    user: str | None = None
    """Who asks, as the client claims; not a proof."""


@dataclass(frozen=True, slots=True)
class Dialing:
    """The exit has taken the request and is looking up or dialling its destination."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The destination is connected; raw bytes follow. `bound` is the exit's own IP address and port there."""

    bound: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The request was not carried out."""

    failure: Failure
    message: str = ""


Answer = Dialing | Connected | Refused


def encode_request_v1_0(request: ProxyRequest) -> bytes:
    """Return the request as Go's encoder writes it; id and user do not exist in this version."""
    return _encode_go({"address": join_address(request.host, request.port)})


def decode_request_v1_0(message: dict[str, Any]) -> ProxyRequest:
    """Read a request from `JsonObjectReader`.

    Raises DecodeError for a wrong type, RequestError for an address that `split_address` refuses.
    """
    host, port = split_address(text_field(message, "address"))
    return ProxyRequest(host, port)


def encode_answer_v1_0(answer: Connected | Refused) -> bytes:
    """Return the answer as Go's encoder writes it, with words in it by which Go clients know the failure."""
    if isinstance(answer, Connected):
        return _OK_V1_0
    return _encode_go({"status": "error", "message": _go_text(answer)})


def decode_answer_v1_0(message: dict[str, Any]) -> Connected | Refused:
    """Read an answer from `JsonObjectReader`; all but the status "ok" is an error. Raises DecodeError."""
    if text_field(message, "status") == "ok":
        return Connected()
    text = _clean(text_field(message, "message"), MAX_MESSAGE_CHARS)
    return Refused(failure_of_text(text), text)


def encode_request_v1_1(request: ProxyRequest) -> bytes:
    """Return the request, length first."""
    address = join_address(request.host, request.port)
    if request.user is None and request.id is not None:
        return _frame(f'{{"address":{encode_basestring_ascii(address)},"id":"{request.id}"}}')
    message = {"address": address}
    if request.id is not None:
        message["id"] = request.id
    if request.user is not None:
        message["user"] = request.user[:MAX_USER_CHARS]
    return encode_prefixed(message)


def decode_request_v1_1(message: dict[str, Any]) -> ProxyRequest:
    """Read a request from `PrefixedJsonReader`. An id that is none is left out. Raises like version 1.0.0."""
    host, port = split_address(text_field(message, "address"))
    request_id = text_field(message, "id")
    user = _clean(text_field(message, "user"), MAX_USER_CHARS)
    return ProxyRequest(host, port, request_id if _ID.fullmatch(request_id) else None, user or None)


def encode_answer_v1_1(answer: Answer) -> bytes:
    """Return the answer, length first."""
    if isinstance(answer, Dialing):
        return DIALING_V1_1
    if isinstance(answer, Connected):
        return _encode_connected(answer.bound)
    # NO_EXIT is a client's own finding; an exit that meets it has failed inside.
    failure = Failure.INTERNAL if answer.failure is Failure.NO_EXIT else answer.failure
    text = (answer.message or text_of_failure(failure))[:MAX_MESSAGE_CHARS]
    return encode_prefixed({"status": "error", "code": failure.value, "message": text})


def _encode_connected(bound: tuple[str, int] | None) -> bytes:
    if bound is None:
        return _OK_V1_1
    return _frame(f'{{"status":"ok","bound":{encode_basestring_ascii(join_address(*bound))}}}')


def _frame(body: str) -> bytes:
    """Length and body of a message put together by hand: those that every request has, with one text in them."""
    raw = body.encode()
    return varint.encode(len(raw)) + raw


def usual_answer(data: bytes) -> tuple[Connected, int] | None:
    """The answer `ok` with an IPv4 address, as our exits write it, at the start of `data`, and its length.

    None for any other answer, and for what has not come whole: that takes `PrefixedJsonReader`.
    """
    match = _OK_IPV4_V1_1.match(data)
    if match is None or match.end() != data[0] + 1:
        return None
    host, port = match[1].decode(), int(match[2])
    if port > 65535 or pack_address(host) is None:
        return None
    return Connected((host, port)), match.end()


def decode_answer_v1_1(message: dict[str, Any]) -> Answer:
    """Read an answer from `PrefixedJsonReader`; an unknown code counts as INTERNAL. Raises DecodeError."""
    status = text_field(message, "status")
    if status == "dialing":
        return Dialing()
    if status == "ok":
        return Connected(_read_bound(message.get("bound")))
    if status != "error":
        raise DecodeError(f"exit answered with the unknown status {status[:40]!r}")
    text = _clean(text_field(message, "message"), MAX_MESSAGE_CHARS)
    return Refused(_CODES.get(text_field(message, "code"), Failure.INTERNAL), text)


_CODES = {failure.value: failure for failure in Failure if failure is not Failure.NO_EXIT}

_TEXTS = {
    Failure.REFUSED: "connection refused",
    Failure.HOST_UNREACHABLE: "no route to host",
    Failure.NET_UNREACHABLE: "network is unreachable",
    Failure.NO_SUCH_HOST: "no such host",
    Failure.TIMEOUT: "i/o timeout",
    Failure.DENIED: "denied by the exit's policy",
    Failure.BAD_REQUEST: "invalid address",
    Failure.DRAINING: "exit is draining",
    Failure.OVERLOADED: "exit is overloaded",
    Failure.INTERNAL: "internal error",
    Failure.NO_EXIT: "no exit available",
}

_WORDS = (
    ("no such host", Failure.NO_SUCH_HOST),
    ("network is unreachable", Failure.NET_UNREACHABLE),
    ("no route to host", Failure.HOST_UNREACHABLE),
    ("host is unreachable", Failure.HOST_UNREACHABLE),
    ("host is down", Failure.HOST_UNREACHABLE),
    ("timed out", Failure.TIMEOUT),
    ("timeout", Failure.TIMEOUT),
    ("deadline exceeded", Failure.TIMEOUT),
    ("denied", Failure.DENIED),
    ("draining", Failure.DRAINING),
    ("overloaded", Failure.OVERLOADED),
    ("too many open files", Failure.OVERLOADED),
    ("invalid address", Failure.BAD_REQUEST),
    ("missing port in address", Failure.BAD_REQUEST),
    ("too many colons in address", Failure.BAD_REQUEST),
    ("invalid port", Failure.BAD_REQUEST),
    ("unknown port", Failure.BAD_REQUEST),
)


def failure_of_text(text: str) -> Failure:
    """Return the failure that the text of a 1.0.0 answer speaks of: Go's errors, and ours. Else INTERNAL.

    Go puts what happened behind the last colon. Before it stands the destination, whose name may be anything.
    """
    lowered = text.lower()
    tail = lowered.rpartition(": ")[2]
    if "refused" in tail:
        # A name server that refuses is the exit's trouble, not the destination's answer.
        return Failure.INTERNAL if ": lookup " in lowered else Failure.REFUSED
    return next((failure for words, failure in _WORDS if words in tail), Failure.INTERNAL)


def text_of_failure(failure: Failure) -> str:
    """Return a text from which `failure_of_text`, and a Go client where it can, tell the same failure."""
    return _TEXTS[failure]


def _go_text(refused: Refused) -> str:
    # A Go client looks for "refused" and "no such host" anywhere in the text. So a detail that has such words
    # by accident (a name, say) is left out.
    words = text_of_failure(refused.failure)
    detail = refused.message[: MAX_MESSAGE_CHARS - len(words) - 2]
    if not detail or any(word in detail.lower() for word in ("refused", "no such host", ": lookup ")):
        return words
    return f"{detail}: {words}"


def _encode_go(message: dict[str, Any]) -> bytes:
    # encoding/json escapes these five for the sake of HTML and JavaScript. They only occur inside strings.
    return encode_compact(message).decode().translate(_ESCAPES).encode() + b"\n"


def _read_bound(value: object) -> tuple[str, int] | None:
    # Only shown to applications, so a strange one is not worth a failed request.
    if not isinstance(value, str):
        return None
    try:
        host, port = split_address(value)
    except RequestError:
        return None
    return (host, port) if pack_address(host) is not None else None


def _clean(text: str, limit: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:limit])
