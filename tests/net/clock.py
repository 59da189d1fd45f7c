"""A clock that tests move: an event loop whose time jumps, so that half a minute's wait takes no time."""

from __future__ import annotations

import asyncio

_TURNS = 40  # of the loop, after each step: enough for bytes to go through several layers and back
_STEP = 0.25


class SkippingLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop, with seconds that can be skipped."""

    def __init__(self) -> None:
        self._skipped = 0.0
        super().__init__()

    def time(self) -> float:
        return super().time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let timers of the next `seconds` fall due."""
        self._skipped += seconds


class Clock:
    """What a test moves."""

    def __init__(self, loop: SkippingLoop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:
        """The loop's seconds."""
        return self._loop.time()

    async def forward(self, seconds: float) -> None:
        """Let `seconds` pass, step by step, each with its consequences."""
        steps = max(1, round(seconds / _STEP))
        for _ in range(steps):
            self._loop.skip(seconds / steps)
            await turns()


async def turns(number: int = _TURNS) -> None:
    """Let the loop turn: what was scheduled happens, and what that schedules."""
    for _ in range(number):
        await asyncio.sleep(0)
