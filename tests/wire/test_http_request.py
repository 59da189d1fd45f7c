"""Heads of HTTP requests: in any pieces, against h11 alone and against Python's own parser, and what is passed on."""

from __future__ import annotations

import io
from http.server import BaseHTTPRequestHandler

import h11
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from bethrou.errors import RequestError
from bethrou.wire.http_request import (
    MAX_HEAD,
    HeadScanner,
    HttpRefused,
    basic_credentials,
    forward_target,
    headers_for_application,
    headers_for_origin,
    read_head,
    trailers,
)

HEAD = b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nX: y\r\n\r\n"


def find(data: bytes) -> int:
    return HeadScanner().find(data)


def request(*headers: str, method: str = "GET", target: str = "http://example.com/") -> h11.Request:
    lines = [f"{method} {target} HTTP/1.1", "Host: example.com", *headers, "", ""]
    return read_head("\r\n".join(lines).encode("latin-1"))[1]


# -- where a head ends -----------------------------------------------------------------------------------------------


def test_a_head_is_found_at_every_cut() -> None:
    for cut in range(len(HEAD)):
        scanner = HeadScanner()
        assert scanner.find(HEAD[:cut]) == 0
        assert scanner.find(HEAD + b"more") == len(HEAD)
    scanner = HeadScanner()
    assert [scanner.find(HEAD[:size]) for size in range(len(HEAD) + 1)] == [0] * len(HEAD) + [len(HEAD)]


def test_bare_newlines_end_it_too() -> None:
    assert find(HEAD.replace(b"\r\n", b"\n") + b"more") == len(HEAD) - 4
    assert read_head(HEAD.replace(b"\r\n", b"\n"))[1] == read_head(HEAD)[1]


def test_the_longest_head() -> None:
    filler = b"Y: " + b"z" * (MAX_HEAD - len(HEAD) - 5) + b"\r\n"
    longest = HEAD[:-2] + filler + b"\r\n"
    assert find(longest) == len(longest) == MAX_HEAD
    for too_long in (HEAD[:-2] + b"z" + filler + b"\r\n", b"A" * (MAX_HEAD + 1), HEAD[:-2] + b"z" * MAX_HEAD):
        with pytest.raises(HttpRefused) as refused:
            find(too_long)
        assert refused.value.status == 431


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", 0),
        (b"EHLO example.com\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1 \r\n", 400),
        (b"GET / http/1.1\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\n", 400),
    ],
)
def test_what_will_never_be_a_request_is_noticed_at_its_first_line(said: bytes, status: int) -> None:
    scanner = HeadScanner()
    for size in range(len(said)):
        assert scanner.find(said[:size]) == 0
    with pytest.raises(HttpRefused) as refused:
        scanner.find(said)
    assert refused.value.status == status
    assert str(refused.value).isprintable()


# -- what is read: nothing that h11 or another parser reads otherwise ------------------------------------------------


class Other(BaseHTTPRequestHandler):
    """Python's own server, which has nothing in common with h11."""

    def __init__(self, head: bytes) -> None:
        self.rfile = io.BytesIO(head)
        self.wfile = io.BytesIO()
        self.raw_requestline = self.rfile.readline(65537)
        self.request_version = self.default_request_version
        self.fine = self.parse_request()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


TOKEN = st.text("abcXYZ-_!#", min_size=1, max_size=8)
CLEAN = st.text("abc :,;=\"'\t\xe9", max_size=12)
VALUE = st.text("abc :,;=\"'\t\x01\x7f\xe9\x0b\x85\r\n", max_size=12)
SEPARATOR = st.sampled_from([": "] * 16 + [":", " : ", ":\t", "\t:", " ", "\r\n :", ":\r\n ", "\r", ":\x00"])
LINE = st.tuples(
    st.one_of(
        TOKEN,
        TOKEN,
        st.sampled_from(
            [
                "Content-Length",
                "Transfer-Encoding",
                "Connection",
                "Host",
                "Proxy-Authorization",
                " X",
                "Upgrade",
            ]
        ),
    ),
    SEPARATOR,
    st.one_of(
        VALUE,
        st.sampled_from(["chunked", "0", "5", "5, 5", "close", "a\r\nb: c", "websocket", "+1", "\uff11"]),
    ),
).map("".join)
END = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"])


