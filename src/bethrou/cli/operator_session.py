"""The operator at work: reaching nodes, taking what they know of members, and telling them a new list."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bethrou.assembly import keyfiles
from bethrou.cli.network_dir import Network
from bethrou.cli.visiting import Visit, visiting
from bethrou.discovery.member_sync import MemberSync
from bethrou.discovery.membership import Membership, book_path
from bethrou.errors import BethrouError, ConfigError
from bethrou.events import Event, InviteUsedTwice, MemberJoined
from bethrou.net.interfaces import local_addresses
from bethrou.printable import printable
from bethrou.wire.member_exchange import Kind
from bethrou.wire.member_list import Member, Removed
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import Reach, by_worth, reach

LEAST_OF_ID = 6
"""Characters at the end of a peer ID that are enough to name it, where only one ends so."""

_ANY = {"0.0.0.0": ("/ip4/0.0.0.0/", "/ip4/127.0.0.1/", 4), "::": ("/ip6/::/", "/ip6/::1/", 6)}
"""Hosts that stand for all addresses: how a multiaddr begins with them, with loopback, and the IP version."""


class OperatorSession:
    """`network` with links to its nodes, as far as they can be reached."""

    def __init__(self, network: Network, visit: Visit) -> None:
        self.network = network
        self.book = network.book
        self.visit = visit
        loop = asyncio.get_running_loop()
        path = book_path(network.directory.operator_key)
        self._membership = Membership(loop, network.book, path, self._note, network.operator.peer_id)
        self._sync = MemberSync(loop, visit.host, self._membership, self._note)
        self.told: set[PeerId] = set()
        """Nodes that have the list that is known here."""

    async def connect(self, more: Sequence[Multiaddr]) -> None:
        """Reach what nodes can be reached, and be at one with them. `more`: addresses beside those that are known."""
        directory = self.network.directory
        await self.visit.reach([*more, *directory.remembered(), *local_addresses_of(self.network)])
        await self._exchange()
        await self.visit.learn_nodes()
        others = [
            address
            for peer in self.visit.known
            if self.book.is_node(peer)
            for address in self.visit.addresses_of(peer)
        ]
        await self.visit.reach(others)
        await self._exchange()
        await self._store()
        if self.visit.links:
            reached = [address for peer in self.visit.links for address in self._worth(peer)]
            directory.remember(reached)

    def places(self, limit: int) -> list[Multiaddr]:
        """Where nodes that were reached can be found by others: two addresses of each, `limit` in all."""
        found = [
            address for peer in self.visit.links if self.book.is_node(peer) for address in self._worth(peer)
        ]
        return found[:limit]

    def _worth(self, peer: PeerId) -> list[Multiaddr]:
        return best_addresses(self.visit.addresses_of(peer))

    async def publish(self, members: Sequence[Member], removed: Sequence[Removed]) -> None:
        """Sign a list of these, keep it, and tell it to the nodes that were reached. Raises UserErrors.

        An invite that was used, but by which no member is listed, is withdrawn by it: its admission may be forgotten
        from then on, and it would be good again (who came by two invites has one of them in the list).
        """
        before = self.book.list
        assert before is not None
        named = {each.grant for each in members} | {each.grant for each in removed}
        named |= {each.peer for each in removed}
        spent = [Removed(grant) for grant in self.book.admissions if grant not in named]
        new = dataclasses.replace(
            before,
            serial=self.book.serial + 1,
            issued=int(time.time()),
            members=tuple(members),
            removed=(*removed, *spent),
        )
        try:
            envelope = new.seal(self.network.operator)
        except ValueError as error:
            raise ConfigError(f"{error}; make a new network with `bethrou init`") from None
        self.told.clear()
        await self._membership.take([(Kind.LIST, envelope)])
        await self._store()
        await self._exchange()

    async def close(self) -> None:
        """End it."""
        await self._sync.close()
        await self._membership.close()

    async def _exchange(self) -> None:
        links = [link for peer, link in self.visit.links.items() if peer not in self.told]
        results = await asyncio.gather(*(self._sync.exchange(link) for link in links), return_exceptions=True)
        for link, result in zip(links, results, strict=True):
            if isinstance(result, BethrouError | TimeoutError):
                self.visit.missed[link.peer_id] = str(result) or "no answer in time"
            elif isinstance(result, BaseException):
                raise result
            elif result.serial >= self.book.serial:
                self.told.add(link.peer_id)

    async def _store(self) -> None:
        try:
            await self._membership.store()
        except OSError as error:
            path = printable(str(book_path(self.network.directory.operator_key)))
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None

    def _note(self, event: Event) -> None:
        if isinstance(event, MemberJoined | InviteUsedTwice):
            self.network.directory.audit.note(event)


@asynccontextmanager
async def operating(network: Network, more: Sequence[Multiaddr]) -> AsyncIterator[OperatorSession]:
    """A session for the length of a block, connected."""
    async with visiting(network.key, network.operator) as visit:
        session = OperatorSession(network, visit)
        try:
            await session.connect(more)
            yield session
        finally:
            await session.close()


def local_addresses_of(network: Network, *, near: bool = True) -> list[Multiaddr]:
    """Where the node of this directory listens, by its node.yaml; `near`: for this machine, not for others.

    Empty where the directory has no node. Raises UserErrors.
    """
    config = network.directory.node_config()
    if config is None or not network.directory.node_key.exists():
        return []
    peer = keyfiles.read_identity(network.directory.node_key).peer_id
    found = [] if near else [address.without_peer() for address in config.announce]
    for address in config.listen:
        everywhere = _ANY.get(address.host or "")
        if everywhere is None:
            found.append(address)
            continue
        beginning, loopback, version = everywhere
        rest = str(address).removeprefix(beginning)
        if near:
            found.append(Multiaddr.parse(loopback + rest))
        else:
            own = sorted(
                str(ip) for ip in local_addresses() if ip.version == version and not ip.is_link_local
            )
            found += [Multiaddr.parse(f"/ip{version}/{ip}/{rest}") for ip in own]
    return [address.with_peer(peer) for address in found if address.tcp_port]


def best_addresses(addresses: Sequence[Multiaddr], count: int = 2) -> list[Multiaddr]:
    """The `count` addresses of a node that others can use best; its own machine's only if there are no others."""
    worth = by_worth(addresses)
    far = [address for address in worth if reach(address) < Reach.LINK_LOCAL]
    return (far or list(worth))[:count]


