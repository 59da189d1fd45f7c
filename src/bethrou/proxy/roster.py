"""Whom to dial next among all exits that are known and have no link. Pure: the time is passed in.

Exits that the configuration names come first, in its order; then those that worked before, once more also after a
failure; then those that were never tried; at last those that failed. Among equals chance decides, so that thousands of
clients do not all choose the same. Of thousands that discovery tells of most may be dead: none of them is tried twice
before each was tried once. How long one that failed has to wait is the pool's business. Every operation but `waiting`
costs the logarithm of the number of exits, over many of them.
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

    def take(self, now: float, below: int | None = None) -> Exit | None:
        """The one to be dialled now, which is then no longer here; None when none is due.

        With `below`, only one whose place in the configuration is in front of that.
        """
        self._ripen(now)
        while self._ready:
            serial, exit_ = self._ready[0][3:]
            if self._tickets.get(exit_) == serial:
                if below is not None and exit_.address.preference >= below:
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
                place = exit_.address.preference if exit_.address.preferred else 0
                heapq.heappush(self._ready, (_rank(exit_), place, self._rng.random(), serial, exit_))


def _rank(exit_: Exit) -> int:
    if exit_.address.preferred:
        return 0
    if (exit_.worked or exit_.address.proven) and exit_.attempt <= 1:
        return 1
    return 2 if exit_.attempt == 0 else 3
