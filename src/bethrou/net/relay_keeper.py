"""Staying reachable through relays: a link and a reservation on each, kept for as long as the relay is wanted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

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


class Outcome(Enum):
    """What has come of a relay so far."""

    TRYING = "trying"
    """Nothing yet."""
    RESERVED = "reserved"
    AWAY = "away"
    """It cannot be reached, or the link or the reservation was lost."""
    REFUSED = "refused"
    """It has no place for us, or is no relay."""


@dataclass(eq=False, slots=True)
class _Relay:
    """One relay that is wanted, and the task that keeps a reservation on it."""

    addresses: list[Multiaddr]
    outcome: Outcome = Outcome.TRYING
    task: asyncio.Task[None] | None = None


class RelayKeeper:
    """Keeps reservations on relays: those that it was told to (`relays`, `configure`) and those chosen (`choose`).

    Each of `relays` ends in /p2p and the relay's peer ID. `now` gives Unix time in seconds, `rng` spreads dials in
    time. Our own peer ID is passed over, so that all nodes of a network can be given one list.

    A relay that is not wanted any more is given up softly: nobody is told of the way through it from then on, but
    circuits that are there go on, others may still come from those who have heard of it, and the link is closed when
    none is left.
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
        self._configured = _by_peer(relays)
        self._chosen: dict[PeerId, list[Multiaddr]] = {}
        self._relays: dict[PeerId, _Relay] = {}
        self._made: set[Link] = set()
        """Links that are there for a reservation alone."""
        self._left: dict[Link, PeerId] = {}
        """Links to relays that are not wanted any more."""
        self._stop: StopService | None = None
        self._started = self._draining = False
        self.on_change: Callable[[], object] = lambda: None
        """Called when something has come of a relay, or one was given up."""

    def start(self) -> None:
        """Begin to dial and reserve."""
        self._started = True
        self._obey()

    def configure(self, relays: Sequence[Multiaddr]) -> None:
        """Keep these in place of those that were configured before."""
        self._configured = _by_peer(relays)
        self._obey()

    def choose(self, relays: Mapping[PeerId, Sequence[Multiaddr]]) -> None:
        """Keep these beside the configured ones, in place of those that were chosen before."""
        self._chosen = {peer: list(addresses) for peer, addresses in relays.items()}
        self._obey()

    @property
    def configured(self) -> frozenset[PeerId]:
        """Those that are kept whatever comes of them."""
        return frozenset(self._configured)

    @property
    def wanted(self) -> tuple[PeerId, ...]:
        """All that are kept now."""
        return tuple(self._relays)

    def outcome(self, relay: PeerId) -> Outcome | None:
        """What has come of a relay so far; None of one that is not wanted."""
        found = self._relays.get(relay)
        return None if found is None else found.outcome

    def own(self, link: Link) -> None:
        """This link to a relay is there for nothing but a reservation: it ends when the relay is given up."""
        self._made.add(link)
        link.closed.add_done_callback(lambda done: self._made.discard(link))

    def drain(self) -> None:
        """Take no new circuits; those that are there go on."""
        self._draining = True
        if self._stop is not None:
            self._stop.drain()

    async def close(self) -> None:
        """Take no more circuits. Links belong to the host."""
        await self._tasks.close()
        if self._stop is not None:
            await self._stop.close()
        for relay in self._relays:
            self._host.reachable_through(relay, ())

    # -- which relays -----------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Begin with those that are wanted from now on, and give up the others."""
        if not self._started or self._draining:
            return
        wanted = {**self._chosen, **self._configured}
        wanted.pop(self._host.peer_id, None)
        for peer in [peer for peer in self._relays if peer not in wanted]:
            self._leave(peer)
        if wanted and self._stop is None:
            self._stop = StopService(self._loop, self._host, self._may_bring_circuits)
        for peer, addresses in wanted.items():
            relay = self._relays.get(peer)
            if relay is None:
                relay = self._relays[peer] = _Relay(addresses)
                relay.task = self._tasks.start(self._keep(peer, relay), f"reservation on {peer.short}")
            relay.addresses = addresses

    def _leave(self, peer: PeerId) -> None:
        relay = self._relays.pop(peer)
        if relay.task is not None:
            relay.task.cancel()
        self._host.reachable_through(peer, ())
        for link in self._host.links.get(peer, ()):
            self._await_end(peer, link)
            if link in self._made:
                self._host.circuits.disclaim(link)
        self.on_change()

    def _await_end(self, peer: PeerId, link: Link) -> None:
        self._left[link] = peer
        link.closed.add_done_callback(lambda done: self._left.pop(link, None))

    def _may_bring_circuits(self, peer: PeerId) -> bool:
        return peer in self._relays or peer in self._left.values()

    # -- one relay --------------------------------------------------------------------------------------------------

    async def _keep(self, peer: PeerId, relay: _Relay) -> None:
        while True:
            span, outcome = REDIAL, Outcome.AWAY
            try:
                link = await self._link_to(peer, relay)
                reason = await self._renew(peer, relay, link)
            except (ReservationRefused, UnsupportedProtocol) as error:
                span, outcome, reason = REFUSED_WAIT, Outcome.REFUSED, str(error)
            except BethrouError as error:
                reason = str(error)
            self._host.reachable_through(peer, ())
            delay = self._rng.uniform(*span)
            self._emit(RelayLost(str(peer), reason, delay))
            self._note(relay, outcome)
            await asyncio.sleep(delay)

    def _note(self, relay: _Relay, outcome: Outcome) -> None:
        relay.outcome = outcome
        self.on_change()

    async def _link_to(self, peer: PeerId, relay: _Relay) -> Link:
        link = direct_link(self._host.links, peer)
        if link is None:
            link = await self._host.dial(peer, relay.addresses)
            self.own(link)
        self._left.pop(link, None)
        if self._host.circuits.claim(link):
            self.own(link)
        return link

    async def _renew(self, peer: PeerId, relay: _Relay, link: Link) -> str:
        """Reserve for as long as the link lasts; why it is gone. Raises `BethrouError`."""
        told: tuple[Multiaddr, ...] = ()
        while link.alive:
            asked_at = self._now()
            reservation = await reserve(self._host, link, self._now)
            addresses = self._addresses(relay, link, reservation)
            self._host.reachable_through(peer, addresses)
            if addresses != told:
                told = addresses
                self._emit(RelayReserved(str(peer), tuple(map(str, addresses))))
                self._note(relay, Outcome.RESERVED)
            term = (reservation.expire - asked_at) * self._rng.uniform(*REFRESH)
            await asyncio.wait([link.closed], timeout=min(max(term, SOONEST_REFRESH), LATEST_REFRESH))
        return str(link.closed.result())

    def _addresses(self, relay: _Relay, link: Link, reservation: Reservation) -> tuple[Multiaddr, ...]:
        """Where we are through the relay: by the address that we use, by others that we know, by those that it names.

        A relay names none (go, in a private network) or many. Those that lead less far than ours are left out.
        """
        peer = link.peer_id
        ours = sorted(relay.addresses, key=lambda address: address != link.remote)
        nearest = max(map(reach, ours))
        named = [
            address for address in reservation.addrs if address.peer_id == peer and not address.is_circuit
        ]
        useful = [address.without_peer() for address in named if reach(address) <= nearest < Reach.NOWHERE]
        found = dict.fromkeys([*ours, *sorted(useful, key=reach)])
        return tuple(address.with_peer(peer).circuit() for address in list(found)[:MAX_ADDRESSES])


def _by_peer(relays: Sequence[Multiaddr]) -> dict[PeerId, list[Multiaddr]]:
    """The relays' own addresses, by relay. Raises ValueError for what is none."""
    found: dict[PeerId, list[Multiaddr]] = {}
    for address in relays:
        peer = address.peer_id
        if peer is None or address.is_circuit:
            raise ValueError(f"{address} is not a relay's own address with its peer ID")
        found.setdefault(peer, []).append(address.without_peer())
    return found
