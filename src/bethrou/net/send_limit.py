"""How much may wait in front of the wire: a tenth of a second of what the path carries.

What a link has handed to its transport cannot be overtaken any more: a small request waits behind it. On a fast path
128 KiB are nothing; at 1 Mbit/s they are a second. So the limit on what waits (in the transport and unsent in the
kernel) follows the rate at which the path drains it, measured whenever the transport is full. It begins low, because
the first burst is sent before anything is known, and doubles when the transport, filled several times in a row, proves
to drain fast. Several times, because a slow path's buffers, too, take a single fill at once.
"""

from __future__ import annotations

# Implementation constants.
LOWEST = 8 * 1024
FIRST = 16 * 1024
HIGHEST = 256 * 1024
"""Bytes that may wait, at least, at first and at most."""

QUEUE_TIME = 0.1
"""Seconds that a full queue should take to drain."""

_BUSY_TIME = 0.1  # seconds of full queue over which a rate is believed when it lowers the limit
_FILLS = 4  # times in a row over which a rate is believed when it raises the limit
_SHORTEST = 1e-4  # seconds; what drains faster has not waited at all


class SendLimit:
    """Feed it when the transport is full and when it takes bytes again; times in seconds, sizes in bytes.

    `drained` counts the bytes that the transport has got rid of so far.
    """

    __slots__ = ("_busy", "_busy_bytes", "_fills", "value")

    def __init__(self) -> None:
        self.value = FIRST
        """Bytes that may wait."""
        self._fills: tuple[tuple[float, int], ...] = ()
        self._busy = 0.0
        self._busy_bytes = 0

    def filled(self, now: float, drained: int) -> None:
        """The transport is full."""
        self._fills = (*self._fills[1 - _FILLS :], (now, drained))

    def emptied(self, now: float, drained: int) -> bool:
        """The transport takes bytes again. Whether `value` has changed."""
        before = self.value
        since, drained_then = self._fills[-1]
        self._busy += max(now - since, _SHORTEST)
        self._busy_bytes += drained - drained_then
        if self._busy >= _BUSY_TIME:
            affordable = int(self._busy_bytes / self._busy * QUEUE_TIME)
            self.value = max(min(affordable, self.value), LOWEST)
            self._busy, self._busy_bytes = 0.0, 0
        since, drained_then = self._fills[0]
        rate = (drained - drained_then) / max(now - since, _SHORTEST)
        if len(self._fills) == _FILLS and rate * QUEUE_TIME >= 2 * self.value:
            self.value = min(2 * self.value, HIGHEST)
            self._fills = ((now, drained),)
        return self.value != before
