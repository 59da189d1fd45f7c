"""Many equal timeouts at the price of one timer: every handshake, negotiation and farewell has one.

`loop.call_later` costs a heap operation and, on uvloop, a libuv timer for each; with thousands of connections a second
that shows. Timeouts of one length fall due in the order in which they were started, so a dictionary in insertion
order is queue enough, and one timer for its head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any


class TimeoutQueue:
    """Calls back `seconds` after `start`, at most `resolution` later, unless stopped before."""

    __slots__ = ("_loop", "_pending", "_resolution", "_timer", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, resolution: float = 0.25) -> None:
        self._loop = loop
        self.seconds = seconds
        self._resolution = resolution
        self._pending: dict[object, tuple[float, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def start(self, key: object, callback: Callable[[], None]) -> None:
        """Have `callback` called unless `stop(key)` comes first; starts again if `key` is under way."""
        self._pending.pop(key, None)
        self._pending[key] = (self._loop.time() + self.seconds, callback)
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._expire)

    def limit(self) -> Limit:
        """A context for the current task: `TimeoutError` is raised in it when the time is up."""
        return Limit(self)

    def stop(self, key: object) -> None:
        """Forget `key`; nothing happens if it is not under way."""
        self._pending.pop(key, None)

    def expire_oldest(self) -> None:
        """Call back now the one that was started first, to make room."""
        key = next(iter(self._pending), None)
        if key is not None:
            _, callback = self._pending.pop(key)
            callback()

    def close(self) -> None:
        """Forget all."""
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = []
        for key, (deadline, _) in self._pending.items():
            if deadline > now:
                break
            due.append(key)
        for key in due:
            entry = self._pending.get(key)
            if entry is not None and entry[0] <= now:  # one called before may have stopped or restarted it
                del self._pending[key]
                entry[1]()
        if self._pending and self._timer is None:
            deadline, _ = next(iter(self._pending.values()))
            delay = max(deadline - self._loop.time(), self._resolution)
            self._timer = self._loop.call_later(delay, self._expire)


class Limit:
    """`with queue.limit():` does what `async with asyncio.timeout(seconds):` does, at a third of its price."""

    __slots__ = ("_cancelling", "_expired", "_queue", "_task")

    def __init__(self, queue: TimeoutQueue) -> None:
        self._queue = queue
        self._expired = False
        self._cancelling = 0
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._task is not None:
            self._cancelling = self._task.cancelling()
        self._queue.start(self, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._queue.stop(self)
        # Somebody else's cancellation, too, must go on as one: only the last one here may become a timeout.
        if not self._expired or self._task is None or self._task.uncancel() > self._cancelling:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()
