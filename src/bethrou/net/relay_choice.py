"""Which relays a node uses that has found them by itself. Pure: time and chance are passed in.

Chance chooses, so that the nodes of a network spread over its relays, and one whose relay ends does not meet all others
at the next. A relay that is away for a moment is waited for; when none brings circuits, another is taken at once.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bethrou.net.relay_keeper import Outcome
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import Reach, reach

WANTED = 2
"""Relays that a node uses: one may end."""

PATIENCE = (10.0, 20.0)
"""Seconds that a relay may be away, or take for a first answer, until another takes its place; by chance in between."""

AVOID_AWAY = (60.0, 120.0)
AVOID_REFUSED = (600.0, 1200.0)
"""Seconds for which one that was given up is not chosen again."""

_WEIGHT_PUBLIC, _WEIGHT_OTHER = 8.0, 1.0
"""A relay that has no public address is of use to its neighbours only."""

_SAME_HOST = 0.1
"""What is left of the weight of one that is on the machine of another one: they may well end together."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that relays, as far as we have heard."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    """Its own addresses, without /p2p, those of most use first."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A relay that was chosen: what has come of it, and when it is given up unless that changes."""

    outcome: Outcome
    patience_ends: float

    def is_good(self) -> bool:
        """Whether it brings circuits."""
        return self.outcome is Outcome.RESERVED

    def is_lost(self, now: float) -> bool:
        """Whether another one should take its place."""
        return self.outcome is Outcome.REFUSED or (not self.is_good() and now >= self.patience_ends)


def revise(
    chosen: Mapping[PeerId, Chosen],
    reserved_elsewhere: int,
    candidates: Sequence[Candidate],
    now: float,
    rng: random.Random,
) -> list[PeerId]:
    """Which relays to use from now on, at most twice `WANTED`.

    `reserved_elsewhere`: how many others bring circuits to us. `candidates`: those that may be chosen, the chosen ones
    among them or not; one that is lost stays as long as there is none to take its place.
    """
    good = [peer for peer, each in chosen.items() if each.is_good()]
    lost = [peer for peer, each in chosen.items() if each.is_lost(now)]
    waiting = [peer for peer in chosen if peer not in good and peer not in lost]
    wanted = max(0, WANTED - reserved_elsewhere)
    if len(good) >= wanted:
        return rng.sample(good, wanted) if len(good) > wanted else good
    hopeful = waiting
    if not good and not reserved_elsewhere:
        # nobody brings circuits: those that were there and are away now are not waited for
        hopeful = [peer for peer in waiting if chosen[peer].outcome is Outcome.TRYING]
    room = wanted - len(good) - len(hopeful)
    others = [each for each in candidates if each.peer not in chosen]
    new = draw(others, room, {*good, *waiting}, candidates, rng)
    kept = lost[: max(0, room - len(new))]
    patient = [peer for peer in waiting if peer not in hopeful]
    return [*good, *hopeful, *new, *kept, *patient][: 2 * WANTED]


def draw(
    candidates: Sequence[Candidate],
    count: int,
    beside: Collection[PeerId],
    known: Sequence[Candidate],
    rng: random.Random,
) -> list[PeerId]:
    """Some of the candidates by chance, at most `count`; `beside` are in use already, `known` says where they are."""
    taken = {host for each in known if each.peer in beside for host in _hosts(each)}
    left, drawn = list(candidates), list[PeerId]()
    while left and len(drawn) < count:
        weights = [_weight(each, taken) for each in left]
        found = rng.choices(left, weights)[0]
        left.remove(found)
        drawn.append(found.peer)
        taken |= _hosts(found)
    return drawn


def _weight(candidate: Candidate, taken: Collection[str]) -> float:
    public = any(reach(address) <= Reach.NAME for address in candidate.addresses)
    weight = _WEIGHT_PUBLIC if public else _WEIGHT_OTHER
    return weight * _SAME_HOST if not _hosts(candidate).isdisjoint(taken) else weight


def _hosts(candidate: Candidate) -> set[str]:
    """Where it is in the Internet; private addresses are the same in many homes."""
    return {
        address.host
        for address in candidate.addresses
        if address.host is not None and reach(address) <= Reach.NAME
    }
