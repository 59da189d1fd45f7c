"""Both event loops for every test; tests that ask for the `clock` run on the one whose time can be moved."""

from __future__ import annotations

import asyncio

import pytest

from net.clock import Clock, SkippingLoop
from net.loops import BOTH, SKIPPING, LoopFactory


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    assert isinstance(item, pytest.Function)
    return SKIPPING if "clock" in item.fixturenames else BOTH


@pytest.fixture
async def clock() -> Clock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    return Clock(loop)
