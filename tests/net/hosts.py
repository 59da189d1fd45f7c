"""Hosts and links for tests: over loopback, over a pipe in memory, and links inside links."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from bethrou.errors import BethrouError
from bethrou.net.buffers import Buffers
from bethrou.net.host import Host, HostConfig, HostEvents
from bethrou.net.link import Link
from bethrou.net.negotiation import InboundNegotiation, propose
from bethrou.net.securities import DEFAULT_ORDER, NOISE, make_securities
from bethrou.net.stream import YamuxStream
from bethrou.net.timeouts import TimeoutQueue
from bethrou.net.tls import TlsIdentity
from bethrou.net.upgrade import Upgrader
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey
from bethrou.wire.yamux.window import WindowBudget

KEY = NetworkKey(b"k" * 32)
OTHER_KEY = NetworkKey(b"o" * 32)
ANYWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/0")
PIPE = "/test/pipe/1.0.0"


class Happenings(HostEvents):
    """What a host reports, written down."""

    def __init__(self) -> None:
        self.up: list[Link] = []
        self.down: list[tuple[Link, Exception]] = []
        self.refusals: list[BethrouError] = []
        super().__init__(
            link_up=self.up.append,
            link_down=lambda link, reason: self.down.append((link, reason)),
            refused=lambda remote, reason: self.refusals.append(reason),
        )


class Member(Host):
    """A host that listens on loopback, and gives out the streams that are opened to it as `PIPE`."""

    def __init__(
        self,
        name: str,
        key: NetworkKey = KEY,
        at: Multiaddr = ANYWHERE,
        from_listening_port: bool = False,
        security: tuple[str, ...] = DEFAULT_ORDER,
        tls: TlsIdentity | None = None,
    ) -> None:
        self.happenings = Happenings()
        self.identity = identity(name)
        loop = asyncio.get_running_loop()
        config = HostConfig(
            network_key=key,
            identity=self.identity,
            randbytes=os.urandom,
            time_ns=time.time_ns,
            clock=time.monotonic,
            agent=f"test/{name}",
            events=self.happenings,
            dial_from_listening_port=from_listening_port,
            security=security,
            tls=tls or TlsIdentity(),
        )
        super().__init__(loop, config)
        self.pipes: asyncio.Queue[YamuxStream] = asyncio.Queue()
        self.handle(PIPE, self._take_pipe)
        self.address = self.listen(at)

    @property
    def port(self) -> int:
        assert self.address.tcp_port is not None
        return self.address.tcp_port

    def _take_pipe(self, _link: Link, stream: YamuxStream, surplus: bytes) -> None:
        assert not surplus
        self.pipes.put_nowait(stream)


def identity(name: str) -> Identity:
    """The identity that belongs to a name."""
    return Identity(name.encode().ljust(32, b"."))


def upgrader(name: str, key: NetworkKey = KEY, security: Sequence[str] = (NOISE,)) -> Upgrader:
    """What a peer of that name upgrades with."""
    return Upgrader(key, make_securities(security, identity(name), time.time_ns), os.urandom, time.monotonic)


@asynccontextmanager
async def two_hosts(
    key: NetworkKey = KEY, security: tuple[str, ...] = DEFAULT_ORDER
) -> AsyncIterator[tuple[Member, Member, Link, Link]]:
    """Two hosts and the two ends of the link between them."""
    dialer = Member("dialer", key, security=security)
    listener = Member("listener", key)
    try:
        link = await dialer.dial(listener.peer_id, [listener.address])
        while dialer.peer_id not in listener.links:
            await asyncio.sleep(0)
        yield dialer, listener, link, listener.links[dialer.peer_id][0]
    finally:
        await dialer.close()
        await listener.close()


async def stream_pair(link: Link, listener: Member) -> tuple[YamuxStream, YamuxStream]:
    """A stream of `link` and its other end, at `listener`."""
    negotiation = propose(await link.open_stream(), [PIPE])
    await negotiation.agreed()
    assert not negotiation.reader.detach()
    return negotiation.stream, await listener.pipes.get()


class LinkEnd:
    """A link without a host: `streams` are those that the peer opened, agreed on as `PIPE`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, security: str = NOISE) -> None:
        self.budget = WindowBudget()
        self.buffers = Buffers()
        self.streams: asyncio.Queue[YamuxStream] = asyncio.Queue()
        self.upgrader = upgrader(name, security=[security])
        self.on_stream: Callable[[Link, YamuxStream], None] = self._negotiate
        self._deadlines = TimeoutQueue(loop, 10.0)
        self._loop = loop

    async def start(self, transport: asyncio.Transport, initiator: bool) -> Link:
        upgrade = self.upgrader.dial(transport, None) if initiator else self.upgrader.accept(transport)
        upgraded = await upgrade
        link = Link(
            self._loop,
            transport,
            upgraded,
            buffers=self.buffers,
            budget=self.budget,
            remote=ANYWHERE,
            on_stream=self.on_stream,
            clock=self._loop.time,
        )
        link.start(upgraded)
        return link

    def _negotiate(self, _link: Link, stream: YamuxStream) -> None:
        def accept(_protocol: str, _surplus: bytes) -> None:
            self.streams.put_nowait(stream)

        stream.set_protocol(InboundNegotiation(stream, PIPE.__eq__, accept, self._deadlines))


async def link_over(
    left: asyncio.Transport, right: asyncio.Transport, security: str = NOISE
) -> tuple[Link, Link, LinkEnd, LinkEnd]:
    """Two ends of a link that runs on a pipe whose two ends are given."""
    loop = asyncio.get_running_loop()
    initiator, responder = LinkEnd(loop, "initiator", security), LinkEnd(loop, "responder", security)
    links = await asyncio.gather(initiator.start(left, True), responder.start(right, False))
    return links[0], links[1], initiator, responder


async def open_pipe(link: Link, other: LinkEnd) -> tuple[YamuxStream, YamuxStream]:
    """A stream of a link without hosts, and its other end."""
    negotiation = propose(await link.open_stream(), [PIPE])
    await negotiation.agreed()
    assert not negotiation.reader.detach()
    return negotiation.stream, await other.streams.get()
