"""How members find their network when what they were told first is gone: by each other, and by what they remember."""

from __future__ import annotations

import asyncio
import time

from faults.figures import Figures
from faults.load import load
from faults.network import Network, source_of, status
from live.processes import ClientProgram, Programs
from live.waiting import until


async def test_a_client_finds_its_exits_again_although_redis_is_down(
    network: Network, figures: Figures
) -> None:
    nodes, client = await network.members(2)
    moved = await network.node()
    moved.kill()
    assert client.stop() == 0
    network.redis.kill()
    began = time.monotonic()
    client = await network.client(2, nodes=[{"addrs": [moved.address]}])
    figures.seconds("connected to both after its start", time.monotonic() - began)
    async with load(client.proxy) as running:
        await running.next(50)
    assert figures.count("failed", len(running.failed)) == 0, running.failed
    seen = await status(network.state / "client")
    assert (source_of(seen, "redis").ok, source_of(seen, "cache").known) == (False, 2)
    up = {exit_.id for exit_ in seen.exits if exit_.state == "healthy"}
    assert up == {node.id for node in nodes}


async def test_a_client_that_knows_one_node_learns_of_the_others_and_outlives_it(
    started: Programs, figures: Figures
) -> None:
    first = await asyncio.to_thread(started.node)
    others = [await asyncio.to_thread(started.node, "--peer", first.address) for _ in range(2)]
    began = time.monotonic()
    client: ClientProgram = await asyncio.to_thread(
        started.client, [first], routing={"strategy": "round-robin"}
    )
    await client.connected(3)
    figures.seconds("connected to all three after its start", time.monotonic() - began)
    async with load(client.proxy) as running:
        first.kill()
        for node in others:
            await until(lambda: client.lines_of("request", result="ok", exit=node.short))  # noqa: B023
        await running.next(50)
    assert figures.count("refused", len(running.refused)) == 0, running.refused
