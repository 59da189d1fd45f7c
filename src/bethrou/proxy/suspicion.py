"""Suspicion of an exit that fails requests by its own fault, and how it gets out of it. Pure.

    trusted --failure--> suspected for 2 s, 4 s ... 60 s --> on probation --a request taken--> trusted
                              ^                                   |
                              +-------------- failure ------------+

An exit can answer every ping and carry no data; only requests find that out. While it is suspected others are asked
first. On probation it gets one trial request at a time, in its ordinary place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_SUSPICION = 2.0
"""Seconds after the first failure; doubled by each that follows."""

LONGEST_SUSPICION = 60.0
"""Seconds at most. When an exit has been trusted for so long, a failure is the first one again."""

FORGIVEN_AFTER = 300.0
"""Seconds of probation in which nothing was asked of it, after which an exit is trusted again."""

TRIAL_TIMEOUT = 20.0
"""Seconds after which a trial that nobody reported on counts as none; a request is decided within 18."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An exit's record of own faults. Times are in seconds of the caller's clock."""

    active: bool = False
    """Whether it is suspected or on probation."""
    failures: int = 0
    """In a row; those that came together count once."""
    until: float = 0.0
    """When the last suspicion ends or ended, and probation begins."""
    reason: str = ""
    """What failed last."""
    trial: float | None = None
    """When the trial that is under way began."""

    def failed(self, began: float, now: float, reason: str) -> Suspicion:
        """The record after a failed request that `began` then.

        What began before the last suspicion had ended says nothing new: it was under way together with what failed
        first, or was sent to an exit that was known to be in trouble.
        """
        if began < self.until:
            return self
        in_a_row = self.active or now - self.until < LONGEST_SUSPICION
        failures = self.failures + 1 if in_a_row else 1
        length = min(LONGEST_SUSPICION, FIRST_SUSPICION * 2 ** min(failures - 1, 16))
        return Suspicion(True, failures, now + length, reason)

    def answered(self, now: float) -> Suspicion:
        """The record after the exit took a request. Before the suspicion has ended, that heals nothing yet."""
        return replace(self, active=False, trial=None) if self.active and now >= self.until else self

    def asked(self, now: float) -> Suspicion:
        """The record when a request is sent to the exit."""
        return replace(self, trial=now) if self.may_try(now) else self

    def withdrawn(self, began: float) -> Suspicion:
        """The record when a request that `began` then ends without a verdict on the exit."""
        return replace(self, trial=None) if self.trial == began else self

    def waited(self, now: float) -> Suspicion:
        """The record after time alone has passed."""
        forgiven = self.may_try(now) and now - max(self.until, self.trial or 0.0) >= FORGIVEN_AFTER
        return Suspicion() if forgiven else self

    def may_try(self, now: float) -> bool:
        """Whether the exit is on probation and a trial request may be sent."""
        return self.active and now >= self.until and (self.trial is None or now - self.trial >= TRIAL_TIMEOUT)

    def describe(self) -> str:
        """Why the exit is suspected, for people."""
        many = "a request" if self.failures < 2 else f"{self.failures} requests in a row"
        return f"failed {many}: {self.reason}"
