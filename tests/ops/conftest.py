"""Tests of the control server run on both event loops; those that ask for the `clock`, on the one that can skip."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from net.clock import Clock, SkippingLoop
from net.loops import BOTH, SKIPPING, LoopFactory, complaints


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    assert isinstance(item, pytest.Function)
    return SKIPPING if "clock" in item.fixturenames else BOTH


@pytest.fixture(autouse=True)
def no_complaint(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What reaches a loop's exception handler is nobody's return value: a test that causes it fails."""
    yield
    assert complaints(caplog) == []


@pytest.fixture
async def clock() -> Clock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    return Clock(loop)
