"""The client's side of a request: what leaves, and what comes back in any chunking."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bethrou.errors import DecodeError, Failure, NegotiationError, UnsupportedProtocol
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.proxy_request import (
    PROTOCOL_V1_0,
    PROTOCOL_V1_1,
    Answer,
    Connected,
    Dialing,
    ProxyRequest,
    Refused,
    encode_answer_v1_0,
    encode_answer_v1_1,
    encode_request_v1_0,
    encode_request_v1_1,
)
from bethrou.wire.request_dialog import AnyRequestDialog, GoRequestDialog, RequestDialog

REQUEST = ProxyRequest("name.example", 443, "0123456789abcdef")
AGREED_V1_1 = HEADER + frame(PROTOCOL_V1_1)
AGREED_V1_0 = HEADER + frame(PROTOCOL_V1_0)
DIALING = encode_answer_v1_1(Dialing())
PAYLOAD = b"raw bytes \x00\xff of the destination"

Split = Callable[[bytes], list[bytes]]
SPLITS: list[Split] = [
    lambda data: [data],
    lambda data: [bytes((byte,)) for byte in data],
    lambda data: [data[start : start + 7] for start in range(0, len(data), 7)],
]


def answers(dialog: AnyRequestDialog, data: bytes, split: Split) -> tuple[list[Answer], bytes]:
    """What comes of `data`, and what is behind the last answer."""
    found: list[Answer] = []
    behind = b""
    for chunk in split(data):
        if found and not isinstance(found[-1], Dialing):
            behind += chunk
            continue
        answer = dialog.receive(chunk)
        while answer is not None:
            found.append(answer)
            if not isinstance(answer, Dialing):
                behind = dialog.surplus
                break
            answer = dialog.receive(b"")
    return found, behind


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "bound", [("127.0.0.1", 80), ("255.255.255.255", 65535), ("2001:db8::1", 443), ("fe80::1%eth0", 1), None]
)
def test_connected_in_any_chunking(split: Split, bound: tuple[str, int] | None) -> None:
    dialog = RequestDialog(REQUEST)
    assert dialog.data_to_send() == AGREED_V1_1 + encode_request_v1_1(REQUEST)
    told = AGREED_V1_1 + DIALING + encode_answer_v1_1(Connected(bound))
    found, behind = answers(dialog, told + PAYLOAD, split)
    seen = bound if bound is None or "%" not in bound[0] else None  # a zone means nothing here
    assert found == [Dialing(), Connected(seen)]
    assert behind == PAYLOAD
    assert dialog.data_to_send() == b""


@pytest.mark.parametrize("split", SPLITS)
def test_refused_with_its_reason(split: Split) -> None:
    refused = Refused(Failure.REFUSED, "connection refused")
    found, _ = answers(RequestDialog(REQUEST), AGREED_V1_1 + DIALING + encode_answer_v1_1(refused), split)
    assert found == [Dialing(), refused]


@pytest.mark.parametrize(
    "odd",
    [
        b'{"status":"ok","bound":"999.0.0.1:80"}',
        b'{"status":"ok","bound":"1.2.3.4:99999"}',
        b'{"status":"ok","bound":"......."}',
        b'{"bound":"1.2.3.4:5","status":"ok"}',
        b'{"status":"ok","bound":7}',
        b'{"status":"ok","new":[1,2]}',
    ],
)
@pytest.mark.parametrize("split", SPLITS)
def test_an_unusual_ok_is_one_too(odd: bytes, split: Split) -> None:
    told = AGREED_V1_1 + DIALING + bytes((len(odd),)) + odd
    found, behind = answers(RequestDialog(REQUEST), told + PAYLOAD, split)
    assert found[0] == Dialing()
    assert isinstance(found[1], Connected)
    assert found[1].bound == (("1.2.3.4", 5) if b'"1.2.3.4:5"' in odd else None)
    assert behind == PAYLOAD


def test_a_length_that_does_not_fit_is_no_ok() -> None:
    body = b'{"status":"ok","bound":"1.2.3.4:5"}'
    told = AGREED_V1_1 + DIALING + bytes((len(body) - 1,)) + body
    with pytest.raises(DecodeError):
        answers(RequestDialog(REQUEST), told, SPLITS[0])


def test_dialing_is_said_once() -> None:
    with pytest.raises(DecodeError, match="twice"):
        answers(RequestDialog(REQUEST), AGREED_V1_1 + DIALING + DIALING, SPLITS[0])


@pytest.mark.parametrize("split", SPLITS)
def test_an_exit_that_does_not_speak_it(split: Split) -> None:
    with pytest.raises(UnsupportedProtocol):
        answers(RequestDialog(REQUEST), HEADER + frame("na"), split)


@pytest.mark.parametrize("split", SPLITS)
def test_something_else_than_multistream(split: Split) -> None:
    with pytest.raises(NegotiationError):
        answers(RequestDialog(REQUEST), b"HTTP/1.1 400 Bad Request\r\n\r\n", split)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("known", [True, False])
def test_go(split: Split, known: bool) -> None:
    request = encode_request_v1_0(REQUEST)
    dialog = GoRequestDialog(REQUEST, known)
    assert dialog.data_to_send() == AGREED_V1_0 + (request if known else b"")
    assert answers(dialog, AGREED_V1_0, split) == ([], b"")
    assert dialog.data_to_send() == (b"" if known else request)
    found, behind = answers(dialog, encode_answer_v1_0(Connected()) + PAYLOAD, split)
    assert found == [Connected()]
    assert behind.removeprefix(b"\n") == PAYLOAD


@pytest.mark.parametrize("user", [None, "bob", "Jürgen", 'quote"d'])
@pytest.mark.parametrize("identifier", [None, "0123456789abcdef"])
@pytest.mark.parametrize("host", ["name.example", "127.0.0.1", "2001:db8::1"])
def test_requests_are_the_same_json_however_they_are_made(
    user: str | None, identifier: str | None, host: str
) -> None:
    import json

    from bethrou.wire.proxy_request import PrefixedJsonReader, decode_request_v1_1

    request = ProxyRequest(host, 443, identifier, user)
    encoded = encode_request_v1_1(request)
    message = PrefixedJsonReader().receive(encoded)
    assert message is not None
    assert decode_request_v1_1(message) == request
    assert encoded[1:] == json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
