"""Tests of discovery run on both event loops, or on the one whose time can be moved, as those of net/ do.

Those that need a Redis have one to themselves. When it goes, nothing of ours may be left: no task, no descriptor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from live.redis_server import Certificates, RedisServer, redis_server
from net.conftest import clock, no_complaint, pytest_asyncio_loop_factories, pytest_collection_modifyitems
from net.leftovers import nothing_left

__all__ = ["clock", "no_complaint", "pytest_asyncio_loop_factories", "pytest_collection_modifyitems"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis."""
    with redis_server(tmp_path) as running:
        async with nothing_left():
            yield running


@pytest.fixture
async def absent(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """One that has not been started yet."""
    with redis_server(tmp_path, started=False) as prepared:
        async with nothing_left():
            yield prepared


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """One that speaks TLS."""
    with redis_server(tmp_path, tls=Certificates(tmp_path)) as running:
        async with nothing_left():
            yield running
