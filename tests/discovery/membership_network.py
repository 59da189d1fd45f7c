"""Nodes and devices of a network with an operator, as hosts on loopback in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bethrou.discovery.join_service import JoinService, redeem
from bethrou.discovery.member_book import MemberBook
from bethrou.discovery.member_gate import MemberGate
from bethrou.discovery.member_sync import MemberSync
from bethrou.discovery.membership import Membership
from bethrou.net.link import Link
from bethrou.wire.grant import NODE, Grant, seal_redemption
from bethrou.wire.join_message import JoinRequest, Refusal
from bethrou.wire.keys import Identity
from bethrou.wire.member_exchange import Kind
from bethrou.wire.member_list import Member as Entry
from bethrou.wire.member_list import MemberList, Removed
from live.members import Events
from live.operator import KEY, NOW, OPERATOR, SECRET, grant
from live.waiting import until
from net.hosts import PIPE, Member
from net.leftovers import nothing_left

EXIT = "/test/exit/1.0.0"


class Calendar:
    """Unix time, which passes only when a test says so."""

    def __init__(self) -> None:
        self.now = float(NOW + 60)

    def time(self) -> float:
        return self.now


class Device(Member):
    """A member that keeps and enforces the list."""

    def __init__(
        self,
        name: str,
        calendar: Calendar,
        folder: Path,
        *,
        required: bool = True,
        tags: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, KEY)
        self.name = name
        self.heard = Events()
        self.book = MemberBook(OPERATOR.peer_id, KEY.fingerprint, calendar.time)
        self.file = folder / f"{name}.members"
        self.membership = Membership(self.loop, self.book, self.file, self.heard, self.peer_id)
        self.sync = MemberSync(self.loop, self, self.membership, self.heard)
        self.handle(EXIT, self._take_pipe)
        self.gate = MemberGate(
            self.loop,
            self,
            self.membership,
            self.sync,
            self.heard,
            required=required,
            exits=frozenset({EXIT}),
            tags=tags,
        )

    async def learns(self, envelope: bytes) -> None:
        """It has this list, from wherever."""
        await self.membership.take([(Kind.LIST, envelope)])

    async def meets(self, other: Member) -> Link:
        """A link to `other`."""
        return await self.dial(other.peer_id, [other.address])

    async def redeems(
        self,
        other: Member,
        granted: Grant | None = None,
        *,
        secret: Identity = SECRET,
        by: Identity = OPERATOR,
    ) -> bytes | tuple[Refusal, str]:
        """What a node says to an invite."""
        return await self.presents(
            other, (granted or grant(secret)).seal(by), seal_redemption(secret, self.peer_id)
        )

    async def presents(self, other: Member, granted: bytes, redemption: bytes) -> bytes | tuple[Refusal, str]:
        """What a node says to these envelopes, brought by a host without a list, as `bethrou join` is one."""
        visitor = Member(self.name, KEY)
        try:
            link = await visitor.dial(other.peer_id, [other.address])
            return await redeem(visitor, link, JoinRequest(granted, redemption))
        finally:
            await visitor.close()

    async def close(self) -> None:
        self.gate.close()
        await self.sync.close()
        await self.membership.close()
        await super().close()


class Node(Device):
    """A node, at which devices join."""

    def __init__(
        self,
        name: str,
        calendar: Calendar,
        folder: Path,
        *,
        required: bool = True,
        tags: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, calendar, folder, required=required, tags=tags)
        self.joins = JoinService(self.loop, self, self.identity, self.membership, self.heard, calendar.time)

    async def close(self) -> None:
        await self.joins.close()
        await super().close()


class Network:
    """Nodes that are in the list from the beginning, and devices that are in none."""

    def __init__(self, folder: Path) -> None:
        self.calendar = Calendar()
        self.folder = folder
        self.members: list[Device] = []
        self.serial = 0

    def node(self, name: str, **options: object) -> Node:
        return self._kept(Node(name, self.calendar, self.folder, **options))  # type: ignore[arg-type]

    def device(self, name: str, **options: object) -> Device:
        return self._kept(Device(name, self.calendar, self.folder, **options))  # type: ignore[arg-type,return-value]

    def list(self, *entries: Entry, removed: tuple[Removed, ...] = ()) -> bytes:
        """The operator's next list: the nodes, and `entries`."""
        self.serial += 1
        nodes = [Entry(each.peer_id, "", NODE) for each in self.members if isinstance(each, Node)]
        named = {entry.peer for entry in (*entries, *removed)}
        members = [node for node in nodes if node.peer not in named]
        return MemberList(KEY.fingerprint, self.serial, NOW, (*members, *entries), removed).seal(OPERATOR)

    async def know(self, envelope: bytes, *members: Device) -> None:
        """All (or `members`) have this list."""
        for member in members or self.members:
            await member.learns(envelope)

    def _kept(self, member: Node) -> Node:
        self.members.append(member)
        return member


@asynccontextmanager
async def operated_network(folder: Path) -> AsyncIterator[Network]:
    """A network for the length of a block; afterwards nothing of it is left."""
    async with nothing_left():
        made = Network(folder)
        try:
            yield made
        finally:
            for member in made.members:
                await member.close()


async def can_open(link: Link, protocol: str = PIPE) -> bool:
    """Whether the peer answers a protocol."""
    from bethrou.errors import BethrouError
    from bethrou.net.negotiation import propose

    try:
        stream = propose(await link.open_stream(), [protocol])
        async with asyncio.timeout(10):
            await stream.agreed()
    except BethrouError:
        return False
    stream.stream.abort()
    return True


async def closed(link: Link) -> str:
    """Why a link has ended; waits until it has."""
    await until(lambda: not link.alive)
    return str(link.closed.result())
