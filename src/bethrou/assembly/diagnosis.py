"""How a running client or node is reached and reaches others: what is found out when somebody asks for it.

Peers have work with the answers (they dial us), so there is one check at a time, and none sooner than `PAUSE` after the
last one; whoever asks in between is told what that found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from bethrou.events import Emit, Event, HolePunched, HolePunchFailed, RelayLost, RelayReserved
from bethrou.net.autonat import Autonat
from bethrou.net.circuits import direct_link
from bethrou.net.clock_check import clock_offsets
from bethrou.net.dcutr import Dcutr
from bethrou.net.host import Host
from bethrou.net.nat_kind import nat_kind, seen_by
from bethrou.net.relay_terms import Terms
from bethrou.net.tasks import Tasks
from bethrou.snapshots import (
    ClockSnapshot,
    PunchSnapshot,
    ReachabilitySnapshot,
    RelaySnapshot,
    WaySnapshot,
)
from bethrou.wire.dcutr import PROTOCOL as DCUTR
from bethrou.wire.identify import believable_addresses
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import is_public

PAUSE = 30.0
"""Seconds from one check to the next: a peer answers 12 questions a minute, and a check asks four of them at most."""

MAX_REMEMBERED = 256
"""Peers of whom it is remembered what came of hole punching, and relays that were lost."""

MAX_WAYS = 64
"""Peers on circuits that are described."""

_OUR_AGENT = "bethrou-py/"

T = TypeVar("T")


class Diagnosis:
    """Of the member that `host` is. `punching` is None where no holes are punched.

    `subscribe` has a callback called with each of its events; `time_ns` gives Unix time in nanoseconds.
    """

    def __init__(
        self,
        host: Host,
        autonat: Autonat,
        punching: Dcutr | None,
        subscribe: Callable[[Emit], Callable[[], None]],
        time_ns: Callable[[], int],
    ) -> None:
        self._host = host
        self._loop = host.loop
        self._autonat = autonat
        self._punching = punching
        self._time_ns = time_ns
        self._tasks = Tasks(host.loop)
        self._check: asyncio.Task[None] | None = None
        self._checked: float | None = None
        """When the last check ended, in the loop's seconds."""
        self._clocks: tuple[ClockSnapshot, ...] = ()
        self._punches: dict[str, tuple[float, HolePunched | HolePunchFailed]] = {}
        self._lost: dict[str, tuple[float, RelayLost]] = {}
        self._unsubscribe = subscribe(self._note)

    async def close(self) -> None:
        """Check no more."""
        self._unsubscribe()
        await self._tasks.close()

    async def look(self) -> ReachabilitySnapshot:
        """Check if that is due, wait for the check, and say what is known."""
        due = self._checked is None or self._loop.time() - self._checked >= PAUSE
        if self._check is None and due:
            self._check = self._tasks.start(self._run_check(), "reachability for whoever asks")
        if self._check is not None:
            await asyncio.shield(self._check)
        return self._snapshot()

    @property
    def since_check(self) -> float | None:
        """Seconds since the last check of our addresses, whoever wanted it."""
        found_at = self._autonat.found_at
        return None if found_at is None else self._loop.time() - found_at

    def relays(self, wanted: tuple[PeerId, ...] = ()) -> tuple[RelaySnapshot, ...]:
        """Those through which we are reached, those `wanted` for it, and those that carry circuits of ours."""
        ways: dict[PeerId, list[str]] = {}
        for address in self._host.listen_addresses:
            relay = address.relay.peer_id if address.relay is not None else None
            if relay is not None:
                ways.setdefault(relay, []).append(str(address))
        terms = self._host.circuits.terms.told
        # the terms of one that neither brings nor carries anything now are an old story
        used = [peer for peer in terms if peer in self._host.links]
        peers = [peer for peer in dict.fromkeys([*wanted, *ways, *used]) if peer != self._host.peer_id]
        return tuple(self._relay(peer, tuple(ways.get(peer, ())), terms.get(peer)) for peer in peers)

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _run_check(self) -> None:
        try:
            await self._autonat.check()
            self._clocks = await clock_offsets(self._host.links, _OUR_AGENT, self._time_ns)
            self._checked = self._loop.time()
        finally:
            self._check = None

    def _snapshot(self) -> ReachabilitySnapshot:
        now = self._loop.time()
        return ReachabilitySnapshot(
            addresses=self._autonat.found,
            checked=self.since_check,
            own=tuple(str(address) for address in self._host.own_candidates),
            nat=nat_kind(seen_by(self._host.links)),
            clocks=self._clocks,
            punching=self._punching is not None,
            punchable=tuple(map(str, self._punching.own_addresses)) if self._punching is not None else (),
            punches=tuple(
                PunchSnapshot(
                    peer=event.peer,
                    ok=isinstance(event, HolePunched),
                    address=event.address,
                    rounds=event.rounds,
                    reason="" if isinstance(event, HolePunched) else event.reason,
                    since=now - at,
                )
                for at, event in self._punches.values()
            ),
            ways=self._ways(),
            relays=self.relays(),
        )

    def _ways(self) -> tuple[WaySnapshot, ...]:
        """What is known of peers to whom there is no direct link."""
        found: list[WaySnapshot] = []
        for peer, links in self._host.links.items():
            if len(found) == MAX_WAYS:
                break
            if direct_link(self._host.links, peer) is None:
                said = links[0].statement
                listed = believable_addresses(said, peer) if said is not None else ()
                found.append(
                    WaySnapshot(
                        peer=str(peer),
                        listed=tuple(str(address) for address in listed if is_public(address)),
                        punches=said is not None and DCUTR in said.protocols,
                    )
                )
        return tuple(found)

    def _relay(self, peer: PeerId, addresses: tuple[str, ...], terms: Terms | None) -> RelaySnapshot:
        at, lost = self._lost.get(str(peer), (0.0, None))
        until = terms.reserved_until if terms is not None else None
        limit = terms.limit if terms is not None else None
        reserved = bool(addresses)
        return RelaySnapshot(
            id=str(peer),
            reserved=reserved,
            reason="" if reserved or lost is None else lost.reason,
            addresses=addresses,
            expires_in=until - self._time_ns() / 1e9 if reserved and until is not None else None,
            retry_in=None if reserved or lost is None else max(0.0, at + lost.retry_in - self._loop.time()),
            duration=limit.duration if limit is not None else 0,
            data=limit.data if limit is not None else 0,
        )

    def _note(self, event: Event) -> None:
        match event:
            case HolePunched() | HolePunchFailed():
                _remember(self._punches, event.peer, (self._loop.time(), event))
            case RelayLost():
                _remember(self._lost, event.relay, (self._loop.time(), event))
            case RelayReserved():
                self._lost.pop(event.relay, None)


def _remember(known: dict[str, T], key: str, value: T) -> None:
    known.pop(key, None)
    known[key] = value
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]
