"""How much the peer may still send on a stream: credit that follows consumption, and a window that follows need.

A window is the bound on a stream's queue, both here (what a paused reader costs) and on the way (what a small request
waits behind). So it is kept as small as the rate allows: 256 KiB as the specification begins, 512 KiB once a stream is
busy, and beyond that four times the delivered rate times the **minimum** round trip. The smoothed round trip would
count the queue that the window itself makes, and grow without end. A window that grew falls back, by withholding
credit, when the rate no longer needs it.
"""

from __future__ import annotations

from bethrou.errors import MuxerError
from bethrou.wire.yamux.frame import INITIAL_WINDOW, PROTOCOL_ERROR

# Implementation constants.
BUSY_WINDOW = 512 * 1024
"""Bytes for a stream that has used up part of its first window."""

MAX_WINDOW = 16 * 1024 * 1024
"""Bytes at most: 1 Gbit/s over 64 ms each way, and what go-yamux grows to."""

BUDGET = 256 * 1024 * 1024
"""Bytes by which all windows of a process together may exceed their initial size."""

_HEADROOM = 4.0
"""Round trips' worth of data that the window allows. With 2 it cannot grow where others' traffic doubles the round
trip beyond its minimum: the rate that the window itself limits then asks for just this window. go allows 4, too."""

_SHORTEST_EPOCH = 0.002  # seconds; a rate measured over less is noise


class WindowBudget:
    """One bound for all windows of a process (bytes beyond the initial windows)."""

    __slots__ = ("_left",)

    def __init__(self, limit: int = BUDGET) -> None:
        self._left = limit

    def take(self, wanted: int) -> int:
        """Up to `wanted` bytes, whatever is left."""
        granted = min(wanted, self._left)
        self._left -= granted
        return granted

    def give_back(self, size: int) -> None:
        """Return bytes that `take` granted."""
        self._left += size


class ReceiveWindow:
    """The credit of one stream. Invariants: 0 <= credit, 0 <= held, and credit + held <= the largest limit so far."""

    __slots__ = ("_budget", "_epoch", "_epoch_bytes", "_held", "credit", "limit")

    def __init__(self, budget: WindowBudget) -> None:
        self.credit = INITIAL_WINDOW
        """Bytes that the peer may still send."""
        self.limit = INITIAL_WINDOW
        """Bytes that may be on the way or held here at once."""
        self._held = 0
        self._budget = budget
        self._epoch = -1.0
        self._epoch_bytes = 0

    def receive(self, size: int) -> None:
        """`size` bytes arrived. Raises `MuxerError` if the peer had no credit for them."""
        if size > self.credit:
            raise MuxerError(f"the peer sent {size} bytes with a window of {self.credit}", PROTOCOL_ERROR)
        self.credit -= size
        self._held += size

    def consume(self, size: int) -> None:
        """The stream's reader took `size` bytes."""
        self._held -= size
        self._epoch_bytes += size

    @property
    def owing(self) -> bool:
        """Whether there is credit to give that is worth a frame."""
        return (self.limit - self.credit - self._held) * 4 >= self.limit

    def grant(self, now: float, round_trip: float) -> int:
        """Bytes of new credit to send to the peer; 0 as long as it is not worth a frame.

        `now` and `round_trip` (the link's minimum) are in seconds.
        """
        # not `owing`: this is asked for every frame that comes
        if (self.limit - self.credit - self._held) * 4 < self.limit:
            return 0
        self._adapt(now, round_trip)
        granted = self.limit - self.credit - self._held
        if granted <= 0:
            return 0
        self.credit += granted
        return granted

    def release(self) -> None:
        """The stream is over: give back what it took from the budget."""
        self._resize(INITIAL_WINDOW)

    def _adapt(self, now: float, round_trip: float) -> None:
        if self.limit < BUSY_WINDOW:
            self._resize(BUSY_WINDOW)
            self._epoch, self._epoch_bytes = now, 0
            return
        elapsed = now - self._epoch
        if elapsed < max(round_trip, _SHORTEST_EPOCH):
            return
        needed = int(_HEADROOM * self._epoch_bytes / elapsed * round_trip)
        # A short stall must not throw a long path's window away: fall by half at a time.
        self._resize(max(BUSY_WINDOW, min(needed, MAX_WINDOW), self.limit // 2))
        self._epoch, self._epoch_bytes = now, 0

    def _resize(self, limit: int) -> None:
        if limit > self.limit:
            self.limit += self._budget.take(limit - self.limit)
        else:
            self._budget.give_back(self.limit - limit)
            self.limit = limit
