"""What `status --watch` works out and shows; on a terminal of its own, with a client that carries something."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bethrou.cli.status_watch import Counters, Rates, counters, picture, rates
from cli.commands import argv, run
from live.applications import application
from live.processes import Programs, programs
from live.targets import endless, target
from live.waiting import until
from ops.controlled import CONNECTION, EXIT, STATUS


def test_rates_are_differences_over_time() -> None:
    before = Counters(10.0, {"a": 100, "b": 500, "gone": 3}, {"a": 0})
    now = Counters(12.0, {"a": 300, "b": 50, "new": 8}, {"a": 4096})
    assert rates(before, now) == Rates({"a": 100.0, "b": 25.0, "new": 4.0}, {"a": 2048.0})
    assert rates(None, now) == Rates({}, {})
    assert rates(now, now) == Rates({}, {})


def shown(width: int = 120) -> list[str]:
    exit_ = replace(EXIT, sent=9000, received=5_000_000)
    status = replace(STATUS, exits=(exit_,))
    first = counters(status, [CONNECTION], 0.0)
    later = replace(status, exits=(replace(exit_, sent=9500, received=17_000_000),))
    now = counters(later, [replace(CONNECTION, received=CONNECTION.received + 12_000_000)], 2.0)
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(picture(later, [CONNECTION], rates(first, now)))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_all_of_it_is_on_the_screen() -> None:
    assert shown() == [
        "client serving: 1 of 1 exit can be used, 2 connections",
        "sending 250 B/s, receiving 6.0 MB/s, up 1 h 1 min",
        "",
        "EXIT    STATE      RTT  VIA     CONN  SENDING  RECEIVING  NOTE",
        "berlin  healthy  12 ms  direct     2  250 B/s   6.0 MB/s  eu, load 25%",
        "",
        "DESTINATION      EXIT    SENDING  RECEIVING  OPEN  IDLE",
        "example.com:443  berlin            6.0 MB/s  12 s   0 s",
    ]


def test_beside_a_terminal_it_is_refused(tmp_path: Path) -> None:
    done = run("bethrou", "status", "--watch", cwd=tmp_path, XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("bethrou: --watch: needs a terminal")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as running:
        yield running


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal."""
    control, terminal = pty.openpty()
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(folder),
        "TERM": "xterm",
        "COLUMNS": "120",
        "LINES": "40",
    }
    process = subprocess.Popen(
        argv("bethrou", "status", "--watch", "--client"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)
    os.set_blocking(control, False)
    try:
        yield process, control
    finally:
        process.kill()
        process.wait()
        os.close(control)


async def test_it_shows_what_goes_through(started: Programs, tmp_path: Path) -> None:
    node = started.node()
    client = started.client([node])
    await client.connected()
    seen = b""
    async with target(endless()) as far, application(client.proxy, far.host, far.port) as app:

        async def read_on() -> None:
            while await app.reader.read(1 << 20):
                pass

        reading = asyncio.create_task(read_on())
        with watching(tmp_path) as (process, control):

            def found(pattern: bytes) -> bool:
                nonlocal seen
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(control, 1 << 16)
                return re.search(pattern, seen) is not None

            await until(lambda: found(rb"client serving: 1 of 1 exit can be used, 1 connection"))
            await until(lambda: found(rb"receiving [\d.]+ [kMG]B/s"))
            await until(lambda: found(re.escape(far.address.encode())))
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 10) == 130
        reading.cancel()
