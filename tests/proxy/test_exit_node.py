"""An exit and requests that do not end as they should."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address

import pytest

from bethrou.events import Event, RequestEnded
from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.net.reader import ByteReader
from bethrou.net.splice import Splice
from bethrou.proxy import exit_node
from bethrou.proxy.destination import Address
from bethrou.proxy.exit_node import ExitNode
from bethrou.proxy.exit_state import StateService
from bethrou.wire.proxy_request import PROTOCOL_V1_1, ProxyRequest, encode_request_v1_1
from live.waiting import until
from net.hosts import Member, two_hosts

KIB = 1024


class SlowNames:
    """A resolver that knows where every name leads, once it is told to say so."""

    def __init__(self) -> None:
        self.known = asyncio.Event()

    async def resolve(self, host: str) -> list[Address]:
        await self.known.wait()
        return [IPv4Address("127.0.0.1")]


class Exit:
    def __init__(self, host: Member) -> None:
        loop = asyncio.get_running_loop()
        self.names = SlowNames()
        self.events: list[Event] = []
        state = StateService(loop, 30.0, "", (), lambda: 0.0)
        self.node = ExitNode(loop, host, self.names, lambda address, port: None, self.events.append, state)
        self.waiting = host.buffers.waiting

    @property
    def splice(self) -> Splice | None:
        return next((request.splice for request in self.node._requests), None)

    @property
    def ended(self) -> list[str]:
        return [event.result for event in self.events if isinstance(event, RequestEnded)]


async def test_what_comes_while_the_exit_dials_is_bounded_with_all_else_that_waits() -> None:
    async with two_hosts() as (_, host, link, _other):
        exit_ = Exit(host)
        before = exit_.waiting._left
        payload = bytes(range(256)) * 4 * 60
        received = bytearray()
        done = asyncio.Event()

        async def destination(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(KIB * KIB):
                received.extend(data)
            done.set()
            writer.close()

        server = await asyncio.start_server(destination, "127.0.0.1", 0)
        async with server:
            request = encode_request_v1_1(ProxyRequest("name.example", server.sockets[0].getsockname()[1]))
            early = propose(await link.open_stream(), [PROTOCOL_V1_1], request + payload)
            late = propose(await link.open_stream(), [PROTOCOL_V1_1], request)
            await until(lambda: exit_.node.active == 2)
            late.stream.write(payload)
            early.stream.write(payload)
            early.stream.write_eof()
            await until(lambda: before - exit_.waiting._left == 3 * len(payload))
            late.stream.abort()
            await until(lambda: exit_.node.active == 1)
            exit_.names.known.set()
            await done.wait()
            early.stream.close()
        assert bytes(received) == 2 * payload
        await until(lambda: exit_.node.active == 0)
        assert exit_.waiting._left == before
        assert exit_.ended == ["aborted", "ok"]
        await exit_.node.close()


async def test_more_than_may_wait_is_refused() -> None:
    async with two_hosts() as (_, host, link, _other):
        exit_ = Exit(host)
        exit_.waiting._left = 2 * KIB
        request = encode_request_v1_1(ProxyRequest("name.example", 80))
        negotiation = propose(await link.open_stream(), [PROTOCOL_V1_1], request + bytes(60 * KIB))
        assert b"overloaded" in await answer(negotiation)
        await until(lambda: exit_.node.active == 0)
        assert exit_.waiting._left == 2 * KIB
        await exit_.node.close()


async def test_a_connection_that_lasts_finds_out_whether_its_destination_is_still_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_hosts() as (_, host, link, _other):
        exit_ = Exit(host)
        exit_.names.known.set()
        monkeypatch.setattr(exit_node, "KEEP_ALIVE_AFTER", 0.05)
        accepted: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
        async with server:
            request = encode_request_v1_1(ProxyRequest("name.example", server.sockets[0].getsockname()[1]))
            negotiation = propose(await link.open_stream(), [PROTOCOL_V1_1], request)
            await negotiation.agreed()
            await until(lambda: exit_.node.active == 1 and exit_.splice is not None)
            assert exit_.splice is not None
            sock = exit_.splice._right.transport.get_extra_info("socket")
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            await until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            negotiation.stream.abort()
            await until(lambda: exit_.node.active == 0)
            accepted[0].close()
        await exit_.node.close()


async def answer(negotiation: OutboundNegotiation) -> bytes:
    await negotiation.agreed()
    reader: ByteReader = negotiation.reader
    return await reader.read_prefixed(4096)