@settings(max_examples=400)
@given(
    st.sampled_from(["GET", "POST", "PUT", "CONNECT", "get", "G(T"]),
    st.sampled_from(["http://example.com/", "http://a.b/c?d", "example.com:443", "/", "*", "http://é/"]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.10"]),
    st.lists(st.tuples(LINE, END), max_size=4),
)
@example("POST", "/", "HTTP/1.1", [("Content-Length: 1", "\n"), ("X: y", "\n")])
def test_whatever_is_read_is_read_alike_by_others(
    method: str, target: str, version: str, lines: list[tuple[str, str]]
) -> None:
    text = f"{method} {target} {version}\r\nHost: example.com\r\n"
    head = (text + "".join(line + end for line, end in lines) + "\r\n").encode("utf-8")
    scanner = HeadScanner()
    try:
        size = scanner.find(head)
        if not size:
            return
        connection, got = read_head(head[:size])
    except HttpRefused as refused:
        assert refused.status in (0, 400, 431, 501, 505)
        assert str(refused).isprintable()
        return
    # h11 alone, given all of it at once, sees the same head end at the same byte
    alone = h11.Connection(h11.SERVER)
    alone.receive_data(head)
    assert alone.next_event() == got
    assert alone.trailing_data[0] == head[size:] or b"content-length" in dict(got.headers)
    assert connection.trailing_data[0] == b""
    # and so does a parser that was written by others
    other = Other(head)
    event(f"read by the other: {other.fine}")
    if other.fine:
        assert (other.command, other.path) == (got.method.decode(), got.target.decode())
        theirs = [(name.lower(), value.strip(" \t\r\n")) for name, value in other.headers.items()]
        ours = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in got.headers]
        kept = {"content-length", "transfer-encoding"}  # h11 writes several equal ones once, in small letters
        assert [pair for pair in theirs if pair[0] not in kept] == [
            pair for pair in ours if pair[0] not in kept
        ]
        assert {name for name, _ in theirs} == {name for name, _ in ours}


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    for start in (b"", b"GET http://x/ HTTP/1.1\r\n", b"GET http://x/ HTTP/1.1\r\nHost: x\r\n"):
        whole = start + data + b"\r\n\r\n"
        try:
            size = find(whole)
            if size:
                read_head(whole[:size])
        except HttpRefused as refused:
            assert str(refused).isprintable()


# -- where it goes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host", "port", "authority", "path"),
    [
        ("http://example.com/", "example.com", 80, "example.com", "/"),
        ("HTTP://Example.COM:8080/a?b#".rstrip("#"), "Example.COM", 8080, "Example.COM:8080", "/a?b"),
        ("http://example.com", "example.com", 80, "example.com", "/"),
        ("http://example.com?a=b", "example.com", 80, "example.com", "/?a=b"),
        ("http://example.com:/x", "example.com", 80, "example.com:", "/x"),
        ("http://[::1]/x", "::1", 80, "[::1]", "/x"),
        ("http://[2001:DB8::1]:81/x", "2001:db8::1", 81, "[2001:DB8::1]:81", "/x"),
        ("http://192.0.2.1//x@y", "192.0.2.1", 80, "192.0.2.1", "//x@y"),
        ("http://a/http://b/", "a", 80, "a", "/http://b/"),
    ],
)
def test_targets(target: str, host: str, port: int, authority: str, path: str) -> None:
    got = forward_target(request(target=target))
    assert got == (host, port, authority.encode(), path.encode())


