"""Every test here runs over every kind of pipe, on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from conformance.pipes import KINDS, Pipe
from net.loops import BOTH, LoopFactory, complaints


def pytest_asyncio_loop_factories() -> dict[str, LoopFactory]:
    return BOTH


@pytest.fixture(autouse=True)
def no_complaint(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert complaints(caplog) == []


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def pipe(kind: str) -> AsyncIterator[Pipe]:
    async with KINDS[kind]() as ends:
        yield ends
