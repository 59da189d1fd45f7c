"""What tests of faults share: the event loop, programs, a Redis, and a place for what was measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from faults.figures import Figures
from faults.network import Network
from live.processes import Programs, programs
from live.redis_server import RedisServer, redis_server

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(180, method="thread"))  # uvloop lets no other method in


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes what the test measures; see it with `-rP` (or `-n 0 -s`)."""
    return Figures(request.node.name)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether long tests have all the time that they are for (`--long`)."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    """Starts programs of one network, which end with the test."""
    with programs(tmp_path) as running:
        yield running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that runs."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def network(started: Programs, redis: RedisServer, tmp_path: Path) -> Network:
    """Programs that find each other through Redis."""
    return Network(started, redis, tmp_path)
