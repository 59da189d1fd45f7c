"""A relay, somebody behind it and somebody who wants to get there: hosts over loopback."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bethrou.events import CircuitEnded, Event, RelayLost, RelayReserved
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.negotiation import propose
from bethrou.net.relay_keeper import RelayKeeper
from bethrou.net.relay_limits import RelayLimits
from bethrou.net.relay_service import RelayService
from bethrou.net.stream import YamuxStream
from bethrou.wire.multiaddr import Multiaddr
from live.waiting import until
from net.collector import Collector, End
from net.hosts import PIPE, Member


class Relay(Member):
    """A host that relays."""

    def __init__(self, name: str = "relay", limits: RelayLimits | None = None) -> None:
        super().__init__(name)
        self.events: list[Event] = []
        self.service = RelayService(
            self.loop, self, self.identity, self.events.append, limits or RelayLimits(), time.time
        )

    @property
    def full_address(self) -> Multiaddr:
        return self.address.with_peer(self.peer_id)

    @property
    def ended(self) -> list[CircuitEnded]:
        """Circuits that are over."""
        return [event for event in self.events if isinstance(event, CircuitEnded)]

    async def close(self) -> None:
        await self.service.close()
        await super().close()


class Hidden(Member):
    """A host that is reached through relays."""

    def __init__(self, *relays: Multiaddr, name: str = "hidden") -> None:
        super().__init__(name)
        self.events: list[Event] = []
        self.keeper = RelayKeeper(self.loop, self, relays, self.events.append, random.Random(name), time.time)
        self.keeper.start()

    def count(self, kind: type[RelayReserved] | type[RelayLost]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    @property
    def circuit_addresses(self) -> list[Multiaddr]:
        return [address for address in self.listen_addresses if address.is_circuit]

    async def reserved(self, times: int = 1) -> None:
        """Wait until it has told of so many new reservations."""
        await until(lambda: self.count(RelayReserved) >= times, what=lambda: self.events)

    async def close(self) -> None:
        await self.keeper.close()
        await super().close()


@asynccontextmanager
async def relayed(limits: RelayLimits | None = None) -> AsyncIterator[tuple[Member, Relay, Hidden, Link]]:
    """Dialer, relay, hidden host, and the dialer's circuit link to it."""
    relay = Relay(limits=limits)
    hidden = Hidden(relay.full_address)
    dialer = Member("dialer")
    try:
        await hidden.reserved()
        link = await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        assert link.path == CIRCUIT
        yield dialer, relay, hidden, link
    finally:
        for host in (dialer, hidden, relay):
            await host.close()


async def open_ends(link: Link, other: Member) -> tuple[End, End]:
    """A stream of `link` and its other end at `other`, each with a collector."""
    negotiation = propose(await link.open_stream(), [PIPE])
    await negotiation.agreed()
    assert not negotiation.reader.detach()
    streams: list[YamuxStream] = [negotiation.stream, await other.pipes.get()]
    ends = [End(stream) for stream in streams]
    for end in ends:
        end.switch(Collector(keep=False))
    return ends[0], ends[1]


async def arrives(end: End, size: int, timeout: float = 30.0) -> str:
    """Wait until so many bytes have come; their hash."""
    async with asyncio.timeout(timeout):
        await end.protocol.have(size)
    assert end.protocol.size == size
    return end.protocol.hash
