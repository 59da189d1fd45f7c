"""A network for programs that embed the client: a node of ours in the same loop, and a web server beyond it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

import bethrou
from bethrou.api.network import Network
from bethrou.wire.psk import NetworkKey
from e2e.web import Web, web_server
from live.members import Events, Node, running_node
from live.payload import MIB, Payload
from live.waiting import until

PAYLOAD = Payload(8 * MIB + 12345, seed=11)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web_server(PAYLOAD, tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "network.key"
    path.write_bytes(NetworkKey.generate(os.urandom).format())
    return path


@pytest.fixture
async def node(key_file: Path) -> AsyncIterator[Node]:
    async with running_node(NetworkKey.parse(key_file.read_bytes())) as running:
        yield running


@contextlib.asynccontextmanager
async def embedded(key_file: Path, node: Node, **config: object) -> AsyncIterator[tuple[Network, Events]]:
    """The network in this program; afterwards no stream is left at the node."""
    events = Events()
    given = {"key": str(key_file), "nodes": [{"addrs": [node.address]}], **config}
    async with bethrou.connect(given, on_event=events) as network:
        yield network, events
    await until(lambda: node.streams == 0 and node.app.active == 0)
