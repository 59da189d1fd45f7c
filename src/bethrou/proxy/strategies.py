"""Which exits a request tries, and in which order: pure functions of candidates, state and chance.

I/O comes after. A strategy never drops a candidate: exits under suspicion go to the end of the order, so that the
last hope is still tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_ATTEMPTS = 3
"""Exits that one request tries at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exit that could be asked now."""

    peer: str
    round_trip: float
    """Seconds, measured on the link (the median of the last ones)."""
    suspect: bool
    """Whether it failed lately by its own fault."""


def random_order(candidates: Sequence[Candidate], turn: int, rng: random.Random) -> list[Candidate]:
    """Any order."""
    return rng.sample(candidates, len(candidates))


def round_robin_order(candidates: Sequence[Candidate], turn: int, rng: random.Random) -> list[Candidate]:
    """Each in its turn. `turn` counts requests."""
    start = turn % len(candidates) if candidates else 0
    return [*candidates[start:], *candidates[:start]]


def fastest_order(candidates: Sequence[Candidate], turn: int, rng: random.Random) -> list[Candidate]:
    """The shortest round trip first."""
    return sorted(candidates, key=lambda candidate: candidate.round_trip)


Order = Callable[[Sequence[Candidate], int, random.Random], list[Candidate]]

STRATEGIES: dict[str, Order] = {
    "random": random_order,
    "round-robin": round_robin_order,
    "fastest": fastest_order,
    "latency": fastest_order,  # what the Go program's code calls it
}


def plan(strategy: str, candidates: Sequence[Candidate], turn: int, rng: random.Random) -> list[Candidate]:
    """The exits that a request tries, in order, at most `MAX_ATTEMPTS`; those under suspicion come last."""
    if len(candidates) < 2:
        return list(candidates)
    ordered = STRATEGIES[strategy](candidates, turn, rng)
    return sorted(ordered, key=lambda candidate: candidate.suspect)[:MAX_ATTEMPTS]
