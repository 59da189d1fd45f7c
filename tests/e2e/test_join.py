"""From nothing to a page, and out again: `bethrou init`, `invite`, `join`, `members` and the programs between them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cli.commands import argv, refusal, run
from conftest import needs
from live.applications import application
from live.payload import Payload
from live.processes import Program
from live.targets import endless, target
from live.waiting import until, wait_until

from .web import web_server

PAGE = Payload(100_000, seed=7)
SOON = 5.0
"""Seconds within which a removed device is cut off; it takes milliseconds."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def any_port() -> str:
    return f"/ip4/127.0.0.1/tcp/{free_port()}"


class Home:
    """A network in `home`, other devices in directories beside it, and their programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Program] = []

    def bethrou(self, *arguments: str, status: int = 0) -> str:
        """Run a command; what it printed on standard output."""
        done = run("bethrou", *arguments, cwd=self.folder)
        assert done.returncode == status, done
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """The one line with which a command refuses what it was given."""
        return refusal("bethrou", *arguments, cwd=self.folder)

    def init(self) -> None:
        self.bethrou("init", "home", "--listen", any_port())

    def invite(self, *arguments: str) -> str:
        """A file with a link in it."""
        link = self.bethrou("invite", "home", *arguments)
        assert link.startswith("bethrou://join/")
        assert len(link.splitlines()) == 1
        path = self.folder / f"link-{len(list(self.folder.glob('link-*')))}"
        path.write_text(link)
        return path.name

    def start(self, role: str, place: str) -> Program:
        """Start what `init` or `join` has made there."""
        folder = self.folder / f"{role}-of-{place}"
        folder.mkdir()
        more = ("--allow", "127.0.0.0/8") if role == "node" else ("--listen", "127.0.0.1:0")
        config = self.folder / place / f"{role}.yaml"
        program = Program(role, folder, "--config", str(config), *more)
        self._running.append(program)
        program.said("^(SOCKS5|Exit node) ")
        return program

    def stop(self) -> None:
        for program in reversed(self._running):
            program.stop()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def proxy_of(client: Program) -> tuple[str, int]:
    host, _, port = client.said(r"^SOCKS5 on (\S+),").rpartition(":")
    return host, int(port)


async def fetched(client: Program, url: str) -> bytes:
    """What curl gets through `client`."""
    (curl,) = needs("curl")
    host, port = proxy_of(client)
    process = await asyncio.create_subprocess_exec(
        *(curl, "-sS", "--max-time", "20", "-x", f"socks5h://{host}:{port}", url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.mark.timeout(120, method="thread")  # some fifteen programs start in it
async def test_a_network_begins_devices_join_and_one_is_removed(home: Home, tmp_path: Path) -> None:
    home.init()
    node = home.start("node", "home")
    said = home.bethrou(
        "join", home.invite("--name", "second", "--role", "node"), "server", "--listen", any_port()
    )
    assert "bethrou node start --config server/node.yaml" in said
    second = home.start("node", "server")
    # the laptop has the link from standard input, and hears of the second node
    link = (tmp_path / home.invite("--name", "laptop")).read_bytes()
    joined = subprocess.run(
        argv("bethrou", "join", "-", "laptop"), cwd=tmp_path, input=link, capture_output=True, check=True
    ).stdout.decode()
    assert "bethrou client start --config laptop/client.yaml" in joined
    assert "curl -x socks5h://127.0.0.1:1080 https://example.com/" in joined
    assert "second" in joined
    laptop = home.start("client", "laptop")
    await laptop.logged("exit up", count=2)
    (tmp_path / "web").mkdir()
    with web_server(PAGE, tmp_path / "web") as web:
        assert await fetched(laptop, f"http://127.0.0.1:{web.http}/payload") == bytes(PAGE)

    def told() -> str:
        done = run("bethrou", "members", "list", "home", "--json", cwd=home.folder)
        return (
            "" if done.returncode else done.stdout
        )  # a moment may pass until the second node's address is known

    listed = json.loads(await asyncio.to_thread(wait_until, told))
    assert {entry["name"] for entry in listed["members"]} >= {"second", "laptop"}
    names = {entry["name"] for entry in listed["members"]} - {"laptop"}
    async with target(endless()) as download, AsyncExitStack() as stack:
        # a download under way at each node
        for name in names:
            app = await stack.enter_async_context(
                application(proxy_of(laptop), download.host, download.port, user=(f"exit={name}", "-"))
            )
            await app.receive(1_000_000)
        assert download.open_visits == 2
        assert "laptop is removed: list 2" in home.bethrou("members", "remove", "laptop", "home")
        began = time.monotonic()
        await until(lambda: download.open_visits == 0, SOON)
        assert time.monotonic() - began < SOON
    assert (await laptop.logged("this device was removed"))["level"] == "warn"
    with pytest.raises(AssertionError, match=r"\(\d\)"):
        await fetched(laptop, "http://127.0.0.1:9/")
    for program in (node, second):
        assert program.lines_of("not a member: link closed")
    audit = [json.loads(line) for line in (tmp_path / "home" / "audit.log").read_text().splitlines()]
    assert [entry["what"] for entry in audit] == [
        *("network made", "invited", "joined", "invited", "joined", "removed")
    ]

    # neither the removed device nor anybody else comes back by any of these links
    (tmp_path / "link").write_bytes(link)
    assert "removed" in home.refused("join", "link", "elsewhere")
    # a device that is the same, with the keys it had, is out, too
    (tmp_path / "laptop" / "client.yaml").unlink()
    assert "removed" in home.refused("join", "link", "laptop")
    assert (tmp_path / "laptop" / "device.key").exists()


def test_a_slip_is_one_line_and_writes_nothing(home: Home, tmp_path: Path) -> None:
    assert "--listen" in home.refused("init", "x", "--listen", "nowhere")
    assert "no operator.key" in home.refused("invite")
    assert not list(tmp_path.iterdir())


def test_the_link_is_in_no_log_and_no_other_process(home: Home, tmp_path: Path) -> None:
    """Joining starts no other program, and what nodes log has no part of the link."""
    home.init()
    node = home.start("node", "home")
    link = home.invite()
    home.bethrou("join", link, "laptop")
    secret = (tmp_path / link).read_text().strip()
    key = (tmp_path / "home" / "network.key").read_text().split()[-1]
    written = "".join(path.read_text(errors="replace") for path in node.folder.iterdir())
    written += (tmp_path / "home" / "audit.log").read_text()
    assert "member joined" in written
    assert not any(part in written for part in (key, secret[20:60], secret[-60:]))
    assert not Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
