"""Configurations that change under load: what is open stays open, and a file that is wrong changes nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import run
from faults.figures import Figures
from faults.load import downloads, load
from faults.network import state_of, status, until_status
from live.applications import open_application, refusal
from live.processes import ClientProgram, Programs
from live.waiting import until

IN_TURN = {"strategy": "round-robin"}
ALICE = ("alice", "first-word")


class Reload:
    """One of the ways to have a client obey its file anew."""

    def __init__(self, way: str, client: ClientProgram, folder: Path) -> None:
        self._way = way
        self._client = client
        self._folder = folder

    async def __call__(self, expected: str) -> None:
        """Do it, and wait until the client says `expected`."""
        if self._way == "command":
            ask = ("bethrou", "reload", "--client")
            done = await asyncio.to_thread(run, *ask, cwd=self._folder, XDG_STATE_HOME=str(self._folder))
            assert expected in done.stdout + done.stderr, done
            return
        if self._way == "SIGHUP":
            self._client.signal(signal.SIGHUP)
        await until(self._has_said(expected), what=expected)

    def _has_said(self, expected: str) -> Callable[[], bool]:
        return lambda: any(expected in f"{line['event']} {line.get('reason')}" for line in self._client.lines)


@pytest.mark.parametrize("way", ["command", "SIGHUP", "watch"])
async def test_a_client_obeys_its_file_anew_under_load(
    started: Programs, tmp_path: Path, figures: Figures, way: str
) -> None:
    nodes = [await asyncio.to_thread(started.node) for _ in range(3)]
    client: ClientProgram = await asyncio.to_thread(
        started.client, nodes[:2], routing=IN_TURN, watch=way == "watch"
    )
    await client.connected(2)
    reload = Reload(way, client, tmp_path)
    async with downloads(client.proxy, 40) as under_way, load(client.proxy, user=ALICE) as running:
        client.reconfigure(nodes=[{"addrs": [node.address]} for node in nodes[1:]])
        await reload("nodes: 1 new, 1 gone, 2 in all")
        await client.logged("exit up", exit=nodes[2].short)
        await running.next(8)
        seen = await status(tmp_path / "bethrou" / "client")
        assert state_of(seen, nodes[0]) == "draining"

        client.reconfigure(routing={"strategy": "ordered"})
        await reload("routing.strategy: round-robin -> ordered")
        await running.next(8)
        before = len(client.lines_of("request", exit=nodes[2].short))
        await running.next(30)
        assert len(client.lines_of("request", exit=nodes[2].short)) == before

        client.reconfigure(rules=[{"port": 9, "use": "block"}])
        await reload("rules: 1 instead of 0")
        assert await refusal(client.proxy, "127.0.0.1", 9) == 0x02

        client.reconfigure(server={"listen": "127.0.0.1:0", "users": dict([ALICE])})
        await reload("server: 1 user")
        with pytest.raises(AssertionError):  # the method without a password is not accepted
            await open_application(client.proxy, "127.0.0.1", 9)

        client.reconfigure(routing={"strategy": "quickest"}, rules=[])
        await reload("routing.strategy: ")
        client.config.write_text("server:\n  listen: 127.0.0.1:0\n\tusers: {}\n")
        await reload("client.yaml: line 3: not valid YAML")
        seen = await status(tmp_path / "bethrou" / "client")
        assert seen.strategy == "ordered"
        await running.next(30)

        assert under_way.alive == 40
        assert figures.count("downloads of 40 cut off", await under_way.finish()) == 0
        await until_status(tmp_path / "bethrou" / "client", lambda seen: state_of(seen, nodes[0]) == "")
    figures.count("requests", len(running.done))
    assert figures.count("failed", len(running.failed)) == 0, running.failed
