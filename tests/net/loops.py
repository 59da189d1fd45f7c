"""The event loops that tests run on, each with a watchdog: a test that hangs ends with what it was waiting for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
import uvloop

from net.clock import SkippingLoop

PATIENCE = 20.0
"""Seconds for tests that take milliseconds: a busy machine is no failure."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def _watched(make: LoopFactory) -> LoopFactory:
    def factory() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.call_later(PATIENCE, _give_up, loop)
        return loop

    return factory


def _give_up(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel(f"the test did not end within {PATIENCE:g} s")


BOTH: dict[str, LoopFactory] = {
    "asyncio": _watched(asyncio.SelectorEventLoop),
    "uvloop": _watched(uvloop.new_event_loop),
}
SKIPPING: dict[str, LoopFactory] = {"skipping": SkippingLoop}


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the event loop logged as errors during the test: exceptions in callbacks and of forgotten tasks."""
    return [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name == "asyncio" and record.levelno >= logging.ERROR
    ]
