"""What these tests share: the event loop, an Internet in a box with a web server, a place for what was measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from faults.figures import Figures
from live.namespaces import Internet, an_internet_for_a_test
from live.payload import MIB, Payload
from live.town import Town
from live.town import town as in_town

_HERE = Path(__file__).parent

PAYLOAD = Payload(6 * MIB, seed=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(120, method="thread"))  # uvloop lets no other method in


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes what the test measures; see it with `-rP` (or `-n 0 -s`)."""
    return Figures(request.node.name)


internet = pytest.fixture(an_internet_for_a_test)


@pytest.fixture
def town(internet: Internet, tmp_path: Path) -> Iterator[Town]:
    """Programs in that Internet, and a web server with 6 MiB."""
    with in_town(internet, tmp_path, PAYLOAD) as made:
        yield made
