"""How a running node or client ends: stop listening, let live connections finish, close.

The first SIGTERM (or SIGINT) drains: nothing new is taken, what is alive gets `grace` seconds. Connections without a
byte for 5 s count as finished. A second signal ends at once. On a terminal Ctrl-C's grace is 2 s: whoever presses it
watches.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Protocol

IDLE_IS_FINISHED = 5.0
"""Seconds without a byte after which a connection does not hold up the end."""

TERMINAL_GRACE = 2.0
"""Seconds of grace after Ctrl-C on a terminal."""

_LOOK_EVERY = 0.1


class Service(Protocol):
    """What can be stopped."""

    def drain(self) -> None:
        """Take nothing new."""

    def idle_for(self, seconds: float) -> bool:
        """Whether no connection has moved a byte for `seconds`."""

    @property
    def active(self) -> int:
        """Connections alive."""

    async def close(self) -> None:
        """End what is left and release everything."""


class Signals:
    """SIGINT and SIGTERM as awaitable events, from construction until `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.by_terminal = False
        """Whether the first was Ctrl-C on a terminal."""
        self._loop = loop
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._received, number)

    def close(self) -> None:
        """Give the signals back their usual meaning."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        if self.first.is_set():
            self.second.set()
            return
        self.by_terminal = number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()
        self.first.set()


async def drain_and_close(service: Service, grace: float, signals: Signals) -> None:
    """The end of a service, after the first signal."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (min(grace, TERMINAL_GRACE) if signals.by_terminal else grace)
    service.drain()
    while service.active and not service.idle_for(IDLE_IS_FINISHED) and loop.time() < deadline:
        try:
            async with asyncio.timeout(_LOOK_EVERY):
                await signals.second.wait()
                break
        except TimeoutError:
            continue
    await service.close()
