"""Whom to dial next among all exits that are known and have no link. Pure: the time is passed in.

Exits that the configuration names come first, in its order; then those that worked the last time; then the others, by
chance, so that thousands of clients do not all choose the same. One that failed waits for its turn; how long is the
pool's business. Every operation but `waiting` costs the logarithm of the number of exits, over many of them.
"""

from __future__ import annotations

import heapq
import random

from bethrou.proxy.exit import Exit

MOST_VOID = 64
"""Void entries beyond the number of exits, at which all void ones are thrown away."""


class Roster:
    """The exits that could be dialled, now or later."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._serial = 0
        self._tickets: dict[Exit, int] = {}
        """The entry that counts for each exit; others in the heaps are void."""
        self._ready: list[tuple[int, int, float, int, Exit]] = []
        self._later: list[tuple[float, int, Exit]] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, exit_: Exit) -> bool:
        return exit_ in self._tickets

    @property
    def later(self) -> int:
        """About how many wait for their time: void entries count until their time has come."""
        return len(self._later)

    def put(self, exit_: Exit, due: float) -> None:
        """Have `exit_` dialled when its turn comes, not before `due`. Takes the place of what was said before."""
        self._serial += 1
        self._tickets[exit_] = self._serial
        heapq.heappush(self._later, (due, self._serial, exit_))
        if len(self._ready) + len(self._later) > 2 * len(self._tickets) + MOST_VOID:
            self._sweep()

    def remove(self, exit_: Exit) -> None:
        """Do not dial it."""
        self._tickets.pop(exit_, None)

    def take(self, now: float, preferred_only: bool = False) -> Exit | None:
        """The one to be dialled now, which is then no longer here; None when none is due."""
        self._ripen(now)
        while self._ready:
            discovered, _, _, serial, exit_ = self._ready[0]
            if self._tickets.get(exit_) == serial:
                if preferred_only and discovered:
                    return None
                del self._tickets[exit_]
                heapq.heappop(self._ready)
                return exit_
            heapq.heappop(self._ready)
        return None

    def next_due(self, now: float) -> float | None:
        """When the next one is due; None when nobody waits. `now` when there is one already."""
        self._ripen(now)
        while self._ready and self._tickets.get(self._ready[0][4]) != self._ready[0][3]:
            heapq.heappop(self._ready)
        if self._ready:
            return now
        while self._later and self._tickets.get(self._later[0][2]) != self._later[0][1]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def waiting(self) -> list[tuple[float, Exit]]:
        """Those that are not due yet, each with the time at which it is."""
        return [(due, exit_) for due, serial, exit_ in self._later if self._tickets.get(exit_) == serial]

    def _sweep(self) -> None:
        self._ready = [entry for entry in self._ready if self._tickets.get(entry[4]) == entry[3]]
        self._later = [entry for entry in self._later if self._tickets.get(entry[2]) == entry[1]]
        heapq.heapify(self._ready)
        heapq.heapify(self._later)

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, serial, exit_ = heapq.heappop(self._later)
            if self._tickets.get(exit_) == serial:
                address = exit_.address
                rank = 0 if address.preferred else 1 if address.proven else 2
                place = address.preference if address.preferred else 0
                heapq.heappush(self._ready, (rank, place, self._rng.random(), serial, exit_))
