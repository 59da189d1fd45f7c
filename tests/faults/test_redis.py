"""Redis is only where members find each other: whatever happens to it, no request and no connection notices."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.commands import run
from faults.figures import Figures
from faults.load import Load, downloads, load
from faults.network import Network, source_of, until_status
from live.processes import ClientProgram, NodeProgram, Programs
from live.redis_server import redis_server
from live.waiting import until

PASSWORD = "another-word-for-it"

OUTLASTS_PRESENCES = 70.0
"""Seconds: what nodes have said of themselves through Redis is past its time after 45 to 54."""


async def becomes_ill(network: Network, word: str, timeout: float = 20.0) -> None:
    """Wait until the client says that it is Redis which is ill, and why."""

    def is_ill(detail: str, ok: bool) -> bool:
        return not ok and word in detail

    seen = await until_status(
        network.state / "client",
        lambda seen: is_ill(source_of(seen, "redis").detail, source_of(seen, "redis").ok),
        timeout,
    )
    assert [source.name for source in seen.sources if not source.ok] == ["redis"]


async def is_well(network: Network, timeout: float = 20.0) -> None:
    """Wait until the client says that all its sources are."""
    await until_status(
        network.state / "client", lambda seen: all(source.ok for source in seen.sources), timeout
    )


async def usable_after(client: ClientProgram, node: NodeProgram) -> float:
    """Seconds from now until a request can be sent to `node`."""
    began = time.monotonic()
    await client.logged("exit up", exit=node.short)
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def nothing_noticed(client: ClientProgram, figures: Figures) -> AsyncIterator[Load]:
    """Load and open downloads for the length of a block: none of them fails."""
    async with downloads(client.proxy, 40) as under_way, load(client.proxy) as running:
        yield running
        await running.next(30)
        assert figures.count("downloads cut off", await under_way.finish()) == 0
    figures.count("requests", len(running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed


async def test_redis_is_killed_and_started_again(
    network: Network, figures: Figures, tmp_path: Path, long: bool
) -> None:
    _, client = await network.members(2)
    async with nothing_noticed(client, figures):
        network.redis.kill()
        killed = time.monotonic()
        await becomes_ill(network, "refused")
        figures.seconds("told as ill after", time.monotonic() - killed)
        done = await asyncio.to_thread(
            run, "bethrou", "status", "--client", cwd=tmp_path, XDG_STATE_HOME=str(tmp_path)
        )
        assert done.returncode == 0, done  # it serves
        assert re.search(r"^.*redis.*refused", done.stdout, re.MULTILINE), done.stdout
        if long:
            await asyncio.sleep(OUTLASTS_PRESENCES)
        await asyncio.to_thread(network.redis.start)
        back = time.monotonic()
        await is_well(network)
        figures.seconds("subscribed again after", time.monotonic() - back, promised=5)
        figures.seconds("new exit usable after", await usable_after(client, await network.node()), promised=1)


@pytest.mark.slow
async def test_redis_stands_still_for_a_while(network: Network, figures: Figures) -> None:
    _, client = await network.members(2)
    async with nothing_noticed(client, figures):
        network.redis.freeze()
        frozen = time.monotonic()
        await becomes_ill(network, "silent")
        figures.seconds("told as ill after", time.monotonic() - frozen, promised=10)
        network.redis.thaw()
        back = time.monotonic()
        await is_well(network)
        figures.seconds("subscribed again after", time.monotonic() - back, promised=5)
        figures.seconds("new exit usable after", await usable_after(client, await network.node()), promised=1)


async def test_the_password_of_redis_is_changed(network: Network, figures: Figures) -> None:
    _, client = await network.members(2)
    async with nothing_noticed(client, figures):
        network.redis.do("CONFIG", "SET", "requirepass", PASSWORD)
        network.redis.do("CLIENT", "KILL", "TYPE", "pubsub")
        await becomes_ill(network, "wants a password")
        client.reconfigure(discovery={**network.discovery, "pass": PASSWORD})
        client.signal(signal.SIGHUP)
        told = time.monotonic()
        await is_well(network)
        figures.seconds("subscribed again after it was told", time.monotonic() - told, promised=1)
        node = await network.node(environment={"BETHROU_DISCOVER_PASS": PASSWORD})
        figures.seconds("new exit usable after", await usable_after(client, node), promised=1)
    assert not any(PASSWORD in str(line) for line in client.lines)


async def test_redis_is_absent_at_the_start(started: Programs, tmp_path: Path, figures: Figures) -> None:
    with redis_server(tmp_path, started=False) as redis:
        network = Network(started, redis, tmp_path)
        node = await network.node()
        nodes = [{"addrs": [node.address]}]
        client = await network.client(1, nodes=nodes)
        async with nothing_noticed(client, figures):
            await becomes_ill(network, "refused")
            await asyncio.to_thread(redis.start)
            back = time.monotonic()
            await is_well(network)
            figures.seconds("subscribed after its start", time.monotonic() - back, promised=5)
            await until(lambda: redis.subscribers(node.id), 5, "the node's subscription")
            another = await network.node()
            figures.seconds("new exit usable after", await usable_after(client, another), promised=1)
