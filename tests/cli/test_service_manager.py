"""What systemd hears: from the part itself, and from a node and a client as processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bethrou.cli.service_manager import ServiceManager
from live.processes import programs
from live.waiting import until


class Systemd:
    """A socket such as systemd gives its services."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address}
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """All that it was told so far."""
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    place = str(tmp_path / "notify")
    running = Systemd(place if request.param == "path" else f"@{place}")
    yield running
    running.close()


async def test_it_is_told_all(systemd: Systemd) -> None:
    environment = {**systemd.environment, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "77"}
    manager = ServiceManager(asyncio.get_running_loop(), environment, 77)
    assert systemd.listen() == []
    manager.ready("SOCKS5 on 127.0.0.1:1080")
    await until(lambda: len(systemd.listen()) >= 3)
    manager.stopping()
    manager.close()
    first, *signs, last = systemd.listen()
    assert first == "READY=1\nSTATUS=SOCKS5 on 127.0.0.1:1080"
    assert set(signs) == {"WATCHDOG=1"}
    assert last == "STOPPING=1"


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "76"}, {"WATCHDOG_USEC": "often"}]
)
async def test_a_watchdog_that_is_not_ours_hears_nothing(systemd: Systemd, watchdog: dict[str, str]) -> None:
    manager = ServiceManager(asyncio.get_running_loop(), {**systemd.environment, **watchdog}, 77)
    manager.ready("")
    assert manager._timer is None
    manager.close()


@pytest.mark.parametrize("address", [None, "", "relative", "/nobody/here"])
async def test_without_systemd_nothing_is_said(address: str | None) -> None:
    environment = {} if address is None else {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"}
    manager = ServiceManager(asyncio.get_running_loop(), environment, 77)
    manager.ready("")
    assert manager._timer is None
    manager.stopping()
    manager.close()


async def test_node_and_client_are_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managers = [Systemd(str(tmp_path / name)) for name in ("one", "two")]
    try:
        with programs(tmp_path) as started:
            monkeypatch.setenv("WATCHDOG_USEC", "100000")
            monkeypatch.setenv("NOTIFY_SOCKET", managers[0].environment["NOTIFY_SOCKET"])
            node = started.node()
            monkeypatch.setenv("NOTIFY_SOCKET", managers[1].environment["NOTIFY_SOCKET"])
            client = started.client([node])
            await client.connected()
            for manager in managers:
                await until(lambda manager=manager: manager.listen().count("WATCHDOG=1") >= 2)
            assert managers[0].heard[0].startswith("READY=1\nSTATUS=listening on /ip4/127.0.0.1/tcp/")
            assert managers[1].heard[0].startswith("READY=1\nSTATUS=SOCKS5 on 127.0.0.1:")
            assert (client.stop(), node.stop()) == (0, 0)
        # signs of life go on until the end
        assert [manager.listen().count("STOPPING=1") for manager in managers] == [1, 1]
    finally:
        for manager in managers:
            manager.close()
