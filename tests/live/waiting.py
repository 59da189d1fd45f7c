"""Waiting for a condition instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 20.0
"""Seconds for what takes milliseconds: a busy machine is no failure."""

_STEP = 0.01

Result = TypeVar("Result")


async def until(
    condition: Callable[[], Result], timeout: float = PATIENCE, what: Callable[[], object] | str = ""
) -> Result:
    """Wait until `condition()` is true; what it returned. Fails after `timeout` seconds, telling of `what`."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, (
            f"not within {timeout:g} s: {what() if callable(what) else what or condition}"
        )
        await asyncio.sleep(_STEP)
    return result


def wait_until(condition: Callable[[], Result | None], timeout: float = PATIENCE, what: str = "") -> Result:
    """The same where no event loop runs."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what or condition}"
        time.sleep(_STEP)
    return result
