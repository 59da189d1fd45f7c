"""The opening handshake of a WebSocket (RFC 6455, section 4), both sides, by the package websockets.

libp2p asks for no extension and no subprotocol (spec: websockets). `Origin` is ignored: what a web page could want
here it cannot do without the network key.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from websockets.client import ClientProtocol
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from bethrou.errors import WebSocketError
from bethrou.printable import printable
from bethrou.wire.websocket.frames import CloseCode

MAX_HEAD = 16 * 1024
"""Bytes of a request or an answer, headers included; browsers and proxies need a tenth of it."""

HEAD_END = b"\r\n\r\n"

_SWITCHING = b"HTTP/1.1 101 "
_SHOWN = 100

_quiet = logging.getLogger("bethrou.websocket")
_quiet.disabled = True  # the package would write a line for each connection; what matters is in the errors


class ClientHandshake:
    """Our request, and whether the answer is good. `host` is for the Host header; `path` begins with a slash."""

    def __init__(self, host: str, port: int, path: str, *, tls: bool) -> None:
        uri = WebSocketURI(secure=tls, host=host, port=port, path=path, query="")
        self._protocol = ClientProtocol(uri, logger=_quiet)
        self._protocol.send_request(self._protocol.connect())

    def request(self) -> bytes:
        """What to send first."""
        return b"".join(self._protocol.data_to_send())

    def check(self, head: bytes) -> None:
        """Read the answer, from its status line to the empty line. Raises WebSocketError when it is no WebSocket."""
        if not head.startswith(_SWITCHING):
            status = head.partition(b"\r\n")[0].partition(b" ")[2] if head.startswith(b"HTTP/1.") else b""
            said = f"the server said {printable(status.decode('latin-1'), _SHOWN)}" if status else "no HTTP"
            raise WebSocketError(f"no WebSocket there: {said}", CloseCode.PROTOCOL_ERROR)
        self._protocol.receive_data(head)
        error = self._protocol.handshake_exc
        if error is not None:
            raise WebSocketError(
                f"no WebSocket there: {printable(str(error), _SHOWN)}", CloseCode.PROTOCOL_ERROR
            )


class ServerHandshake:
    """The answer to a request. `path`: the only one that is served, if not "" ."""

    def __init__(self, path: str = "") -> None:
        self._path = path

    def answer(self, head: bytes) -> bytes:
        """What to send for the request `head`, up to its empty line, that is accepted.

        Raises RequestRefused with an answer that says why it is not.
        """
        protocol = ServerProtocol(logger=_quiet)
        protocol.receive_data(head)
        requests = [event for event in protocol.events_received() if isinstance(event, Request)]
        if not requests:
            answer = b"".join(
                protocol.data_to_send()
            )  # there is one where a line or the headers are too long
            why = printable(str(protocol.handshake_exc), _SHOWN)
            raise RequestRefused(why, answer) if answer else no_request()
        if self._path and requests[0].path.partition("?")[0] != self._path:
            raise refused(HTTPStatus.NOT_FOUND, "there is nothing at this path")
        response = protocol.accept(requests[0])
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            raise RequestRefused(printable(str(protocol.handshake_exc), _SHOWN), response.serialize())
        return response.serialize()


class RequestRefused(WebSocketError):
    """An HTTP request opened no WebSocket; `answer` is what to send to whoever made it."""

    def __init__(self, message: str, answer: bytes) -> None:
        super().__init__(f"no WebSocket was asked for: {message}", CloseCode.PROTOCOL_ERROR)
        self.answer = answer


def refused(status: HTTPStatus, reason: str) -> RequestRefused:
    """A refusal with a line of text for people."""
    body = f"{status.value} {status.phrase}: {reason}.\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return RequestRefused(reason, head.encode() + body)


def no_request() -> RequestRefused:
    """What to say to bytes that are no HTTP request, or none of ours."""
    return refused(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request for a WebSocket")


def too_long() -> RequestRefused:
    """What to say when `MAX_HEAD` is exceeded."""
    return refused(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAX_HEAD} bytes of headers are read"
    )


def too_slow() -> RequestRefused:
    """What to say when the request takes too long to come."""
    return refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time")
