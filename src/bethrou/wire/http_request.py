"""HTTP/1.1 requests as a proxy has to read them (specs: RFC 9112, RFC 9110): h11's grammar, and what it lets pass.

h11 reads any message that can be read. A proxy whose destination may read it otherwise has to be stricter: two ways to
say how long a body is, folded lines and control characters are refused. What is passed on is written anew by h11, so
nothing that was written oddly arrives as it was.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple

import h11

from bethrou.wire.destination import check_host, check_port, split_address

MAX_HEAD = 32 * 1024
"""Bytes of a request line with its headers; browsers send a few thousand, most of them cookies."""

Headers = list[tuple[bytes, bytes]]

_BLANK_LINE = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]\.[0-9]\r?\n")
_FOLD = re.compile(rb"\n[ \t]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?#@]*)([/?][^#]*)?")
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):")

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that end here (RFC 9110, section 7.6.1), beside those that `Connection` names."""

_STAYS = frozenset({b"content-length", b"host"})
"""What `Connection` cannot take out: the message would be another one without it."""


class HttpRefused(Exception):
    """A request that is answered with `status` and one sentence. Never leaves the proxy's HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        """0: there is nobody who would understand an answer."""


class HeadScanner:
    """Finds the end of a request's head in bytes that come in any pieces, and notices early what will never be one."""

    __slots__ = ("_checked", "_limit", "_seen")

    def __init__(self, limit: int = MAX_HEAD) -> None:
        self._limit = limit
        self._seen = 0
        self._checked = False

    def find(self, data: bytes | bytearray) -> int:
        """The length of the head at the start of `data`, blank line included; 0 when it is not complete.

        `data` is what it was at the last call, or longer. Raises `HttpRefused`.
        """
        if not self._checked and (end := data.find(b"\n") + 1):
            if not _REQUEST_LINE.fullmatch(data, 0, end):
                raise _no_request(bytes(data[:end]))
            self._checked = True
        found = _BLANK_LINE.search(data, max(0, self._seen - 2))
        if (found.end() if found else len(data)) > self._limit:
            raise HttpRefused(431, f"the request's head is longer than {self._limit} bytes")
        self._seen = len(data)
        return found.end() if found else 0


def read_head(head: bytes) -> tuple[h11.Connection, h11.Request]:
    """Read a whole head; the connection has taken nothing else yet. Raises `HttpRefused`."""
    if _FOLD.search(head):
        raise HttpRefused(400, "a header goes on in a second line")
    if _CONTROL.search(head):
        raise HttpRefused(400, "the request's head has control characters")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HttpRefused(error.error_status_hint, str(error)) from None
    if not isinstance(request, h11.Request):
        raise HttpRefused(400, "no request")
    _check_framing(request)
    return connection, request


def _check_framing(request: h11.Request) -> None:
    if request.http_version not in (b"1.0", b"1.1"):
        raise HttpRefused(505, f"HTTP/{request.http_version.decode()} is not spoken here, HTTP/1.1 is")
    names = [name for name, _ in request.headers]
    coded = b"transfer-encoding" in names
    if coded and b"content-length" in names:
        raise HttpRefused(400, "the request has both Content-Length and Transfer-Encoding")
    if coded and request.http_version == b"1.0":
        raise HttpRefused(400, "HTTP/1.0 has no Transfer-Encoding")
    if request.method == b"CONNECT" and (
        coded or first(request.headers, b"content-length") not in (None, b"0")
    ):
        raise HttpRefused(400, "CONNECT has no body")
    if names.count(b"proxy-authorization") > 1:
        raise HttpRefused(400, "the request has Proxy-Authorization twice")


def _no_request(line: bytes) -> HttpRefused:
    if line.startswith(b"SSH-"):
        return HttpRefused(0, "application speaks SSH; it takes this port for an SSH server")
    return HttpRefused(
        400, f"application speaks neither SOCKS nor HTTP: it begins with {line[:40].strip()!r}"
    )


# -- what a request is for -------------------------------------------------------------------------------------------


class Target(NamedTuple):
    """Where a request goes: a destination, and what it is asked for."""

    host: str
    port: int
    authority: bytes
    """The value of `Host`."""
    path: bytes
    """Path and query."""


def connect_target(request: h11.Request) -> tuple[str, int]:
    """Where CONNECT wants to go. Raises `RequestError`."""
    return split_address(request.target.decode("ascii"))


