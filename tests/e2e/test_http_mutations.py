"""Messages that were damaged at random, in both directions: nothing is left over, and nothing fails in silence."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from bethrou.wire.psk import NetworkKey
from e2e.http_talk import World, get, talk
from live.http_origin import ok
from live.members import running_client, running_node
from live.targets import Visit, target

ANSWERS = [
    ok(b"hi", b"Connection: keep-alive, X-A", b"X-A: 1"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nhi\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbytes",
]
REQUESTS = [
    ("", "GET", b""),
    ("Content-Length: 5", "POST", b"hello"),
    ("Transfer-Encoding: chunked\r\nTE: trailers", "PUT", b"2\r\nhi\r\n0\r\nX: y\r\n\r\n"),
    ("Connection: Upgrade\r\nUpgrade: websocket", "GET", b"ahead"),
    ("Expect: 100-continue\r\nContent-Length: 2", "POST", b"ab"),
    ("", "HEAD", b""),
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"0",
    b"\0",
    b": ",
    b"chunked",
    b"\xff",
    b"Content-Length: 3\r\n",
    b" ",
    b"HTTP/1.1 ",
    b"",
]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with a few places changed, or cut off; sometimes as it is."""
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        start = rng.randrange(len(data) + 1)
        data = data[:start] + rng.choice(PIECES) + data[start + rng.choice((0, 1, 1, 3)) :]
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data


@pytest.mark.parametrize("seed", range(8))
async def test_damaged_messages(key: NetworkKey, seed: int) -> None:
    rng = random.Random(seed)
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(damaged(rng.choice(ANSWERS), rng))
        if rng.random() < 0.5:
            writer.write(damaged(rng.choice(ANSWERS), rng))
        await writer.drain()
        visit.end = "eof"

    async with running_node(key) as node, running_client(key, [node.address]) as client, target(serve) as far:
        for _ in range(60):
            async with talk(client) as app:
                header, method, body = rng.choice(REQUESTS)
                request = get(far, "/", *([header] if header else []), method=method) + body
                first_line, newline, rest = request.partition(b"\r\n")
                app.send(first_line + newline + damaged(rest + get(far), rng))
                app.writer.write_eof()
                with contextlib.suppress(ConnectionResetError):
                    await app.rest()
        await World(client, node).quiet()
    assert not failures
