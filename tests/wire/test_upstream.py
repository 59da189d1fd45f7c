"""Asking proxies for connections: SOCKS5 against our own server's side and bytes of RFC 1928, CONNECT against h11."""

from __future__ import annotations

import h11
import pytest

from bethrou.errors import ConfigError
from bethrou.wire.socks5 import Connect, Credentials, Reply, Socks5Server, reply
from bethrou.wire.upstream import Upstream, UpstreamRefused

SOCKS = "socks5://proxy.example:1080"
HTTP = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HTTP, Upstream("http", "proxy.example", 3128)),
        ("http://10.0.0.1", Upstream("http", "10.0.0.1", 80)),
        ("socks5h://[2001:db8::1]/", Upstream("socks5", "2001:db8::1", 1080)),
        ("socks5://al%40ice:p%2Fw@h:1", Upstream("socks5", "h", 1, "al@ice", "p/w")),
    ],
)
def test_urls(text: str, expected: Upstream) -> None:
    assert Upstream.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("proxy.example:3128", "unknown scheme"),
        ("https://s3cret@proxy.example", "unknown scheme"),
        ("http://:s3cret@proxy.example", "user of the proxy"),
        ("http://a:s3cret@", "no usable host"),
        ("http://a:s3/cret@proxy", "host or port|behind its port"),
        ("http://a:s3cret@proxy:0", "port 0"),
        ("http://a:s3cret@proxy:99999", "host or port"),
        ("http://a%3Ab:s3cret@proxy", "colon"),
        ("socks5://a:" + "s3cret" * 50 + "@proxy", "at most 255"),
        ("", "unknown scheme"),
    ],
)
def test_urls_that_are_refused_and_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Upstream.parse(text)
    assert "s3" not in str(caught.value)


def test_no_text_shows_the_password() -> None:
    proxy = Upstream.parse("socks5://alice:s3cret@h:1")
    assert "s3cret" not in f"{proxy} {proxy!r}"
    assert str(proxy) == "socks5://h:1"


@pytest.mark.parametrize(("host", "kind"), [("exit.example.org", 3), ("203.0.113.7", 1), ("2001:db8::7", 4)])
@pytest.mark.parametrize("login", ["", "alice:s3cret@"])
def test_socks5_with_our_servers_side(host: str, kind: int, login: str) -> None:
    conversation = Upstream.parse(f"socks5://{login}proxy:1080").ask_for(host, 443)
    server = Socks5Server(allow_anonymous=not login)
    sent = conversation.start()
    for _ in range(5):
        event = server.receive(sent)
        if isinstance(event, Credentials):
            assert (event.user, event.password) == (b"alice", b"s3cret")
            event = server.answer_credentials(True)
        if isinstance(event, Connect):
            assert event == Connect(host, 443, kind)
            break
        answer = server.data_to_send()
        sent = b"".join(conversation.receive(answer[at : at + 1]) for at in range(len(answer)))
    assert not conversation.done
    answer = server.data_to_send() + reply(Reply.SUCCEEDED, ("203.0.113.9", 5)) + b"first bytes"
    assert conversation.receive(answer) == b""
    assert conversation.done
    assert conversation.surplus == b"first bytes"


@pytest.mark.parametrize(
    ("login", "answers", "reason"),
    [
        ("", b"HTTP/1.1 400 Bad Request\r\n", "does not speak SOCKS5"),
        ("", b"\x05\xff", "wants a user and a password, and none"),
        ("a:b@", b"\x05\xff", "takes no user"),
        ("a:b@", b"\x05\x02\x01\x01", "does not accept this user"),
        ("", b"\x05\x00" + reply(Reply.REFUSED), "connection refused"),
        ("", b"\x05\x00" + reply(Reply.HOST_UNREACHABLE), "no such host"),
        ("", b"\x05\x00" + reply(Reply.NOT_ALLOWED), "do not allow"),
        ("", b"\x05\x00\x05\x63\x00\x01", "code 99"),
        ("", b"\x05\x00\x05\x00\x00\x09\x00\x00", "makes no sense"),
    ],
)
def test_socks5_that_refuses(login: str, answers: bytes, reason: str) -> None:
    conversation = Upstream.parse(f"socks5://{login}proxy").ask_for("x", 1)
    conversation.start()
    with pytest.raises(UpstreamRefused, match=reason):
        conversation.receive(answers)


@pytest.mark.parametrize("pieces", [1, 1000])
@pytest.mark.parametrize(
    ("host", "authority"), [("exit.example.org", "exit.example.org:443"), ("::1", "[::1]:443")]
)
def test_connect(host: str, authority: str, pieces: int) -> None:
    conversation = Upstream.parse("http://alice:s3cret@proxy").ask_for(host, 443)
    server = h11.Connection(h11.SERVER)
    server.receive_data(conversation.start())
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"CONNECT", authority.encode())
    headers = dict(request.headers)
    assert headers[b"host"] == authority.encode()
    assert headers[b"proxy-authorization"] == b"Basic YWxpY2U6czNjcmV0"
    answer = b"HTTP/1.1 200 Connection established\r\nProxy-agent: x\r\n\r\n"
    for at in range(0, len(answer), pieces):
        assert not conversation.done
        assert conversation.receive(answer[at : at + pieces]) == b""
    assert conversation.done
    assert conversation.surplus == b""


@pytest.mark.parametrize(
    ("login", "answer", "reason"),
    [
        ("", "407 Proxy Authentication Required", "none is configured .407"),
        ("a:b@", "407 Proxy Authentication Required", "does not accept this user and password .407"),
        ("a:b@", "401 Unauthorized", "does not accept this user and password .401"),
        ("", "403 Forbidden", "does not allow that .403 Forbidden"),
        ("", "502 Bad Gateway", "could not connect"),
        ("", "500 Unable to connect", "could not connect.*500 Unable"),
        ("", "302 Found", "answered 302 Found"),
        ("", "999", "answered 999|HTTP"),
    ],
)
def test_connect_that_is_refused(login: str, answer: str, reason: str) -> None:
    conversation = Upstream.parse(f"http://{login}proxy").ask_for("x", 1)
    conversation.start()
    with pytest.raises(UpstreamRefused, match=reason):
        conversation.receive(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())


def test_connect_at_something_else() -> None:
    conversation = Upstream.parse(HTTP).ask_for("x", 1)
    conversation.start()
    with pytest.raises(UpstreamRefused, match="does not speak HTTP"):
        conversation.receive(b"SSH-2.0-OpenSSH\r\n\r\n")


def test_what_comes_right_behind_is_kept() -> None:
    conversation = Upstream.parse(HTTP).ask_for("x", 1)
    conversation.start()
    conversation.receive(b"HTTP/1.1 200 OK\r\n\r\nnonce")
    assert conversation.surplus == b"nonce"
