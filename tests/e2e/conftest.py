"""What end-to-end tests share: the event loop, a network of one client and one node as processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from bethrou.wire.psk import NetworkKey
from live.processes import ClientProgram, NodeProgram, Programs, programs
from proxy.dns_server import DnsServerForTests

_HERE = Path(__file__).parent
_OTHER_PEOPLES = {"test_real_clients.py", "test_real_http_clients.py"}
"""Other people's programs may well want asyncio's usual loop."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(60, method="thread"))  # uvloop lets no other method in


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in _OTHER_PEOPLES:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Network:
    """A client process whose only exit is a node process."""

    client: ClientProgram
    node: NodeProgram
    resolver_port: int
    """Where the node expects its name server, on loopback."""

    @property
    def proxy(self) -> tuple[str, int]:
        return self.client.proxy

    @property
    def host_and_port(self) -> str:
        return f"{self.proxy[0]}:{self.proxy[1]}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    """Starts programs of one network, which end with the test."""
    with programs(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One for all tests of a module: whoever disturbs it starts programs of their own."""
    with programs(tmp_path_factory.mktemp("network")) as running:
        port = free_udp_port()
        node = running.node("--resolver", f"127.0.0.1:{port}")
        yield Network(running.client([node]), node, port)


@pytest.fixture
async def names(network: Network) -> AsyncIterator[DnsServerForTests]:
    """The name server of the network's exit, as long as the test lasts."""
    loop = asyncio.get_running_loop()
    where = ("127.0.0.1", network.resolver_port)
    transport, server = await loop.create_datagram_endpoint(DnsServerForTests, local_addr=where)
    server.transport = transport
    yield server
    transport.close()


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def key() -> NetworkKey:
    """For members inside the test's own process."""
    return NetworkKey.generate(lambda size: bytes(range(size)))
