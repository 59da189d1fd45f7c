"""How a running node or client ends: stop listening, let live connections finish, close.

The first SIGTERM (or SIGINT) drains: nothing new is taken, what is alive gets `grace` seconds. Connections without a
byte for 5 s count as finished. A second signal ends at once. On a terminal Ctrl-C's grace is 2 s: whoever presses it
watches. So it is when the terminal goes away (SIGHUP), unless `nohup` or the like says otherwise.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Protocol

IDLE_IS_FINISHED = 5.0
"""Seconds without a byte after which a connection does not hold up the end."""

TERMINAL_GRACE = 2.0
"""Seconds of grace after Ctrl-C on a terminal, or when the terminal goes away."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
WITH_HANGUP = (*STOP_SIGNALS, signal.SIGHUP)
"""For programs on a terminal; to others SIGHUP may mean to read their configuration again."""

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
    """The signals that stop a program, as awaitable events, from construction until `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, numbers: Sequence[signal.Signals]) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.hurried = False
        """Whether the first was Ctrl-C on a terminal, or the terminal's end: nobody waits long then."""
        self._loop = loop
        self._numbers = [number for number in numbers if not _is_ignored(number)]
        for number in self._numbers:
            loop.add_signal_handler(number, self._received, number)

    def close(self) -> None:
        """Give the signals back their usual meaning."""
        for number in self._numbers:
            self._loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Act as if the first signal had come."""
        self.first.set()

    def _received(self, number: signal.Signals) -> None:
        if self.first.is_set():
            self.second.set()
            return
        self.hurried = number == signal.SIGHUP or (number == signal.SIGINT and on_terminal())
        self.first.set()


def _is_ignored(number: signal.Signals) -> bool:
    """Whether `nohup` (or the like) has said that the terminal's end is to be survived."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def on_terminal() -> bool:
    """Whether this program's input is a terminal."""
    try:
        return sys.stdin is not None and os.isatty(sys.stdin.fileno())
    except (OSError, ValueError):  # closed
        return False


async def drain_and_close(service: Service, grace: float, signals: Signals) -> None:
    """The end of a service, after the first signal."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (min(grace, TERMINAL_GRACE) if signals.hurried else grace)
    service.drain()
    while service.active and not service.idle_for(IDLE_IS_FINISHED) and loop.time() < deadline:
        try:
            async with asyncio.timeout(_LOOK_EVERY):
                await signals.second.wait()
                break
        except TimeoutError:
            continue
    await _close_unless_hurried(service, signals)


async def _close_unless_hurried(service: Service, signals: Signals) -> None:
    """Close; a second signal does not wait until the last bytes are gone."""
    closing = asyncio.ensure_future(service.close())
    hurry = asyncio.ensure_future(signals.second.wait())
    await asyncio.wait({closing, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if closing.done():
        hurry.cancel()
        closing.result()
