"""Exits that die, freeze, carry nothing, and come back, while applications ask for more."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from bethrou.wire.proxy_request import PROTOCOL_V1_1
from bethrou.wire.psk import NetworkKey
from faults.figures import Figures
from faults.load import Transfer, downloads, load
from faults.network import Network, state_of, until_status
from live.applications import application, refusal
from live.obstacles import deaf_listener
from live.processes import ClientProgram, NodeProgram, Programs
from live.targets import echo, target
from live.waiting import until
from net.hosts import Member

IN_TURN = {"strategy": "round-robin"}


def carried(client: ClientProgram, node: NodeProgram, result: str = "ok") -> int:
    """Requests that an exit has carried, with this result."""
    return len(client.lines_of("request", result=result, exit=node.short))


def slowest(transfers: list[Transfer]) -> float:
    return max(transfer.took for transfer in transfers)


async def test_a_killed_exit_costs_what_was_on_it_and_nothing_else(
    network: Network, figures: Figures
) -> None:
    nodes, client = await network.members(3, routing=IN_TURN)
    async with downloads(client.proxy, 200) as under_way, load(client.proxy) as running:
        nodes[0].kill()
        killed = time.monotonic()
        first = await running.next()
        assert not first.fault
        figures.seconds("next request served after", first.ended - killed, promised=1)
        await client.logged("exit down", exit=nodes[0].short)
        cut = await under_way.finish()
        await running.next(100)
        before = carried(client, nodes[0])
        nodes[0] = await network.again(nodes[0])
        back = time.monotonic()
        await until(lambda: carried(client, nodes[0]) > before)
        figures.seconds("used again after its return", time.monotonic() - back, promised=1)
    figures.count("requests beside the downloads", len(running.done))
    figures.count("of them refused", len(running.refused))
    failed = figures.count("of them cut off", len(running.failed))
    assert figures.count("downloads of 200 cut off", cut) in (66, 67)
    assert not running.refused, running.refused
    assert all(transfer.began < killed for transfer in running.failed), running.failed
    await until(lambda: carried(client, nodes[0], "aborted") == cut + failed)


@pytest.mark.slow
async def test_a_frozen_exit_is_out_of_use_within_15_s_and_back_when_it_answers(
    network: Network, figures: Figures
) -> None:
    nodes, client = await network.members(3, routing=IN_TURN)
    async with downloads(client.proxy, 30) as under_way, load(client.proxy) as running:
        nodes[0].signal(signal.SIGSTOP)
        frozen = time.monotonic()
        await client.logged("exit failed a request", exit=nodes[0].short)
        figures.seconds("asked last after", time.monotonic() - frozen)
        await under_way.cut_off(10)
        figures.seconds("its streams ended after", time.monotonic() - frozen, promised=15)
        await until_status(network.state / "client", lambda seen: state_of(seen, nodes[0]) == "down")
        before = carried(client, nodes[0])
        nodes[0].signal(signal.SIGCONT)
        thawed = time.monotonic()
        await until(lambda: carried(client, nodes[0]) > before)
        figures.seconds("used again after it answers", time.monotonic() - thawed, promised=2)
        assert figures.count("downloads of 30 cut off", await under_way.finish()) == 10
    figures.seconds("slowest request", slowest(running.done))
    figures.count("requests", len(running.done))
    assert figures.count("refused", len(running.refused)) == 0, running.refused
    assert all(transfer.began < frozen for transfer in running.failed), running.failed


def resets(stream: YamuxStream) -> None:
    stream.set_protocol(asyncio.Protocol())
    stream.abort()


def says_nothing(stream: YamuxStream) -> None:
    stream.set_protocol(asyncio.Protocol())


def ends(stream: YamuxStream) -> None:
    stream.set_protocol(asyncio.Protocol())
    stream.close()


@pytest.mark.parametrize("habit", [resets, ends, says_nothing])
async def test_an_exit_that_answers_pings_and_carries_nothing_is_asked_no_more(
    started: Programs, tmp_path: Path, figures: Figures, habit: Callable[[YamuxStream], None]
) -> None:
    nodes = [started.node(), started.node()]
    hollow = Member("hollow", NetworkKey.parse((tmp_path / "network.key").read_bytes()))
    asked: list[float] = []

    def serve(_link: Link, stream: YamuxStream, _surplus: bytes) -> None:
        asked.append(time.monotonic())
        habit(stream)

    hollow.handle(PROTOCOL_V1_1, serve)
    try:
        addresses = [str(hollow.address.with_peer(hollow.peer_id)), *(node.address for node in nodes)]
        client = started.client_of(addresses, routing=IN_TURN)
        await client.connected(3)
        async with load(client.proxy) as running:
            await client.logged("exit failed a request", exit=hollow.peer_id.short)
            noticed = time.monotonic()
            figures.seconds("noticed after", noticed - asked[0])
            await until(lambda: asked[-1] > noticed)  # it is tried again
            await running.next(100)
            took = time.monotonic() - noticed
    finally:
        await hollow.close()
    afterwards = sum(at >= noticed for at in asked)
    figures.count("requests that it was asked before that", len(asked) - afterwards)
    figures.count(f"and in the {took:.1f} s after", afterwards)
    figures.seconds("slowest request", slowest(running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed
    assert len(asked) - afterwards <= 8  # what was under way together
    assert afterwards <= 1 + took / 2  # a trial when it is on probation, ever more rarely


async def test_half_of_the_exits_may_die_at_once(network: Network, figures: Figures) -> None:
    nodes, client = await network.members(4, routing=IN_TURN)
    async with load(client.proxy) as running:
        for node in nodes[:2]:
            node.kill()
        killed = time.monotonic()
        first = await running.next()
        figures.seconds("next request served after", first.ended - killed)
        await running.next(100)
    figures.count("requests", len(running.done))
    figures.count("cut off", len(running.failed))
    assert figures.count("refused", len(running.refused)) == 0, running.refused
    assert all(transfer.began < killed for transfer in running.failed), running.failed


async def test_requests_wait_for_an_exit_when_all_are_dead(network: Network, figures: Figures) -> None:
    nodes, client = await network.members(2, routing={"wait": "2s"})
    for node in nodes:
        node.kill()
    await client.logged("exit down", count=2)
    began = time.monotonic()
    codes = await asyncio.gather(*(refusal(client.proxy, "127.0.0.1", 9) for _ in range(10)))
    waited = time.monotonic() - began
    figures.seconds("refused after", waited, promised=2)
    assert waited >= 2
    assert set(codes) == {0x01}
    client.reconfigure(routing={"wait": "20s"})
    client.signal(signal.SIGHUP)
    await client.logged("configuration obeyed anew: routing.wait")
    async with target(echo) as far:

        async def ask() -> float:
            async with application(client.proxy, "127.0.0.1", far.port) as app:
                await app.send([b"hello"], end=True)
                assert (await app.receive())[0] == 5
                return time.monotonic()

        asking = [asyncio.ensure_future(ask()) for _ in range(50)]
        await until_status(network.state / "client", lambda seen: seen.connections == 50)
        await network.again(nodes[1])
        back = time.monotonic()
        served = await asyncio.gather(*asking)
    figures.seconds("50 waiting requests served after its return", max(served) - back, promised=1)


@pytest.mark.slow
async def test_destinations_that_swallow_everything_are_not_held_against_exits(
    network: Network, figures: Figures
) -> None:
    nodes, client = await network.members(3, routing=IN_TURN)
    with deaf_listener() as deaf:
        async with load(client.proxy) as running:
            codes = await asyncio.gather(*(refusal(client.proxy, deaf.host, deaf.port) for _ in range(50)))
        assert 0 not in codes
    seen = await until_status(network.state / "client", lambda seen: seen.exits)
    assert {exit_.id: exit_.state for exit_ in seen.exits} == {node.id: "healthy" for node in nodes}
    assert not client.lines_of("exit failed")
    figures.count("requests beside them", len(running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed


async def test_requests_whose_only_exit_dies_before_their_first_byte_wait_for_its_return(
    network: Network, figures: Figures
) -> None:
    (node,), client = await network.members(1)
    with deaf_listener() as deaf:
        asking = [asyncio.ensure_future(refusal(client.proxy, deaf.host, deaf.port)) for _ in range(10)]
        await until_status(network.state / "node-0", lambda seen: seen.connections == 10)
        node.kill()
        await client.logged("exit down")
        assert not any(each.done() for each in asking)
        await network.again(node)
        back = time.monotonic()
        await until_status(network.state / "node", lambda seen: seen.connections == 10)
        figures.seconds("10 requests asked again after its return", time.monotonic() - back)
        deaf.accept()
        assert set(await asyncio.gather(*asking)) == {0}
