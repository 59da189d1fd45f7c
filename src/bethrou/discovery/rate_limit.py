"""A bound on how often something happens."""

from __future__ import annotations


class RateLimit:
    """At most `rate` a second in the long run, and `burst` at once."""

    __slots__ = ("_burst", "_left", "_rate", "_then")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = float(burst)
        self._then: float | None = None

    def take(self, now: float) -> bool:
        """Whether it may happen at `now` (seconds of any clock); if so, it counts."""
        self._refill(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def wait(self, now: float) -> float:
        """Seconds from `now` until it may happen; 0 when it may at once."""
        self._refill(now)
        return max(0.0, (1.0 - self._left) / self._rate)

    def _refill(self, now: float) -> None:
        if self._then is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._then) * self._rate)
        self._then = now
