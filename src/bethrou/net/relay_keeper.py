"""Staying reachable through relays: a link and a reservation on each relay that the node was given, for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from bethrou.errors import BethrouError, UnsupportedProtocol
from bethrou.events import Emit, RelayLost, RelayReserved
from bethrou.net.circuits import direct_link
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.relay_client import ReservationRefused, StopService, reserve
from bethrou.net.tasks import Tasks
from bethrou.wire.circuit import Reservation
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import Reach, reach

# Implementation constants.
REDIAL = (1.5, 4.0)
"""Seconds between two dials of a relay that is away, by chance in between: a relay that returns has its nodes back
within 5 s, and two hundred of them come one after the other."""

REFUSED_WAIT = (20.0, 40.0)
"""Seconds until a relay that has no place, or is none, is asked again."""

REFRESH = (0.6, 0.75)
"""Share of a reservation's time after which it is renewed: the rest is for failures."""

SOONEST_REFRESH = 10.0
LATEST_REFRESH = 6 * 3600.0
"""Seconds between two renewals at least and at most, whatever a relay grants."""

MAX_ADDRESSES = 2
"""Addresses of one relay under which we say that we can be reached: identify must stay small."""


class RelayKeeper:
    """Keeps reservations on the relays at `relays`, each of which ends in /p2p and the relay's peer ID.

    `now` gives Unix time in seconds, `rng` spreads dials in time. Our own peer ID is passed over, so that all nodes of
    a network can be given one list.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        relays: Sequence[Multiaddr],
        emit: Emit,
        rng: random.Random,
        now: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._host = host
        self._emit = emit
        self._rng = rng
        self._now = now
        self._tasks = Tasks(loop)
        self._relays: dict[PeerId, list[Multiaddr]] = {}
        for address in relays:
            peer = address.peer_id
            if peer is None or address.is_circuit:
                raise ValueError(f"{address} is not a relay's own address with its peer ID")
            if peer != host.peer_id:
                self._relays.setdefault(peer, []).append(address.without_peer())
        self._stop: StopService | None = None

    def start(self) -> None:
        """Begin to dial and reserve."""
        self._stop = StopService(self._loop, self._host, self._relays.__contains__)
        for relay in self._relays:
            self._tasks.start(self._keep(relay), f"reservation on {relay.short}")

    def drain(self) -> None:
        """Take no new circuits; those that are there go on."""
        if self._stop is not None:
            self._stop.drain()

    async def close(self) -> None:
        """Take no more circuits. Links belong to the host."""
        await self._tasks.close()
        if self._stop is not None:
            await self._stop.close()
        for relay in self._relays:
            self._host.reachable_through(relay, ())

    async def _keep(self, relay: PeerId) -> None:
        while True:
            span = REDIAL
            reason = "the reservation has ended"
            try:
                link = await self._link_to(relay)
                reason = await self._renew(relay, link)
            except (ReservationRefused, UnsupportedProtocol) as error:
                span, reason = REFUSED_WAIT, str(error)
            except BethrouError as error:
                reason = str(error)
            self._host.reachable_through(relay, ())
            delay = self._rng.uniform(*span)
            self._emit(RelayLost(str(relay), reason, delay))
            await asyncio.sleep(delay)

    async def _link_to(self, relay: PeerId) -> Link:
        link = direct_link(self._host.links, relay)
        if link is None:
            link = await self._host.dial(relay, self._relays[relay])
        self._host.circuits.claim(link)
        return link

    async def _renew(self, relay: PeerId, link: Link) -> str:
        """Reserve for as long as the link lasts; why it is gone. Raises `BethrouError`."""
        told: tuple[Multiaddr, ...] = ()
        while link.alive:
            asked_at = self._now()
            reservation = await reserve(self._host, link, self._now)
            addresses = self._addresses(relay, reservation)
            self._host.reachable_through(relay, addresses)
            if addresses != told:
                told = addresses
                self._emit(RelayReserved(str(relay), tuple(map(str, addresses))))
            term = (reservation.expire - asked_at) * self._rng.uniform(*REFRESH)
            await asyncio.wait([link.closed], timeout=min(max(term, SOONEST_REFRESH), LATEST_REFRESH))
        return str(link.closed.result())

    def _addresses(self, relay: PeerId, reservation: Reservation) -> tuple[Multiaddr, ...]:
        """Where we are through the relay: by the addresses that we use ourselves, then by those that it names.

        A relay names none (go, in a private network) or many. Those that lead less far than ours are left out.
        """
        ours = self._relays[relay]
        nearest = max(map(reach, ours))
        named = [
            address for address in reservation.addrs if address.peer_id == relay and not address.is_circuit
        ]
        useful = [address.without_peer() for address in named if reach(address) <= nearest < Reach.NOWHERE]
        found = dict.fromkeys([*ours, *sorted(useful, key=reach)])
        return tuple(address.with_peer(relay).circuit() for address in list(found)[:MAX_ADDRESSES])
