"""Links of a node to the nodes that it was told of (`--peer`): one to each is kept, a lost one is dialled for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from bethrou.errors import DialError
from bethrou.events import DialFailed, Emit
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.tasks import Tasks
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

FIRST_REDIAL = 0.5
"""Seconds before the first redial; doubled up to `RAREST_REDIAL`, with +-20 % of chance."""

RAREST_REDIAL = 60.0
"""No request waits for these links, and a node that comes back dials by itself those that it was told of."""

SETTLED = 5.0
"""Seconds that a link has to last: a node whose links end sooner is redialled ever more slowly, as if away."""


class Peers:
    """Keeps links to the nodes at `addresses`, each of which ends in /p2p and a peer ID; our own ID is passed over.

    Every node of a network can so be given the same list. A link that the other side has dialled counts. Two nodes
    that dial each other at once have two links for a while; both work, and what asks a member uses one of them.
    `rng` spreads redials in time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        addresses: Sequence[Multiaddr],
        emit: Emit,
        rng: random.Random,
    ) -> None:
        self._loop = loop
        self._host = host
        self._emit = emit
        self._rng = rng
        self._tasks = Tasks(loop)
        self._addresses: dict[PeerId, list[Multiaddr]] = {}
        for address in addresses:
            peer = address.peer_id
            if peer is None:
                raise ValueError(f"{address} does not say whose address it is")
            if peer != host.peer_id:
                self._addresses.setdefault(peer, []).append(address)

    def start(self) -> None:
        """Begin to dial."""
        for peer in self._addresses:
            self._tasks.start(self._keep(peer), f"peer {peer.short}")

    async def close(self) -> None:
        """Stop dialling. Links belong to the host."""
        await self._tasks.close()

    async def _keep(self, peer: PeerId) -> None:
        attempt = 0
        while True:
            link = self._link_to(peer)
            if link is None:
                try:
                    link = await self._host.dial(peer, self._addresses[peer])
                except DialError as error:
                    delay = self._redial_delay(attempt)
                    attempt += 1
                    self._emit(DialFailed(str(peer), str(error), delay))
                    await asyncio.sleep(delay)
                    continue
            up_since = self._loop.time()
            await asyncio.shield(link.closed)
            if self._loop.time() - up_since >= SETTLED:
                attempt = 0
            await asyncio.sleep(self._redial_delay(attempt))
            attempt += 1

    def _link_to(self, peer: PeerId) -> Link | None:
        return next((link for link in self._host.links.get(peer, []) if link.alive), None)

    def _redial_delay(self, attempt: int) -> float:
        delay: float = min(RAREST_REDIAL, FIRST_REDIAL * 2.0 ** min(attempt, 16))
        return delay * self._rng.uniform(0.8, 1.2)
