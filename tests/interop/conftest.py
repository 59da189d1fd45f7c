"""What tests with real peers share: the event loop that the product runs on, a network key, peers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, open_peers
from live.redis_server import RedisServer, redis_server

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.timeout(60, method="thread"))  # uvloop lets no other method in


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def key() -> NetworkKey:
    return NetworkKey.generate(os.urandom)


@pytest.fixture
async def peers(key: NetworkKey, tmp_path: Path) -> AsyncIterator[Peers]:
    async with open_peers(key, tmp_path) as started:
        yield started


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server
