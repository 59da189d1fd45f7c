"""Exits that are stopped on purpose, under load: nothing that an application asked for is lost."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import pytest

from cli.commands import run
from faults.figures import Figures
from faults.load import downloads, load
from faults.network import Network
from live.processes import Programs
from live.waiting import until

IN_TURN = {"strategy": "round-robin"}


async def bethrou_node(folder: Path, *arguments: str) -> str:
    """What the command `bethrou-node` prints, when all went well."""
    done = await asyncio.to_thread(run, "bethrou-node", *arguments, cwd=folder, XDG_STATE_HOME=str(folder))
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.parametrize("by", ["SIGTERM", "bethrou-node drain"])
async def test_a_drained_exit_loses_nothing(
    network: Network, figures: Figures, tmp_path: Path, by: str
) -> None:
    nodes, client = await network.members(3, routing=IN_TURN)
    async with downloads(client.proxy, 60) as under_way, load(client.proxy) as running:
        if by == "SIGTERM":
            nodes[0].signal(signal.SIGTERM)
        else:
            said = await bethrou_node(tmp_path, "drain", "--instance", "0")
            assert re.search(r"takes nothing new; \d+ connections? may go on", said), said
        asked = time.monotonic()
        await client.logged("exit takes no new requests", exit=nodes[0].short)
        figures.seconds("client told after", time.monotonic() - asked)
        await running.next(100)
        assert under_way.alive == 60
        assert figures.count("downloads of 60 cut off", await under_way.finish()) == 0
        finished = time.monotonic()
        assert await nodes[0].ended() == 0
        figures.seconds("exit gone after its last download", time.monotonic() - finished)
        await running.next(100)
    figures.count("requests", len(running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed


async def test_an_idle_exit_is_drained_by_command(started: Programs, tmp_path: Path) -> None:
    node = started.node()
    said = await bethrou_node(tmp_path, "drain")
    assert "takes nothing new" in said
    assert await node.ended() == 0


async def test_exits_restarted_one_after_the_other_lose_nothing(network: Network, figures: Figures) -> None:
    nodes, client = await network.members(3, routing=IN_TURN)
    async with load(client.proxy) as running:
        for node in nodes:
            began = time.monotonic()
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            figures.seconds("ended after", time.monotonic() - began)
            seen = len(client.lines_of("request", exit=node.short))
            await network.again(node)
            back = time.monotonic()
            await until(lambda: len(client.lines_of("request", exit=node.short)) > seen)  # noqa: B023
            figures.seconds("used again after its return", time.monotonic() - back, promised=1)
    figures.count("requests", len(running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed


async def test_requests_wait_while_the_only_exit_is_restarted(network: Network, figures: Figures) -> None:
    (node,), client = await network.members(1, routing={"wait": "15s"})
    async with load(client.proxy) as running:
        for _ in range(3):
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            node = await network.again(node)
            await running.next(30)
    figures.count("requests", len(running.done))
    figures.seconds("slowest request", max(transfer.took for transfer in running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed
