"""How much may wait in front of the wire: a tenth of a second of what the path carries.

What a link has handed to its transport cannot be overtaken any more: a small request waits behind it. On a fast path
128 KiB are nothing; at 1 Mbit/s they are a second. So the limit on what waits (in the transport and unsent in the
kernel) follows the rate at which the path drains it, measured whenever the transport is full. It begins low, because
the first burst is sent before anything is known, and doubles each time a full queue proves to drain fast.
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
_SHORTEST = 1e-4  # seconds; what drains faster has not waited at all


class SendLimit:
    """Feed it when the transport is full and when it takes bytes again; times in seconds, sizes in bytes.

    `drained` counts the bytes that the transport has got rid of so far.
    """

    __slots__ = ("_busy", "_busy_bytes", "_full_drained", "_full_since", "value")

    def __init__(self) -> None:
        self.value = FIRST
        """Bytes that may wait."""
        self._full_since = 0.0
        self._full_drained = 0
        self._busy = 0.0
        self._busy_bytes = 0

    def filled(self, now: float, drained: int) -> None:
        """The transport is full."""
        self._full_since = now
        self._full_drained = drained

    def emptied(self, now: float, drained: int) -> bool:
        """The transport takes bytes again. Whether `value` has changed."""
        took = max(now - self._full_since, _SHORTEST)
        size = drained - self._full_drained
        self._busy += took
        self._busy_bytes += size
        before = self.value
        if size / took * QUEUE_TIME >= 2 * self.value:
            self.value = min(2 * self.value, HIGHEST)
        if self._busy >= _BUSY_TIME:
            affordable = int(self._busy_bytes / self._busy * QUEUE_TIME)
            if affordable < self.value:
                self.value = max(affordable, LOWEST)
            self._busy, self._busy_bytes = 0.0, 0
        return self.value != before
