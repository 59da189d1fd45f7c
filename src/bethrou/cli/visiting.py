"""A command that visits nodes of a network for a moment: a host, links to nodes, and what they tell."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from bethrou.assembly.link_events import AGENT
from bethrou.cli.process import new_event_loop, prepare_cipher
from bethrou.config import LogFormat, LogLevel
from bethrou.discovery.directory import Directory, Entry
from bethrou.discovery.member_records import MemberRecords
from bethrou.discovery.members_source import MembersSource
from bethrou.errors import BethrouError, DialError
from bethrou.net.host import Host, HostConfig
from bethrou.net.link import Link
from bethrou.ops.logs import make_logger
from bethrou.wire.keys import Identity
from bethrou.wire.members_message import PROTOCOL as MEMBERS
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import RecordCache
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

DIAL_TIMEOUT = 8.0
"""Seconds to reach a node. All are dialled at once."""

T = TypeVar("T")


def run_visit(visit: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `visit` in an event loop of its own; what it returns."""
    prepare_cipher(make_logger(LogLevel.WARN, LogFormat.TEXT))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(visit())


class Visit:
    """Links to nodes of a network, as the member `identity`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, key: NetworkKey, identity: Identity) -> None:
        self.host = Host(
            loop,
            HostConfig(
                key,
                identity,
                os.urandom,
                time.time_ns,
                time.perf_counter,
                AGENT,
                tells_addresses=False,
            ),
        )
        self.links: dict[PeerId, Link] = {}
        """Those that were reached."""
        self.missed: dict[PeerId, str] = {}
        """Those that were not, and why."""
        self._directory = Directory(time.time, lambda peer: None)
        taken = MemberRecords(identity.peer_id, self._directory, RecordCache(), time.time)
        self._records = MembersSource(loop, self.host, taken, random.Random(os.urandom(16)))

    async def reach(self, addresses: Iterable[Multiaddr]) -> None:
        """Have links to the nodes at these addresses, which end in /p2p and a peer ID, as far as that can be."""
        by_peer: dict[PeerId, list[Multiaddr]] = {}
        for address in addresses:
            if address.peer_id is not None and address.peer_id != self.host.peer_id:
                by_peer.setdefault(address.peer_id, []).append(address)
        new = {peer: known for peer, known in by_peer.items() if peer not in self.links}
        await asyncio.gather(*(self._dial(peer, known) for peer, known in new.items()))

    async def learn_nodes(self) -> None:
        """Ask those that were reached for all nodes that they know."""
        await asyncio.gather(*(self._ask(link) for link in list(self.links.values())))

    @property
    def known(self) -> Mapping[PeerId, Entry]:
        """The nodes that members have told of."""
        return self._directory.entries

    def addresses_of(self, peer: PeerId) -> list[Multiaddr]:
        """Where a node is, with /p2p at the end: what it says of itself, else where it was reached."""
        entry = self.known.get(peer)
        if entry is not None and entry.addresses:
            return [address.with_peer(peer) for address in entry.addresses]
        return [self.links[peer].remote.with_peer(peer)] if peer in self.links else []

    async def close(self) -> None:
        """End it."""
        await self.host.close()

    async def _dial(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                self.links[peer] = await self.host.dial(peer, addresses)
            self.missed.pop(peer, None)
        except DialError as error:
            self.missed[peer] = str(error)
        except TimeoutError:
            self.missed[peer] = f"no answer within {DIAL_TIMEOUT:.0f} s"

    async def _ask(self, link: Link) -> None:
        statement = await self.host.statement_of(link)
        if statement is None or MEMBERS not in statement.protocols:
            return
        try:
            await self._records.ask(link)
        except (BethrouError, TimeoutError):
            return  # what is not learned here is learned of another one, or not needed


@asynccontextmanager
async def visiting(key: NetworkKey, identity: Identity) -> AsyncIterator[Visit]:
    """A visit for the length of a block; afterwards nothing of it is left."""
    visit = Visit(asyncio.get_running_loop(), key, identity)
    try:
        yield visit
    finally:
        await visit.close()
