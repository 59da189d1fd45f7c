"""The opening handshake: the example of RFC 6455, and what becomes of everything else."""

from __future__ import annotations

import pytest

from bethrou.errors import WebSocketError
from bethrou.wire.websocket.handshake import (
    ClientHandshake,
    RequestRefused,
    ServerHandshake,
    no_request,
    too_long,
    too_slow,
)

EXAMPLE = (  # RFC 6455, 1.2, without its subprotocol
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def status(answer: bytes) -> str:
    return answer.split(b"\r\n")[0].decode()


def test_the_example_of_the_rfc() -> None:
    answer = ServerHandshake().answer(EXAMPLE)
    assert status(answer) == "HTTP/1.1 101 Switching Protocols"
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


def test_extensions_and_subprotocols_are_not_agreed_on() -> None:
    asked = b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    answer = ServerHandshake().answer(EXAMPLE[:-2] + asked)
    assert b"xtensions" not in answer
    assert b"Sec-WebSocket-Protocol" not in answer


def test_both_sides_agree() -> None:
    client = ClientHandshake("exit.example.org", 443, "/here", tls=True)
    request = client.request()
    assert request.startswith(b"GET /here HTTP/1.1\r\nHost: exit.example.org\r\n")
    client.check(ServerHandshake("/here").answer(request))


def test_the_host_header_names_an_unusual_port() -> None:
    assert b"Host: [2001:db8::1]:8080\r\n" in ClientHandshake("2001:db8::1", 8080, "/", tls=False).request()


@pytest.mark.parametrize(
    ("request_", "path", "expected", "reason"),
    [
        (EXAMPLE, "/secret", "HTTP/1.1 404 Not Found", "nothing at this path"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 426 Upgrade Required", "Connection"),
        (EXAMPLE.replace(b"GET", b"PUT"), "", "HTTP/1.1 405 Method Not Allowed", "PUT"),
        (EXAMPLE.replace(b": 13", b": 8"), "", "HTTP/1.1 400 Bad Request", "Version"),
        (EXAMPLE.replace(b"dGhl", b"dGh"), "", "HTTP/1.1 400 Bad Request", "Key"),
        (b"nonsense\r\n\r\n", "", "HTTP/1.1 400 Bad Request", "no HTTP"),
        (
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
            "",
            "HTTP/1.1 431 Request Header",
            "expected no more",
        ),
        (
            b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
            "",
            "HTTP/1.1 414 Request-URI Too Long",
            "expected no more",
        ),
    ],
)
def test_what_is_refused(request_: bytes, path: str, expected: str, reason: str) -> None:
    with pytest.raises(RequestRefused, match=reason) as caught:
        ServerHandshake(path).answer(request_)
    head, _, body = caught.value.answer.partition(b"\r\n\r\n")
    assert status(head).startswith(expected)
    assert b"\r\nConnection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert 0 < len(body) < 300
    body.decode()


def test_refusals_that_need_no_request() -> None:
    assert [status(error.answer)[9:12] for error in (no_request(), too_long(), too_slow())] == [
        "400",
        "431",
        "408",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "the server said 502 Bad Gateway"),
        (b"HTTP/1.1 200 \x1b[31mred\r\n\r\n", r"said 200 \\x1b\[31mred"),
        (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "no WebSocket there",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "Accept",
        ),
    ],
)
def test_answers_that_are_no_websocket(answer: bytes, reason: str) -> None:
    with pytest.raises(WebSocketError, match=reason):
        ClientHandshake("x", 80, "/", tls=False).check(answer)


@pytest.mark.parametrize(
    "header", [b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Protocol: chat"]
)
def test_what_was_not_asked_for_is_refused(header: bytes) -> None:
    client = ClientHandshake("x", 80, "/", tls=False)
    answer = ServerHandshake().answer(client.request())
    with pytest.raises(WebSocketError, match="no WebSocket there"):
        client.check(answer[:-2] + header + b"\r\n\r\n")
