from __future__ import annotations

import asyncio
import gc
import resource
from pathlib import Path

import pytest

from bethrou.cli.process import LOOP_VARIABLE, new_event_loop, raise_descriptor_limit, settle
from bethrou.cli.program import plain_switches
from live.applications import application
from live.processes import programs
from live.targets import echo, target


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (["start", "--discover=true", "--key=k"], ["start", "--discover", "--key=k"]),
        (["start", "--discover=false", "--relay-mode=1"], ["start", "--relay-mode"]),
        (["start", "--discover=F", "--discover"], ["start", "--discover"]),
        (["start", "--discover=maybe"], ["start", "--discover=maybe"]),
        (["start", "--name=--discover=true"], ["start", "--name=--discover=true"]),
    ],
)
def test_switches_may_be_written_as_go_writes_them(given: list[str], plain: list[str]) -> None:
    assert plain_switches(given, ["--discover", "--relay-mode"]) == plain


def test_the_descriptor_limit_is_raised_as_far_as_it_goes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("chosen", "module"), [("", "uvloop"), ("asyncio", "asyncio")])
def test_the_event_loop_can_be_chosen(monkeypatch: pytest.MonkeyPatch, chosen: str, module: str) -> None:
    monkeypatch.setenv(LOOP_VARIABLE, chosen)
    loop = new_event_loop()
    loop.close()
    assert type(loop).__module__.startswith(module)


def test_what_is_set_up_is_left_out_of_collections() -> None:
    try:
        settle()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()


async def test_node_and_client_work_without_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOP_VARIABLE, "asyncio")
    with programs(tmp_path) as started:
        node = started.node("--discover=false", "--relay-mode=false", "--connect-relay", "")
        client = started.client([node])
        await client.connected()
        async with (
            target(echo) as destination,
            application(client.proxy, destination.host, destination.port) as app,
        ):
            app.writer.write(b"hello")
            assert await app.reader.readexactly(5) == b"hello"
        assert await asyncio.to_thread(client.stop) == 0
        assert await asyncio.to_thread(node.stop) == 0