def test_options_of_a_whole_server() -> None:
    assert forward_target(request(method="OPTIONS", target="http://example.com")).path == b"*"
    assert forward_target(request(method="OPTIONS", target="http://example.com/")).path == b"/"


@pytest.mark.parametrize(
    "target",
    [
        "http://",
        "http:///x",
        "http://a@b/",
        "http://a#b/",
        "http://a/#b",
        "https://a/",
        "http:a",
        "a:b",
        "http://a:b:80/",
        "http://::1/",
        "http://[::1/",
        "http://[::1]x/",
        "http://a_%20/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:+80/",
        "http://127.1/",
        "http://0x7f.1/",
        "http://a\\b/",
    ],
)
def test_no_targets(target: str) -> None:
    with pytest.raises((HttpRefused, RequestError)):
        forward_target(request(target=target))


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40))
def test_a_target_is_a_host_that_may_be_asked_for_or_refused(text: str) -> None:
    try:
        got = forward_target(request(target="http://" + text))
    except (HttpRefused, RequestError):
        return
    assert 0 < got.port < 65536
    assert got.path[:1] in (b"/", b"*")
    assert not set("/?#@\\ ") & set(got.host)


# -- what is passed on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["X-A: 1", "x-b: 2"], [b"X-A: 1", b"x-b: 2"]),
        (["Connection: X-A , close", "x-a: 1", "Cookie: c"], [b"Cookie: c"]),
        (["Connection: Host, Content-Length", "Content-Length: 0"], [b"Content-Length: 0"]),
        (["Transfer-Encoding: CHUNKED"], [b"Transfer-Encoding: chunked"]),
        (["TE: trailers, gzip", "Connection: TE"], [b"TE: trailers", b"Connection: TE"]),
        (["Upgrade: websocket"], []),
        (["Upgrade: websocket", "Connection: upgrade"], [b"Upgrade: websocket", b"Connection: Upgrade"]),
        (["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: x"], []),
        (["Upgrade: websocket, H2C", "Connection: Upgrade"], []),
        (["Proxy-Authorization: Basic x", "Authorization: Basic y"], [b"Authorization: Basic y"]),
        (["Via: 1.1 a", "X-Forwarded-For: b"], [b"Via: 1.1 a", b"X-Forwarded-For: b"]),
    ],
)
def test_headers_of_requests(headers: list[str], expected: list[bytes]) -> None:
    got = request(*headers)
    lines = [b"%b: %b" % pair for pair in headers_for_origin(got, forward_target(got))]
    assert lines == [b"Host: example.com", *expected]


def test_headers_of_answers() -> None:
    far = h11.Connection(h11.CLIENT)
    far.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    far.receive_data(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: X-A\r\nX-A: 1\r\n"
        b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
        b"0\r\nContent-Length: 7\r\nX-B: 2\r\nConnection: close\r\n\r\n"
    )
    response, end = far.next_event(), far.next_event()
    assert isinstance(response, h11.Response)
    assert isinstance(end, h11.EndOfMessage)
    assert headers_for_application(response) == [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]
    assert trailers(end) == [(b"X-B", b"2")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Basic YWxpY2U6c2VjcmV0", (b"alice", b"secret")),
        ("basic  YTpiOmM=", (b"a", b"b:c")),
        ("Basic Og==", (b"", b"")),
        ("Basic YQ==", None),
        ("Basic", None),
        ("Basic YTpi YTpi", None),
        ("Basic YT=pi", None),
        ("Bearer YTpi", None),
    ],
)
def test_credentials(value: str, expected: tuple[bytes, bytes] | None) -> None:
    assert basic_credentials(request()) is None
    got = request(f"Proxy-Authorization: {value}")
    if expected is not None:
        assert basic_credentials(got) == expected
        return
    with pytest.raises(HttpRefused) as refused:
        basic_credentials(got)
    assert refused.value.status == 407
