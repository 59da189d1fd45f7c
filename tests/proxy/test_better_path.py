"""An exit behind a relay: requests leave the circuit as soon as there is a direct way, and come back to it."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from bethrou.errors import LinkLost
from bethrou.events import Event, ExitChanged
from bethrou.net import dialer
from bethrou.net.link import CIRCUIT, DIRECT
from bethrou.proxy import better_path
from bethrou.proxy.better_path import better_link
from bethrou.proxy.exit import ExitAddress
from bethrou.proxy.pool import Pool
from bethrou.wire.multiaddr import Multiaddr
from live.obstacles import deaf_listener
from live.waiting import until
from net.hosts import Member
from net.relays import Hidden, Relay, open_ends


def free_address() -> Multiaddr:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Multiaddr.tcp("127.0.0.1", server.getsockname()[1])


async def test_requests_move_to_a_direct_link_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(better_path, "RETRY", 0.2)
    monkeypatch.setattr(better_path, "LOOK", 0.05)
    relay, client = Relay(), Member("client")
    exit_ = Hidden(relay.full_address, name="exit")
    direct = free_address()
    pool = Pool(asyncio.get_running_loop(), client, lambda event: None, random.Random(1))
    try:
        await exit_.reserved()
        pool.know([ExitAddress(exit_.peer_id, (direct, *exit_.circuit_addresses))])
        pool.start()
        known = pool.exits[str(exit_.peer_id)]
        circuit = await until(lambda: known.link)
        assert circuit.path == CIRCUIT
        near, far = await open_ends(circuit, exit_)
        await until(lambda: known.snapshot(0.0).no_direct_way.startswith(f"{direct}: "))

        exit_.listen(direct)
        await until(lambda: known.link is not circuit)
        link = known.link
        assert link is not None
        assert (link.path, link.remote) == (DIRECT, direct)
        assert known.usable
        assert known.no_direct_way == ""
        near.write(b"still there")  # what is on the circuit finishes
        await far.protocol.have(11)
        assert circuit.alive
        near.close()
        far.close()
        await until(lambda: not circuit.alive)
        assert known.link is link

        exit_.stop_listening()
        link.abort(LinkLost("cut"))
        again = await until(lambda: known.link is not link and known.link)
        assert again.path == CIRCUIT
    finally:
        await pool.close()
        for host in (client, exit_, relay):
            await host.close()


async def test_a_direct_link_that_somebody_else_made_is_used_at_once() -> None:
    relay, client = Relay(), Member("client")
    exit_ = Hidden(relay.full_address, name="exit")
    pool = Pool(asyncio.get_running_loop(), client, lambda event: None, random.Random(1))
    try:
        await exit_.reserved()
        pool.know([ExitAddress(exit_.peer_id, tuple(exit_.circuit_addresses))])
        pool.start()
        known = pool.exits[str(exit_.peer_id)]
        circuit = await until(lambda: known.link)
        other = await client.dial(exit_.peer_id, [exit_.address])
        await until(lambda: known.link is other)
        await until(lambda: not circuit.alive)
    finally:
        await pool.close()
        for host in (client, exit_, relay):
            await host.close()


async def test_a_peer_that_ends_the_circuit_because_there_is_a_direct_link_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """js does, at once: our search is still busy with addresses that swallow everything."""
    monkeypatch.setattr(dialer, "CONNECT_TIMEOUT", 2.0)
    relay, client = Relay(), Member("client")
    exit_ = Hidden(relay.full_address, name="exit")
    events: list[Event] = []
    pool = Pool(asyncio.get_running_loop(), client, events.append, random.Random(1))
    with deaf_listener() as deaf:
        try:
            await exit_.reserved()
            nowhere = Multiaddr.tcp(deaf.host, deaf.port)
            pool.know([ExitAddress(exit_.peer_id, (nowhere, *exit_.circuit_addresses))])
            pool.start()
            known = pool.exits[str(exit_.peer_id)]
            circuit = await until(lambda: known.link)
            direct = await client.dial(exit_.peer_id, [exit_.address])
            exit_.links[client.peer_id][0].close()
            await until(lambda: not circuit.alive)
            await until(lambda: known.link is direct)
            assert [event.new for event in events if isinstance(event, ExitChanged)] == ["healthy"]
        finally:
            await pool.close()
            for host in (client, exit_, relay):
                await host.close()


async def test_a_direct_link_that_comes_while_addresses_are_tried_is_not_overlooked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may swallow everything for seconds; the next look is a minute later."""
    monkeypatch.setattr(dialer, "CONNECT_TIMEOUT", 0.5)
    relay, client = Relay(), Member("client")
    exit_ = Hidden(relay.full_address, name="exit")
    with deaf_listener() as deaf:
        try:
            await exit_.reserved()
            circuit = await client.dial(exit_.peer_id, exit_.circuit_addresses)
            nowhere = Multiaddr.tcp(deaf.host, deaf.port)
            known = iter([[], *[[nowhere]] * 9])  # that one is new
            failures: list[str] = []
            way = better_link(client, circuit, lambda: next(known), random.Random(1), failures.append)
            found = asyncio.create_task(way)
            await until(lambda: client._dials)
            other = await client.dial(exit_.peer_id, [exit_.address])
            async with asyncio.timeout(20):
                assert await found is other
            assert failures == [f"{nowhere}: no answer within 0 s"]
        finally:
            for host in (client, exit_, relay):
                await host.close()
