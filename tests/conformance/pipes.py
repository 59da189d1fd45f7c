"""The pipes that the suite runs over: two ends each, whoever made them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from bethrou.net.securities import NOISE, TLS
from net.collector import Collector, End
from net.hosts import link_over, open_pipe, stream_pair, two_hosts
from net.memory import memory_pipe
from net.relays import relayed
from net.websockets import test_certificate, websocket_pair

Pipe = tuple[End, End]


@asynccontextmanager
async def tcp() -> AsyncIterator[Pipe]:
    """A TCP connection over loopback, with the loop's own transports and little room in the kernel.

    Two parts of the contract it does not keep, and is not asked for: uvloop (and asyncio from 3.12 on) holds on to the
    buffer given to write(), and raises RuntimeError when written to behind connection_lost.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    near.setblocking(False)
    far.setblocking(False)
    left, near_protocol = await loop.create_connection(Collector, sock=near)
    right, far_protocol = await loop.connect_accepted_socket(Collector, far)
    async with _closing(End(left, near_protocol), End(right, far_protocol)) as pipe:
        yield pipe


@asynccontextmanager
async def websocket() -> AsyncIterator[Pipe]:
    """A WebSocket over loopback."""
    async with websocket_pair() as (left, right), _closing(_new_end(left), _new_end(right)) as pipe:
        yield pipe


@asynccontextmanager
async def secure_websocket() -> AsyncIterator[Pipe]:
    """A WebSocket in TLS.

    One part of the contract the TLS transports of asyncio and uvloop do not keep: they look at their limits only when
    they are written to, and do not count what they have given to the socket.
    """
    async with (
        websocket_pair(test_certificate()) as (left, right),
        _closing(_new_end(left), _new_end(right)) as pipe,
    ):
        yield pipe


@asynccontextmanager
async def yamux(security: str = NOISE) -> AsyncIterator[Pipe]:
    """A stream of a link between two hosts."""
    async with two_hosts(security=(security,)) as (_, listener, link, _other):
        left, right = await stream_pair(link, listener)
        async with _closing(_new_end(left), _new_end(right)) as pipe:
            yield pipe


@asynccontextmanager
async def circuit(security: str = NOISE) -> AsyncIterator[Pipe]:
    """A stream of a link that runs on a stream of a link, as a relayed one does."""
    async with two_hosts(security=(security,)) as (_, listener, link, _other):
        near, far = await stream_pair(link, listener)
        near_link, far_link, _, responder = await link_over(near, far, security)
        assert {link.security, near_link.security, far_link.security} == {security}
        left, right = await open_pipe(near_link, responder)
        async with _closing(_new_end(left), _new_end(right)) as pipe:
            yield pipe
        near_link.close()
        await far_link.closed


@asynccontextmanager
async def relayed_circuit() -> AsyncIterator[Pipe]:
    """A stream of a link that a relay carries from one host to another."""
    async with relayed() as (_dialer, _relay, hidden, link):
        left, right = await stream_pair(link, hidden)
        async with _closing(_new_end(left), _new_end(right)) as pipe:
            yield pipe


@asynccontextmanager
async def memory() -> AsyncIterator[Pipe]:
    """The pipe in memory that other tests use: it must be no better than the real ones."""
    left, right = memory_pipe(asyncio.get_running_loop())
    async with _closing(_new_end(left), _new_end(right)) as pipe:
        yield pipe


KINDS: dict[str, Callable[[], AbstractAsyncContextManager[Pipe]]] = {
    "tcp": tcp,
    "ws": websocket,
    "wss": secure_websocket,
    "yamux": yamux,
    "circuit": circuit,
    "relayed": relayed_circuit,
    "memory": memory,
    "tls": partial(yamux, TLS),
    "tls-circuit": partial(circuit, TLS),
}


def _new_end(transport: asyncio.Transport) -> End:
    end = End(transport)
    end.switch(end.protocol)
    return end


@asynccontextmanager
async def _closing(left: End, right: End) -> AsyncIterator[Pipe]:
    """Afterwards both ends are gone, and each protocol was told so once."""
    yield left, right
    ends = [end for end in (left, right) if not end.protocol.lost.done()]
    for end in ends:
        end.abort()
    for end in ends:
        async with asyncio.timeout(10):
            await end.protocol.lost
