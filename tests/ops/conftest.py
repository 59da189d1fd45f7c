"""Both event loops for every test; tests that ask for the `clock` run on the one whose time can be moved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings

from net.clock import Clock, SkippingLoop
from net.loops import BOTH, SKIPPING, LoopFactory, complaints

# A busy machine is no failure: the bound on time is pytest's.
settings.register_profile("ops", deadline=None)
settings.load_profile("ops")


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
