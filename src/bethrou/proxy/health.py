"""How an exit is: a state with a reason, made of what its link, its pings, its requests and itself say. Pure.

    connecting   dialled for the first time            down       no link; dialled again and again
    healthy      asked first                           draining   says that it takes no new requests
    slow         asked after healthy ones (pace.py)    suspect    failed by its own fault (suspicion.py); asked last

Each thing that happens gives the next `Health`; `change_from` tells whether the state became another one, so that the
caller can emit one event for each change, and none for each ping. All times are in seconds of the caller's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from bethrou.proxy.pace import Pace
from bethrou.proxy.suspicion import Suspicion


class State(StrEnum):
    """How an exit is."""

    CONNECTING = "connecting"
    HEALTHY = "healthy"
    SLOW = "slow"
    SUSPECT = "suspect"
    DOWN = "down"
    DRAINING = "draining"

    @property
    def usable(self) -> bool:
        """Whether requests may be sent to an exit in this state."""
        return self in _RANKS

    @property
    def rank(self) -> int:
        """The place of usable states among each other: 0 is asked first."""
        return _RANKS[self]


_RANKS = {State.HEALTHY: 0, State.SLOW: 1, State.SUSPECT: 2}


@dataclass(frozen=True, slots=True)
class Change:
    """An exit's state became another one."""

    old: State
    new: State
    reason: str
    """What brought it about, for people."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an exit's health at one moment. `Health(since=now)` is one that was never connected."""

    state: State = State.CONNECTING
    reason: str = ""
    """Why it is in that state, for people."""
    since: float = 0.0
    """When it came into that state."""
    up_since: float | None = None
    """When its link came up; None without a link."""
    draining: bool = False
    """Whether it says so."""
    pace: Pace = field(default_factory=Pace)
    suspicion: Suspicion = field(default_factory=Suspicion)

    # -- what happens -----------------------------------------------------------------------------------------------

    def link_up(self, now: float, round_trip: float) -> Health:
        """A link came up, whose handshake took `round_trip`. Faults on former links are forgotten."""
        pace = self.pace.restarted(now, round_trip)
        fresh = replace(self, up_since=now, draining=False, pace=pace, suspicion=Suspicion())
        return fresh._settled(now, "connected")

    def link_lost(self, now: float, reason: str) -> Health:
        """The link is gone."""
        return self._away(now, reason)

    def dial_failed(self, now: float, reason: str) -> Health:
        """An attempt to connect led to nothing."""
        return self if self.up_since is not None else self._away(now, reason)

    def measured(self, now: float, round_trip: float) -> Health:
        """A ping was answered. As pings come regularly, what time alone changes is done here, too."""
        if self.up_since is None:
            return self
        pace, suspicion = self.pace.measured(now, round_trip), self.suspicion.waited(now)
        cause = "nothing was asked of it for long" if self.suspicion.active else "quick again"
        return replace(self, pace=pace, suspicion=suspicion)._settled(now, cause)

    def asked(self, now: float) -> Health:
        """A request is sent to the exit."""
        suspicion = self.suspicion.asked(now)
        return self if suspicion is self.suspicion else replace(self, suspicion=suspicion)

    def answered(self, now: float, took: float | None = None) -> Health:
        """A request that was sent got its final answer: connected, or a failure of the destination.

        `took`: seconds until the exit's first sign of having it (`dialing`); None where it gives no such sign.
        """
        if self.up_since is None:
            return self
        pace = self.pace if took is None else self.pace.took(now, took)
        suspicion = self.suspicion.answered(now)
        if pace is self.pace and suspicion is self.suspicion:
            return self  # nearly always
        cause = "took a request" if self.suspicion.active else "quick again"
        return replace(self, pace=pace, suspicion=suspicion)._settled(now, cause)

    def failed(self, now: float, began: float, reason: str) -> Health:
        """A request that was sent at `began` failed by the exit's own fault.

        Requests that were under way together and fail together count once. What was sent over a former link is not
        held against this one.
        """
        if self.up_since is None or began < self.up_since:
            return self
        suspicion = self.suspicion.failed(began, now, reason)
        return (
            self if suspicion is self.suspicion else replace(self, suspicion=suspicion)._settled(now, reason)
        )

    def withdrawn(self, began: float) -> Health:
        """A request that was sent at `began` ended without a verdict: the application gave up, say."""
        suspicion = self.suspicion.withdrawn(began)
        return self if suspicion is self.suspicion else replace(self, suspicion=suspicion)

    def says(self, now: float, draining: bool) -> Health:
        """The exit says that it drains, or that it serves."""
        if self.up_since is None or draining == self.draining:
            return self
        return replace(self, draining=draining)._settled(now, "serves again")

    # -- what follows -----------------------------------------------------------------------------------------------

    @property
    def round_trip(self) -> float | None:
        """Seconds, the median of the last ones; None without a link."""
        return None if self.up_since is None else self.pace.round_trip

    def may_try(self, now: float) -> bool:
        """Whether it is suspect, but may be sent a trial request now in its ordinary place."""
        return self.state is State.SUSPECT and self.suspicion.may_try(now)

    def stable_for(self, now: float) -> float:
        """Seconds that it has been healthy; 0 when it is not."""
        return max(0.0, now - self.since) if self.state is State.HEALTHY else 0.0

    def change_from(self, before: Health) -> Change | None:
        """The change of state since `before`, if there is one."""
        return None if self.state is before.state else Change(before.state, self.state, self.reason)

    def _away(self, now: float, reason: str) -> Health:
        since = self.since if self.state is State.DOWN else now
        return replace(
            self,
            state=State.DOWN,
            reason=reason,
            since=since,
            up_since=None,
            draining=False,
            suspicion=Suspicion(),
        )

    def _settled(self, now: float, cause: str) -> Health:
        """This record with the state that follows from it; `cause` is the reason when that is healthy."""
        state, reason = self._verdict()
        if state is self.state:
            return replace(self, reason=reason or self.reason)
        return replace(self, state=state, reason=reason or cause, since=now)

    def _verdict(self) -> tuple[State, str]:
        if self.draining:
            return State.DRAINING, "says that it takes no new requests"
        if self.suspicion.active:
            return State.SUSPECT, self.suspicion.describe()
        if self.pace.slow:
            return State.SLOW, self.pace.describe()
        return State.HEALTHY, ""
