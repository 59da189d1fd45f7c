"""Noticing that the network has changed: what a real kernel tells, and what clocks say after sleep."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from ipaddress import IPv4Address

import pytest

from bethrou.net import network_watch
from bethrou.net.interfaces import Address
from bethrou.net.network_watch import LOOK, SETTLE, SLEPT, NetworkWatch, slept_so_far
from conftest import missing, needs
from net.clock import Clock
from net.leftovers import nothing_left

HOME: frozenset[Address] = frozenset({IPv4Address("127.0.0.1"), IPv4Address("192.0.2.7")})
CAFE: frozenset[Address] = frozenset({IPv4Address("127.0.0.1"), IPv4Address("198.51.100.9")})


class Machine:
    """A machine's sleep and addresses, as a test says, and a watch on them that is not told by a kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 100.0
        self.addresses: frozenset[Address] | None = HOME
        self.changes = 0
        monkeypatch.setattr(network_watch, "_open_netlink", lambda: None)
        monkeypatch.setattr(network_watch, "local_addresses", self.list_addresses)
        self.watch = NetworkWatch(asyncio.get_running_loop(), self.changed, lambda: self.slept)

    def list_addresses(self) -> frozenset[Address]:
        if self.addresses is None:
            raise OSError("no descriptor left")
        return self.addresses

    def changed(self) -> None:
        self.changes += 1


async def test_sleep_is_noticed_once_when_it_was_long_enough(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    await clock.forward(3 * LOOK)
    machine.slept += SLEPT - 0.1
    await clock.forward(3 * LOOK)
    assert machine.changes == 0
    machine.slept += SLEPT
    await clock.forward(LOOK + SETTLE + 0.5)
    assert machine.changes == 1
    await clock.forward(5 * LOOK)
    assert machine.changes == 1
    machine.watch.close()


async def test_addresses_are_looked_at_where_no_kernel_tells(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    machine.addresses = None
    await clock.forward(2 * LOOK)
    assert machine.changes == 0, "that they cannot be listed is no change"
    machine.addresses = CAFE
    await clock.forward(LOOK + 0.5)
    assert machine.changes == 1
    await clock.forward(3 * LOOK)
    assert machine.changes == 1
    machine.watch.close()


async def test_a_watch_that_is_closed_says_nothing_more(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    machine.slept += 2 * SLEPT
    await clock.forward(LOOK + 0.1)  # it has noticed, and waits for more news
    machine.addresses = CAFE
    machine.watch.close()
    await clock.forward(3 * LOOK)
    assert machine.changes == 0


async def test_nothing_is_left_of_a_watch() -> None:
    async with nothing_left():
        NetworkWatch(asyncio.get_running_loop(), lambda: None).close()


def test_the_clocks_of_this_machine_make_sense() -> None:
    assert slept_so_far() >= -0.001
    assert slept_so_far() == pytest.approx(slept_so_far(), abs=1.0)


IN_A_NETWORK_OF_ITS_OWN = """
import asyncio, subprocess, sys, time
from bethrou.net.network_watch import LOOK, NetworkWatch

async def main():
    loop = asyncio.get_running_loop()
    changes = []
    watch = NetworkWatch(loop, lambda: changes.append(loop.time()))
    assert watch._socket is not None
    for command in sys.argv[1:]:
        before, began = len(changes), loop.time()
        subprocess.run(["ip", *command.split()], check=True)
        while len(changes) == before and loop.time() - began < 2 * LOOK:
            await asyncio.sleep(0.01)
        print("told" if len(changes) > before and changes[-1] - began < LOOK else "late", flush=True)
    await asyncio.sleep(0.5)
    print(len(changes))
    watch.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_the_kernel_tells_of_addresses_that_come_and_go() -> None:
    unshare, _ = needs("unshare", "ip")
    own_network = [unshare, "--net", "--map-root-user"] if os.getuid() else [unshare, "--net"]
    if subprocess.run([*own_network, "true"], check=False, capture_output=True).returncode:
        missing("unshare", "this machine lets us have no network namespace")
    changes = ["link set lo up", "addr add 192.0.2.7/32 dev lo", "addr del 192.0.2.7/32 dev lo"]
    done = subprocess.run(
        [*own_network, sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN, *changes],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["told", "told", "told", "3"]
