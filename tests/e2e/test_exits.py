"""Several exits: which one is chosen, and what happens when one is dead, dies, freezes or comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from bethrou.events import DialFailed, RequestEnded
from bethrou.wire.psk import NetworkKey
from live.applications import application, open_application, refusal
from live.members import Client, Node, running_client, running_node
from live.obstacles import deaf_listener, detour
from live.processes import ClientProgram, NodeProgram, Programs
from live.targets import echo, target
from live.waiting import PATIENCE, until


async def three_nodes(key: NetworkKey, stack: AsyncExitStack) -> list[Node]:
    return [await stack.enter_async_context(running_node(key)) for _ in range(3)]


async def ask(client: Client | ClientProgram, port: int, times: int = 1) -> None:
    """Have a few bytes echoed, in so many requests one after the other."""
    for _ in range(times):
        async with application(client.proxy, "127.0.0.1", port) as app:
            await app.send([b"hello"])
            assert await app.reader.readexactly(5) == b"hello"


async def use_all(client: ClientProgram, nodes: list[NodeProgram], port: int) -> None:
    """Ask until every exit has carried something: an exit that is up may not have said yet what it is."""

    def unused() -> list[NodeProgram]:
        return [node for node in nodes if not client.lines_of("request", exit=node.short)]

    deadline = time.monotonic() + PATIENCE
    asked = 0
    while unused():
        assert time.monotonic() < deadline
        await ask(client, port)
        asked += 1
    await until(lambda: len(client.lines_of("request")) == asked)


async def exits_used(client: Client, count: int) -> list[str]:
    """Who carried the first `count` requests, in the order of their ends."""
    await until(lambda: len(client.events.of(RequestEnded)) == count)
    return [event.peer for event in client.events.of(RequestEnded)]


async def test_round_robin_takes_each_exit_in_its_turn(key: NetworkKey) -> None:
    async with AsyncExitStack() as stack:
        nodes = await three_nodes(key, stack)
        addresses = [node.address for node in nodes]
        routing = {"strategy": "round-robin"}
        client = await stack.enter_async_context(running_client(key, addresses, routing=routing))
        far = await stack.enter_async_context(target(echo))
        for count in range(1, 10):
            await ask(client, far.port)
            await exits_used(client, count)
        used = await exits_used(client, 9)
        assert len(set(used[:3])) == 3
        assert used == used[:3] * 3


async def test_random_uses_all(key: NetworkKey) -> None:
    async with AsyncExitStack() as stack:
        nodes = await three_nodes(key, stack)
        client = await stack.enter_async_context(running_client(key, [node.address for node in nodes]))
        far = await stack.enter_async_context(target(echo))
        await ask(client, far.port, times=60)
        counts = Counter(await exits_used(client, 60))
        assert len(counts) == 3
        assert min(counts.values()) > 5


@pytest.mark.parametrize("name", ["fastest", "latency"])
async def test_fastest_uses_the_one_with_the_shortest_way(key: NetworkKey, name: str) -> None:
    async with AsyncExitStack() as stack:
        nodes = await three_nodes(key, stack)
        near = nodes[1]
        addresses = [
            node.address if node is near else await stack.enter_async_context(detour(node.address, 0.03))
            for node in nodes
        ]
        routing = {"strategy": name}
        client = await stack.enter_async_context(running_client(key, addresses, routing=routing))
        far = await stack.enter_async_context(target(echo))
        await ask(client, far.port, times=10)
        assert set(await exits_used(client, 10)) == {str(near.app.host.peer_id)}


async def test_a_dead_exit_in_the_list_holds_nothing_up(key: NetworkKey) -> None:
    async with running_node(key) as gone:
        dead = gone.address
    async with (
        running_node(key) as node,
        running_client(key, [dead, node.address], wait=False) as client,
        target(echo) as far,
    ):
        start = time.monotonic()
        await ask(client, far.port)
        assert time.monotonic() - start < 1.5
        await ask(client, far.port, times=5)
        assert set(await exits_used(client, 6)) == {str(node.app.host.peer_id)}


async def test_an_exit_with_several_addresses_is_reached_by_the_one_that_works(key: NetworkKey) -> None:
    async with running_node(key) as gone, running_node(key) as stranger:
        dead, wrong = gone.address, stranger.address
        await gone.app.close()
        async with running_node(key) as node, target(echo) as far:
            own = str(node.app.host.peer_id)
            with deaf_listener() as deaf:
                addresses = [
                    f"{dead.partition('/p2p/')[0]}/p2p/{own}",
                    f"/ip4/127.0.0.1/tcp/{deaf.port}/p2p/{own}",
                    f"{wrong.partition('/p2p/')[0]}/p2p/{own}",
                    node.address.replace("/ip4/127.0.0.1/", "/dns4/localhost/"),
                ]
                start = time.monotonic()
                async with running_client(key, [addresses]) as client:
                    assert time.monotonic() - start < 3
                    await ask(client, far.port)
                    assert not client.events.of(DialFailed)


async def test_an_exit_on_ipv6(key: NetworkKey) -> None:
    async with (
        running_node(key, listen="/ip6/::1/tcp/0") as node,
        running_client(key, [node.address]) as client,
        target(echo) as far,
    ):
        assert node.address.startswith("/ip6/::1/tcp/")
        await ask(client, far.port)


async def test_only_dead_exits_at_first(started: Programs) -> None:
    """The client starts all the same, and uses the exit as soon as it is there."""
    node = started.node()
    node.kill()
    client = started.client([node])
    await client.logged("exit cannot be reached")
    async with target(echo) as far:
        asking = asyncio.create_task(ask(client, far.port))
        await asyncio.sleep(0)
        started.again(node)
        await asking


async def test_a_killed_exit_is_replaced_at_once(started: Programs) -> None:
    nodes = [started.node(), started.node()]
    client = started.client(nodes, routing={"strategy": "round-robin"})
    await client.connected(2)
    async with target(echo) as far:
        await use_all(client, nodes, far.port)
        apps = [await open_application(client.proxy, "127.0.0.1", far.port) for _ in range(4)]
        nodes[0].kill()
        start = time.monotonic()
        await ask(client, far.port, times=10)
        assert time.monotonic() - start < 2
        alive = 0
        for app in apps:
            try:
                await app.send([b"x"])
                alive += await app.reader.read(1) == b"x"
            except ConnectionError:
                continue
            finally:
                app.writer.close()
        assert alive == 2
        await until(lambda: len(client.lines_of("request", result="ok", exit=nodes[1].short)) >= 13)
        lost = client.lines_of("request", result="aborted", exit=nodes[0].short)
        assert len(lost) == 2


async def test_an_exit_that_comes_back_is_used_within_a_second(started: Programs) -> None:
    node = started.node()
    client = started.client([node])
    await client.connected()
    async with target(echo) as far:
        await ask(client, far.port)
        node.kill()
        await client.logged("exit cannot be reached")
        started.again(node)
        back = time.monotonic()
        await client.connected(2)
        assert time.monotonic() - back < 1
        await ask(client, far.port)


async def test_an_exit_that_stops_sends_its_members_elsewhere(started: Programs) -> None:
    nodes: list[NodeProgram] = [started.node(), started.node()]
    client = started.client(nodes, routing={"strategy": "round-robin"})
    await client.connected(2)
    async with target(echo) as far:
        await use_all(client, nodes, far.port)
        before = len(client.lines_of("request", exit=nodes[0].short))
        apps = [await open_application(client.proxy, "127.0.0.1", far.port) for _ in range(2)]
        nodes[0].signal(signal.SIGTERM)
        await client.logged("exit takes no new requests", exit=nodes[0].short)
        await ask(client, far.port, times=4)
        for app in apps:  # what was open goes on
            await app.send([b"still here"])
            assert await app.reader.readexactly(10) == b"still here"
            app.writer.close()
        await client.logged("exit down", exit=nodes[0].short)
        assert not client.lines_of("request", result="aborted")
        assert len(client.lines_of("request", exit=nodes[0].short)) == before + 1


@pytest.mark.slow
async def test_a_frozen_exit_is_noticed_within_15_s(started: Programs) -> None:
    nodes = [started.node(), started.node()]
    client = started.client(nodes, routing={"strategy": "round-robin"})
    await client.connected(2)
    async with target(echo) as far:
        await use_all(client, nodes, far.port)
        app = await open_application(client.proxy, "127.0.0.1", far.port)
        other = await open_application(client.proxy, "127.0.0.1", far.port)
        nodes[0].signal(signal.SIGSTOP)
        frozen = time.monotonic()
        await ask(client, far.port, times=2)  # an exit that does not take a request is passed over
        assert time.monotonic() - frozen < 7
        down = await client.logged("exit down", exit=nodes[0].short)
        assert time.monotonic() - frozen < 15
        assert "silent" in down["reason"]
        ends = []
        for each in (app, other):
            try:
                await each.send([b"x"])
                ends.append(await each.reader.read(1))
            except ConnectionError:
                ends.append(b"")
            each.writer.close()
        assert sorted(ends) == [b"", b"x"]
        nodes[0].signal(signal.SIGCONT)
        await client.connected(3)
        await ask(client, far.port, times=2)


async def test_a_wrong_network_key_is_named(started: Programs, key: NetworkKey) -> None:
    node = started.node()
    async with running_client(key, [node.address], wait=False):
        refused = await node.logged("stranger refused", timeout=12)
        assert "network key" in refused["reason"]
    async with running_node(key) as stranger:
        client = started.client_of([stranger.address])
        failed = await client.logged("exit cannot be reached", timeout=12)
        assert "network key" in failed["reason"]
        assert await refusal(client.proxy, "127.0.0.1", 1) == 0x01