def forward_target(request: h11.Request) -> Target:
    """What a request in absolute form wants. Raises `HttpRefused` and `RequestError`."""
    found = _ABSOLUTE.fullmatch(request.target)
    if found is None:
        raise HttpRefused(400, _why_not_forwarded(request.target))
    authority, path = found[1], found[2] or b""
    if path[:1] != b"/":
        path = b"*" if not path and request.method == b"OPTIONS" else b"/" + path
    text = authority.decode("ascii")
    if text.endswith(":"):
        text = text[:-1]  # an empty port is the usual one (RFC 3986, section 3.2.3)
    if text.rpartition(":")[2].isdigit() and not text.endswith("]"):
        host, port = split_address(text)
    elif text.startswith("["):
        host, port = split_address(text + ":80")
    else:
        host, port = check_host(text), check_port(80)
    return Target(host, port, authority, path)


def _why_not_forwarded(target: bytes) -> str:
    scheme = _SCHEME.match(target)
    if scheme is None:
        return "the request's target is no URL"
    if scheme[1].lower() == b"https":
        return "https:// goes through CONNECT here"
    if scheme[1].lower() != b"http":
        return f"{scheme[1].decode('ascii')[:20]}:// is not forwarded, only http:// is"
    return "the URL has a user name or a fragment, or no host"


# -- who sends it ----------------------------------------------------------------------------------------------------


def basic_credentials(request: h11.Request) -> tuple[bytes, bytes] | None:
    """User name and password of `Proxy-Authorization: Basic` (spec: RFC 7617); None without. Raises `HttpRefused`."""
    value = first(request.headers, b"proxy-authorization")
    if value is None:
        return None
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        raise HttpRefused(407, "only Basic is known here")
    try:
        decoded = binascii.a2b_base64(encoded.strip(), strict_mode=True)
    except binascii.Error:
        raise HttpRefused(407, "the credentials are no base64") from None
    user, colon, password = decoded.partition(b":")
    if not colon:
        raise HttpRefused(407, "the credentials have no colon")
    return user, password


# -- what is passed on -----------------------------------------------------------------------------------------------


def headers_for_origin(request: h11.Request, target: Target) -> Headers:
    """The headers of a request as its destination gets them."""
    kept = [(b"Host", target.authority)]
    kept += [pair for pair in end_to_end(request) if pair[0].lower() != b"host"]
    if first(request.headers, b"transfer-encoding") is not None:
        kept.append((b"Transfer-Encoding", b"chunked"))
    upgrade = wanted_upgrade(request)
    connection = [b"Upgrade"] if upgrade else []
    if b"trailers" in tokens(request.headers, b"te"):
        kept.append((b"TE", b"trailers"))
        connection.append(b"TE")
    if upgrade:
        kept.append((b"Upgrade", upgrade))
    if connection:
        kept.append((b"Connection", b", ".join(connection)))
    return kept


def headers_for_application(response: h11.Response | h11.InformationalResponse) -> Headers:
    """The headers of a response as the application gets them, but for its framing: h11 adds Transfer-Encoding."""
    kept = end_to_end(response)
    if first(response.headers, b"transfer-encoding") is not None:
        kept = [pair for pair in kept if pair[0].lower() != b"content-length"]
    if response.status_code == 101:
        kept += [(b"Connection", b"Upgrade"), (b"Upgrade", first(response.headers, b"upgrade") or b"")]
    return kept


def trailers(end: h11.EndOfMessage) -> Headers:
    """The trailer fields of a message that are passed on: none that would have meant something in its head."""
    return [pair for pair in end_to_end(end) if pair[0].lower() not in _STAYS]


def wanted_upgrade(request: h11.Request) -> bytes | None:
    """The protocol to which a request wants to change, if that can be passed on.

    Not h2c: its settings are a header for this hop only.
    """
    if b"upgrade" not in tokens(request.headers, b"connection"):
        return None
    wanted = first(request.headers, b"upgrade")
    return None if not wanted or b"h2c" in tokens(request.headers, b"upgrade") else wanted


def end_to_end(message: h11.Request | h11.Response | h11.InformationalResponse | h11.EndOfMessage) -> Headers:
    """Those headers that are not for this hop, as they were written."""
    gone = _HOP_BY_HOP | (tokens(message.headers, b"connection") - _STAYS)
    return [pair for pair in message.headers.raw_items() if pair[0].lower() not in gone]


def tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> frozenset[bytes]:
    """The words of a comma-separated header, in small letters."""
    values = b",".join(value for key, value in headers if key.lower() == name)
    return frozenset(word for part in values.lower().split(b",") if (word := part.strip()))


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of the first header of this name; None without."""
    return next((value for key, value in headers if key.lower() == name), None)
