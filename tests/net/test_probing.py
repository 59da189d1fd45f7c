"""Links in doubt have little time; what is below a circuit is in doubt together with it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bethrou.net import probing
from bethrou.net.probing import probe_all, probe_way
from bethrou.net.relay_client import reserve
from live.waiting import until

from .hosts import Member
from .relays import Hidden, Relay, relayed


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_PATIENCE", 0.2)


async def test_a_circuit_and_the_link_below_it_go_together() -> None:
    async with relayed() as (dialer, relay, _, link):
        (below,) = dialer.links[relay.peer_id]
        probe_way(dialer.links, link)
        await until(lambda: not below._ping_pending and not link._ping_pending)
        assert link.alive
        relay.links[dialer.peer_id][0]._transport.pause_reading()
        began = time.monotonic()
        probe_way(dialer.links, link)
        probe_way(dialer.links, link)  # what asks again gives no more time
        await until(lambda: not below.alive and not link.alive)
        assert time.monotonic() - began < 3
        assert "silent" in str(below.closed.result())


async def test_a_silent_link_leaves_its_ports_at_once() -> None:
    """The next link may have to be between the same two: holes are punched from the listening port."""
    near, far = Member("near"), Member("far")
    try:
        link = await near.dial(far.peer_id, [far.address])
        other = (await until(lambda: far.links.get(near.peer_id)))[0]
        port = other.remote.tcp_port
        await until(lambda: not link._ping_pending)
        other._transport.pause_reading()
        probe_all(near.links)
        await asyncio.shield(link.closed)
        assert port is not None and far.port is not None
        await until(lambda: not _in_the_kernel(port, far.port), timeout=2)
    finally:
        for host in (near, far):
            await host.close()


def _in_the_kernel(local: int, remote: int) -> bool:
    """Whether Linux has a connection between these two ports of loopback, in whatever state: bind() alone would not
    tell, because other programs' connections may have used the port, too.
    """
    table = [line.split()[1:3] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [f"0100007F:{local:04X}", f"0100007F:{remote:04X}"] in table


async def test_all_links_are_asked_when_the_network_changes() -> None:
    async with relayed() as (dialer, relay, _, link):
        (below,) = dialer.links[relay.peer_id]
        relay.links[dialer.peer_id][0]._transport.pause_reading()
        probe_all(dialer.links)
        await until(lambda: not below.alive and not link.alive)


async def test_a_relay_doubts_the_former_links_of_who_reserves_anew() -> None:
    """Circuits on them would hang until then."""
    relay = Relay()
    hidden, again = Hidden(relay.full_address), Member("hidden")
    try:
        await hidden.reserved()
        (former,) = relay.links[hidden.peer_id]
        hidden.links[relay.peer_id][0]._transport.pause_reading()
        link = await again.dial(relay.peer_id, [relay.address])
        await reserve(again, link, time.time)
        await until(lambda: not former.alive)
        assert relay.service.reservations[hidden.peer_id].alive
    finally:
        for host in (again, hidden, relay):
            await host.close()
