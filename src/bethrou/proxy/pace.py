"""How quick an exit is, and whether that is slow: measured against its own past and an absolute bound. Pure.

An exit on another continent is not slow, it is far away. Slow is one that takes far longer than it usually does, or
that nobody would wait for. Entering and leaving have different thresholds, and either needs a minimum of time, so that
the verdict does not flap.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

MEASUREMENTS = 9
"""Last measurements whose median counts: four outliers among them change nothing."""

SLOW_BOUND = 1.0
"""Seconds of round trip that are slow for any exit. By a geostationary satellite it takes 0.6 to 0.7."""

SLOW_FACTOR = 3.0
"""Times its usual round trip from which an exit is slow ..."""

SLOW_MARGIN = 0.25
"""... if that is also so many seconds more: a full queue in front of a home connection adds 0.1 or 0.2."""

LEAVE_SHARE = 0.7
"""Share of the threshold below which a slow exit is quick again."""

DWELL = 30.0
"""Seconds between two changes of the verdict at least, and from a link's beginning to the first one."""

USUAL_OVER = 600.0
"""Seconds in which what is usual follows a lasting change (by two thirds). A new route becomes usual in time."""

TAKE_INTERVAL = 1.0
"""Seconds between two requests that are measured: a burst says no more than its first one."""

TAKES_NEEDED = 5
"""Requests to be measured before they count: they also wait for our own loop, so one alone proves nothing."""

TAKES_KEPT = 60.0
"""Seconds without a measured request after which those before it count no longer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """An exit's measurements on its present link, and what was usual before. Times are in seconds."""

    round_trip: float = 0.0
    """Median of the last ones, by ping."""
    usual: float = 0.0
    """What `round_trip` has been over the last minutes, over earlier links, too; 0 before the first."""
    slow: bool = False
    round_trips: tuple[float, ...] = ()
    takes: tuple[float, ...] = ()
    """From a request to the exit's first sign of having it."""
    measured_at: float = 0.0
    took_at: float = 0.0
    judged_at: float = 0.0
    """When `slow` changed or the link began."""

    def restarted(self, now: float, round_trip: float) -> Pace:
        """The pace on a new link, whose handshake took `round_trip`."""
        return Pace(
            round_trip=round_trip,
            usual=self.usual or round_trip,
            round_trips=(round_trip,),
            measured_at=now,
            judged_at=now,
        )

    def measured(self, now: float, round_trip: float) -> Pace:
        """The pace after one more ping."""
        trips = (*self.round_trips, round_trip)[-MEASUREMENTS:]
        median = statistics.median(trips)
        share = min(1.0, (now - self.measured_at) / USUAL_OVER)
        after = replace(
            self,
            round_trip=median,
            usual=self.usual + (median - self.usual) * share,
            round_trips=trips,
            takes=self.takes if now - self.took_at < TAKES_KEPT else (),
            measured_at=now,
        )
        return after._judged(now)

    def took(self, now: float, seconds: float) -> Pace:
        """The pace after a request that the exit took in `seconds`."""
        since = now - self.took_at
        if self.takes and since < TAKE_INTERVAL:
            return self
        takes = (*self.takes, seconds)[-MEASUREMENTS:] if since < TAKES_KEPT else (seconds,)
        return replace(self, takes=takes, took_at=now)._judged(now)

    def describe(self) -> str:
        """The measurements, for people."""
        words = f"round trip {_shown(self.round_trip)}, usually {_shown(self.usual)}"
        return (
            words if len(self.takes) < TAKES_NEEDED else f"{words}; takes a request in {_shown(self._take)}"
        )

    @property
    def _take(self) -> float:
        return statistics.median(self.takes)

    def _judged(self, now: float) -> Pace:
        if now - self.judged_at < DWELL:
            return self
        threshold = min(SLOW_BOUND, max(SLOW_FACTOR * self.usual, self.usual + SLOW_MARGIN))
        measure = max(self.round_trip, self._take) if len(self.takes) >= TAKES_NEEDED else self.round_trip
        slow = measure > (LEAVE_SHARE * threshold if self.slow else threshold)
        return self if slow == self.slow else replace(self, slow=slow, judged_at=now)


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
