"""Made-up exits, and a router's use of the strategies without a router."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from bethrou.proxy.candidates import Candidate
from bethrou.proxy.plans import Memory, Plan, Wanted
from bethrou.proxy.strategies import plan

ANYTHING = Wanted(host="example.org")


def exits(number: int) -> list[Candidate]:
    """So many healthy exits, in the order of their names."""
    return [Candidate(f"exit {place}", 0.05, preference=place, stable_for=1000.0) for place in range(number)]


def peers(plan: Plan) -> list[str]:
    return [candidate.peer for candidate in plan.ranked]


class Requests:
    """Requests one after the other, each of which asks the first exit of its plan."""

    def __init__(self, strategy: str, seed: int = 1) -> None:
        self.strategy = strategy
        self.memory = Memory()
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(seed)

    def plan(self, candidates: Sequence[Candidate], wanted: Wanted = ANYTHING) -> Plan:
        """What would be done."""
        return plan(self.strategy, candidates, wanted, self.memory, self.now, self._rng)

    def send(self, candidates: Sequence[Candidate], wanted: Wanted = ANYTHING) -> str:
        """Ask an exit; which it was."""
        planned = self.plan(candidates, wanted)
        peer = planned.order[0].peer
        self.memory.asked(planned, peer)
        self.counts[peer] += 1
        return peer


def but(candidates: Sequence[Candidate], place: int, **changes: object) -> list[Candidate]:
    """The same candidates, one of them changed."""
    changed = list(candidates)
    changed[place] = changed[place]._replace(**changes)  # type: ignore[arg-type]
    return changed