def next_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, with a number behind it where another member has that name."""
    if not wanted or wanted not in taken:
        return wanted
    number = next(number for number in range(2, len(taken) + 3) if f"{wanted}-{number}" not in taken)
    return f"{wanted}-{number}"


def find_member(session: OperatorSession, who: str) -> Member:
    """The member of that name, peer ID or end of a peer ID. Raises ConfigError."""
    members = list(session.book.members.values())
    fitting = [member for member in members if who and who in (str(member.peer), member.name)]
    if not fitting and len(who) >= LEAST_OF_ID:
        fitting = [member for member in members if str(member.peer).endswith(who)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{printable(who, 60)}: {len(fitting)} members are called so; say the peer ID")
    raise ConfigError(f"{printable(who, 60)}: no member has this name or peer ID; see `bethrou members list`")


def folded(session: OperatorSession) -> dict[PeerId, Member]:
    """All members, those that have joined since the last list included, each with a name of its own."""
    found: dict[PeerId, Member] = {}
    names: set[str] = set()
    listed = {member.peer for member in session.book.list.members} if session.book.list else set()
    for member in sorted(session.book.members.values(), key=lambda member: member.peer not in listed):
        name = next_name(member.name, names)
        names.add(name)
        found[member.peer] = dataclasses.replace(member, name=name)
    return found
