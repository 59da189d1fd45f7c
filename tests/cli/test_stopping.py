"""How nodes and clients end: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.applications import Refused, application, chatter, echoed, open_application
from live.payload import MIB, Payload
from live.processes import ClientProgram, NodeProgram, Program, Programs, programs
from live.targets import answers_after_fin, echo, target
from live.waiting import PATIENCE, until


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as all_of_them:
        yield all_of_them


@pytest.fixture
async def pair(started: Programs) -> tuple[NodeProgram, ClientProgram]:
    node = started.node()
    client = started.client([node])
    await client.connected()
    return node, client


def can_connect(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_without_connections_the_end_comes_at_once(
    pair: tuple[NodeProgram, ClientProgram], number: signal.Signals
) -> None:
    for program in reversed(pair):
        began = time.monotonic()
        program.signal(number)
        assert await program.ended() == 0
        assert time.monotonic() - began < 5
        assert program.lines[-1]["event"] == "stopped"


@pytest.mark.parametrize("role", ["node", "client"])
async def test_a_live_connection_goes_on_and_nothing_new_is_taken(
    pair: tuple[NodeProgram, ClientProgram], role: str
) -> None:
    node, client = pair
    stopped: Program = node if role == "node" else client
    async with target(echo) as destination:
        app = await open_application(client.proxy, *_where(destination.address))
        async with chatter(app):
            stopped.signal(signal.SIGTERM)
            await stopped.logged("stopping")
            if role == "client":
                assert not can_connect(client.proxy)
            else:
                await client.logged("exit takes no new requests")
                with pytest.raises(Refused):
                    await open_application(client.proxy, *_where(destination.address))
        assert await echoed(app, b"and once more") == b"and once more"
        assert stopped.running
        app.writer.write_eof()
        assert await app.reader.read() == b""
        app.writer.close()
        assert await stopped.ended() == 0
    assert [line["result"] for line in stopped.lines_of("request")] == ["ok"]


@pytest.mark.parametrize("role", ["node", "client"])
async def test_a_second_signal_ends_at_once(pair: tuple[NodeProgram, ClientProgram], role: str) -> None:
    node, client = pair
    stopped: Program = node if role == "node" else client
    async with (
        target(echo) as destination,
        application(client.proxy, *_where(destination.address)) as app,
        chatter(app),
    ):
        stopped.signal(signal.SIGTERM)
        await stopped.logged("stopping")
        began = time.monotonic()
        stopped.signal(signal.SIGTERM)
        assert await stopped.ended() == 0
        assert time.monotonic() - began < 3


async def test_grace_is_an_option_and_ends_what_is_still_alive(started: Programs) -> None:
    node = started.node("--grace", "1s")
    client = started.client([node])
    await client.connected()
    async with (
        target(echo) as destination,
        application(client.proxy, *_where(destination.address)) as app,
        chatter(app),
    ):
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0
        assert 0.9 < time.monotonic() - began < 8


async def test_connections_without_a_byte_for_five_seconds_count_as_finished(
    pair: tuple[NodeProgram, ClientProgram],
) -> None:
    node, client = pair
    async with (
        target(echo) as destination,
        application(client.proxy, *_where(destination.address)) as app,
    ):
        assert await echoed(app, b"the last word") == b"the last word"
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0
        assert 3 < time.monotonic() - began < 15


async def test_ctrl_c_on_a_terminal_has_little_patience(started: Programs, tmp_path: Path) -> None:
    node = started.node()
    folder = tmp_path / "terminal"
    folder.mkdir()
    config = f'server: {{listen: "127.0.0.1:0"}}\nnodes: [{{addrs: [{node.address}]}}]\n'
    (folder / "client.yaml").write_text(config)
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bethrou.cli.client", "connect"],
        cwd=folder,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        host, _, port = (await asyncio.to_thread(process.stdout.readline)).split(",")[0][10:].rpartition(":")
        async with (
            target(echo) as destination,
            application((host, int(port)), *_where(destination.address)) as app,
            chatter(app),
        ):
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, PATIENCE) == 0
            assert 1.5 < time.monotonic() - began < 10
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        os.close(control)
        os.close(terminal)


async def test_the_last_bytes_arrive_although_the_exit_has_nothing_left_to_do(
    pair: tuple[NodeProgram, ClientProgram],
) -> None:
    """The application ended its direction first: the exit is done as soon as it has the answer, not when we are."""
    node, client = pair
    answer = Payload(4 * MIB)
    async with target(answers_after_fin(answer)) as destination:
        app = await open_application(client.proxy, *_where(destination.address))
        app.writer.write_eof()
        await until(lambda: destination.visits and destination.visits[0].end == "eof")
        node.signal(signal.SIGTERM)
        assert await app.receive() == (answer.size, answer.sha256)
        app.writer.close()
        assert await node.ended() == 0


def _where(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
