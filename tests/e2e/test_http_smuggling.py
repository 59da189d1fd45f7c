"""HTTP that two programs might read in two ways, and pages that try to use the proxy: nothing gets through."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bethrou.events import RequestEnded, StrangerRefused
from bethrou.wire.psk import NetworkKey
from e2e.http_talk import World, get, shape, talk
from live.http_origin import ok, repeats, says
from live.members import running_client, running_node
from live.targets import target
from live.waiting import until


@pytest.fixture
async def world(key: NetworkKey) -> AsyncIterator[World]:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        yield World(client, node)


@pytest.mark.parametrize(
    "start",
    [
        "POST / HTTP/1.1",
        "POST /proxy.pac HTTP/1.1",
        "GET / HTTP/1.1",
        "GET /proxy.pac HTTP/1.1",
        "OPTIONS / HTTP/1.1",
        "GET /http://127.0.0.1/ HTTP/1.1",
    ],
)
async def test_a_page_in_a_browser_cannot_use_the_proxy(world: World, start: str) -> None:
    """Whatever name it has for this port (DNS rebinding), and whatever it puts in a body."""
    async with target(repeats(ok(b"hi"))) as far, talk(world.client) as app:
        body = get(far)
        port = world.client.proxy[1]
        head = f"{start}\r\nHost: rebound.test:{port}\r\nOrigin: http://rebound.test:{port}\r\n"
        app.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body + get(far))
        answer = await app.rest()
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"access-control" not in answer.lower()
        assert b"\r\nConnection: close\r\n" in answer
        assert not far.visits
        for secret in (str(world.node.address), "12D3KooW", far.address):
            assert secret.encode() not in answer


# -- two readings of one message -------------------------------------------------------------------------------------

SMUGGLED = [
    (400, "Content-Length: 4\r\nTransfer-Encoding: chunked", "both Content-Length"),
    (400, "Transfer-Encoding: chunked\r\nContent-Length: 4", "both Content-Length"),
    (501, "Transfer-Encoding: chunked, identity", "Transfer-Encoding"),
    (501, "Transfer-Encoding: xchunked", "Transfer-Encoding"),
    (501, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding"),
    (400, "Transfer-Encoding : chunked", "header"),
    (400, "Transfer-Encoding\t: chunked", "header"),
    (400, " Transfer-Encoding: chunked", "second line"),
    (400, "X: y\r\n Transfer-Encoding: chunked", "second line"),
    (400, "X: y\r\n\tz", "second line"),
    (400, "X: y\rTransfer-Encoding: chunked", "control"),
    (400, "X: a\x00b", "control"),
    (400, "X: a\x0bb", "control"),
    (400, "Content-Length: 4\r\nContent-Length: 5", "Content-Length"),
    (400, "Content-Length: 4, 5", "Content-Length"),
    (400, "Content-Length: +4", "Content-Length"),
    (400, "Content-Length: 0x4", "Content-Length"),
    (400, "Content-Length: -1", "Content-Length"),
    (400, "Content-Length: ", "Content-Length"),
    (400, "Host: other.test", "Host"),
    (400, "Proxy-Authorization: Basic eDp5\r\nProxy-Authorization: Basic eDp6", "twice"),
    (400, "no colon", "header"),
    (400, ": empty", "header"),
    (431, "X: " + "y" * 40_000, "longer"),
]


@pytest.mark.parametrize(("status", "header", "words"), SMUGGLED)
async def test_a_head_that_can_be_read_in_two_ways(
    world: World, status: int, header: str, words: str
) -> None:
    async with target(repeats(ok(b"hi"))) as far, talk(world.client) as app:
        app.send(get(far, "/", header, method="POST") + b"0\r\n\r\n" + get(far, "/smuggled"))
        got, body = shape(await app.rest())
        assert got == status
        assert words.lower() in body.decode().lower()
        assert not far.visits
    assert len(world.client.events.of(StrangerRefused)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"5\r\nabc\r\n0\r\n\r\n",
        b"2\r\nabX\r\n0\r\n\r\n",
        b"-2\r\nab",
        b"2\nab\n0\n\n",
        b"2;\nX\r\nab\r\n",
        b"0x2\r\nab\r\n",
        b" 2\r\nab\r\n0\r\n\r\n",
        b"2\r\nab0\r\n\r\n",
        b"ffffffffffffffffffffff\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
    ],
)
async def test_chunks_that_can_be_read_in_two_ways(world: World, body: bytes) -> None:
    async with target(says(ok(b"hi"))) as far, talk(world.client) as app:
        app.send(get(far, "/", "Transfer-Encoding: chunked", method="POST") + body + get(far, "/smuggled"))
        got, _ = shape(await app.rest())
        assert got == 400
        await until(lambda: not far.open_visits)
        assert all(b"smuggled" not in visit.head for visit in far.visits)
    await world.quiet()
    assert {event.result for event in world.client.events.of(RequestEnded)} == {"aborted"}


@pytest.mark.parametrize(
    ("target_", "words"),
    [
        ("https://example.com/", "CONNECT"),
        ("ftp://example.com/", "ftp://"),
        ("http://user:secret@example.com/", "user name"),
        ("http:///path", "host"),
        ("http://example.com:99999/", "port"),
        ("http://exa%6dple.com/", "characters"),
        ("example.com", "no URL"),
        ("http://[::1/", ""),
    ],
)
async def test_urls_that_are_not_forwarded(world: World, target_: str, words: str) -> None:
    async with talk(world.client) as app:
        status, body = shape(await app.ask(f"GET {target_} HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
        assert status == 400
        assert words in body.decode()
