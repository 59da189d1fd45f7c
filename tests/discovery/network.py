"""Nodes and clients that tell each other of nodes, over links on loopback, with a calendar that tests move."""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bethrou.discovery.member_records import MemberRecords
from bethrou.discovery.members_service import MembersService
from bethrou.discovery.members_source import MembersSource
from bethrou.discovery.own_record import OwnRecord
from bethrou.discovery.source import Sighting
from bethrou.net.link import Link
from bethrou.wire.members_message import PROTOCOL
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord, RecordCache
from bethrou.wire.peer_id import PeerId
from live.waiting import until
from net.hosts import Member, identity
from net.leftovers import nothing_left

NOW = 1_800_000_000
"""The Unix time at which every calendar begins."""

PUBLIC = Multiaddr.parse("/ip4/5.5.5.5/tcp/4000")
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/4000")


class Calendar:
    """Unix time, which passes only when a test says so."""

    def __init__(self) -> None:
        self.seconds = float(NOW)

    def time(self) -> float:
        return self.seconds

    def time_ns(self) -> int:
        return round(self.seconds * 1e9)


class Notebook:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.all: list[Sighting] = []
        self.latest: dict[PeerId, Sighting] = {}

    def seen(self, sighting: Sighting) -> None:
        self.all.append(sighting)
        self.latest[sighting.peer] = sighting

    def gone(self, source: str, peer: PeerId) -> None:
        raise AssertionError(f"{source} says that {peer} is gone; members never do")


class Client(Member):
    """A member that asks, and has nothing to tell."""

    def __init__(self, name: str, calendar: Calendar) -> None:
        super().__init__(name)
        self.calendar = calendar
        self.notebook = Notebook()
        self.cache = RecordCache()
        self.taken = MemberRecords(self.peer_id, self.notebook, self.cache, calendar.time)
        self.own = self._own_record()
        self.source = MembersSource(self.loop, self, self.taken, random.Random(1), self.own)
        self.source.start()

    def _own_record(self) -> OwnRecord | None:
        return None

    async def join(self, *others: Member) -> None:
        """Dial others."""
        for other in others:
            await self.dial(other.peer_id, [other.address])

    async def knows(self, *members: Member) -> None:
        """Wait until it knows of these, and of no others."""
        wanted = {member.peer_id for member in members}
        await until(lambda: set(self.notebook.latest) == wanted, what=lambda: self.notebook.latest)

    async def asks(self, count: int) -> None:
        """Wait until so many members have been asked, and have answered."""
        detail = f"asks {count} member{'' if count == 1 else 's'}"
        await until(lambda: self.source.snapshot().detail == detail, what=self.source.snapshot)

    async def close(self) -> None:
        await self.source.close()
        await super().close()


class Node(Client):
    """A member that answers, too."""

    def __init__(self, name: str, calendar: Calendar) -> None:
        super().__init__(name, calendar)
        assert self.own is not None
        self.more: list[bytes] = []
        """Records that it has from elsewhere."""
        self.service = MembersService(
            self.loop, self.taken, self._records, self.own, self.cache, calendar.time
        )
        self.handle(PROTOCOL, self.service.serve)

    def _own_record(self) -> OwnRecord:
        return OwnRecord(self, self.identity, self.calendar.time_ns, name="a-node", agent="test")

    def _records(self) -> list[bytes]:
        heard = [sighting.record for sighting in self.notebook.latest.values() if sighting.record is not None]
        return [*heard, *self.more]

    async def close(self) -> None:
        await self.service.close()
        await super().close()


@asynccontextmanager
async def network(
    nodes: Sequence[str] = (), clients: Sequence[str] = ()
) -> AsyncIterator[tuple[Calendar, list[Node], list[Client]]]:
    """Nodes and clients without links for the length of a block; afterwards nothing of them is left."""
    async with nothing_left():
        calendar = Calendar()
        running_nodes = [Node(name, calendar) for name in nodes]
        running_clients = [Client(name, calendar) for name in clients]
        try:
            yield calendar, running_nodes, running_clients
        finally:
            for member in (*running_clients, *running_nodes):
                await member.close()


def record(
    name: str,
    *,
    seq: int = 1,
    expires: int = NOW + 3600,
    addrs: Sequence[Multiaddr] = (PUBLIC,),
    tags: tuple[str, ...] = (),
) -> NodeRecord:
    """What the member of that name could say of itself."""
    return NodeRecord(identity(name).peer_id, seq, expires, tuple(addrs), tags=tags)


@functools.cache
def sealed(name: str, **fields: object) -> bytes:
    """The same, signed."""
    return record(name, **fields).seal(identity(name))  # type: ignore[arg-type]


def link_between(one: Member, other: Member) -> Link:
    """The first link of `one` to `other`."""
    return one.links[other.peer_id][0]
