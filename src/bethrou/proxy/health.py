"""How long an exit stays under suspicion after failing by its own fault, and how it gets out: pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SUSPICION = 2.0
"""Seconds after the first failure; doubled each time that the exit fails again when they are over."""

LONGEST_SUSPICION = 60.0
"""Seconds at most."""


@dataclass(frozen=True, slots=True)
class Health:
    """An exit's record. Times are in seconds of the caller's clock."""

    failures: int = 0
    """In a row, by the exit's own fault. Destinations that do not answer are not among them."""
    suspect_until: float = 0.0

    def failed(self, now: float) -> Health:
        """The record after one more failure. Requests that were under way together fail together: that is one."""
        if self.suspect(now):
            return self
        failures = self.failures + 1
        length = min(LONGEST_SUSPICION, FIRST_SUSPICION * 2 ** min(failures - 1, 16))
        return Health(failures, now + length)

    def succeeded(self) -> Health:
        """The record after the exit has taken a request."""
        return self if self.failures == 0 else Health()

    def suspect(self, now: float) -> bool:
        """Whether others are asked first."""
        return now < self.suspect_until
