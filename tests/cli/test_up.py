"""`bethrou up`: a whole network in one command, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bethrou.wire.keys import Identity
from cli.commands import Up, refusal, run
from live.applications import application
from live.applications import refusal as socks_refusal
from live.processes import Program
from live.targets import echo, target
from live.waiting import wait_until

StartUp = Callable[..., Up]


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[StartUp]:
    started: list[Up] = []

    def start(*arguments: str, **options: str) -> Up:
        started.append(Up(tmp_path / "state", *arguments, **options))
        return started[-1]

    yield start
    for up in started:
        up.close()


async def test_traffic_goes_through_it(start_up: StartUp) -> None:
    up = start_up("--allow", "127.0.0.0/8")
    proxy = up.ready()
    async with target(echo) as destination, application(proxy, destination.host, destination.port) as app:
        app.writer.write(b"hello")
        assert await app.reader.readexactly(5) == b"hello"
    assert "network.key" in up.output
    assert await asyncio.to_thread(up.stop) == 0
    assert "Traceback" not in up.output


async def test_this_machine_is_denied_without_allow(start_up: StartUp) -> None:
    proxy = start_up().ready()
    async with target(echo) as destination:
        assert await socks_refusal(proxy, destination.host, destination.port) == 2


def test_keys_are_made_once_and_kept(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up()
    up.ready()
    assert up.stop() == 0
    state = tmp_path / "state"
    keys = {name: (state / name).read_bytes() for name in ("network.key", "node.key")}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE((state / name).stat().st_mode) for name in keys} == {0o600}
    assert keys["network.key"].decode().split()[2] not in up.output
    again = start_up()
    again.ready()
    assert {name: (state / name).read_bytes() for name in keys} == keys
    assert str(Identity.parse(keys["node.key"]).peer_id) in again.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(start_up: StartUp, tmp_path: Path, number: signal.Signals) -> None:
    up = start_up()
    host, port = up.ready()
    children = [
        child
        for task in Path(f"/proc/{up.process.pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    status = up.stop(number)
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))
    again = start_up()
    again.ready()
    assert again.stop() == 0


async def test_a_second_signal_ends_it_at_once(start_up: StartUp) -> None:
    up = start_up("--allow", "127.0.0.0/8")
    proxy = up.ready()
    async with target(echo) as destination, application(proxy, destination.host, destination.port) as app:
        app.writer.write(b"hello")
        assert await app.reader.readexactly(5) == b"hello"
        up.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: "stopping" in up.output)
        assert up.process.poll() is None
        assert await asyncio.to_thread(up.stop) == 0


def test_a_second_instance_says_who_has_the_directory(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up()
    up.ready()
    message = refusal("bethrou", "up", "--dir", str(tmp_path / "state"), cwd=tmp_path)
    assert f"process {up.process.pid}" in message
    assert "--dir" in message


async def test_its_client_yaml_works(start_up: StartUp, tmp_path: Path) -> None:
    start_up("--allow", "127.0.0.0/8").ready()
    config = tmp_path / "state" / "client.yaml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    client = Program("client", tmp_path, "--config", str(config), "--listen", "127.0.0.1:0")
    try:
        host, _, port = client.said(r"^SOCKS5 on (\S+),").rpartition(":")
        await client.logged("exit up")
        async with (
            target(echo) as destination,
            application((host, int(port)), destination.host, destination.port) as app,
        ):
            app.writer.write(b"hello")
            assert await app.reader.readexactly(5) == b"hello"
    finally:
        client.stop()


def test_the_usual_directory(tmp_path: Path) -> None:
    """A port that is taken ends it after the keys were made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        socks = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("bethrou", "up", "--socks", socks, cwd=tmp_path, XDG_STATE_HOME=str(tmp_path / "xdg"))
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(f"bethrou: --socks: cannot listen on {socks}: ")
        assert (tmp_path / "xdg/bethrou/up/network.key").exists()
        run("bethrou", "up", "--socks", socks, cwd=tmp_path, XDG_STATE_HOME="", HOME=str(tmp_path / "home"))
        assert (tmp_path / "home/.local/state/bethrou/up/network.key").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--socks", "1080"], "--socks: "),
        (["--socks", "0.0.0.0:1080"], "add --open"),
        (["--allow", "everything"], "--allow: "),
        (["--dir", "/dev/null/x"], "--dir: /dev/null/x cannot be used: Not a directory"),
    ],
)
def test_what_it_refuses(tmp_path: Path, options: list[str], message: str) -> None:
    refused = refusal("bethrou", "up", *options, cwd=tmp_path, XDG_STATE_HOME=str(tmp_path / "xdg"))
    assert message in refused
    assert not (tmp_path / "xdg").exists()


def test_a_damaged_key_is_named_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "node.key").write_bytes(b"")
    done = run("bethrou", "up", "--dir", str(state), "--socks", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"bethrou: {state}/node.key: identity file is empty"
    assert (state / "node.key").read_bytes() == b""
