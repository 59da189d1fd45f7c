"""Programs as users run them, each on a machine of its own in an Internet in a box, and curl that tells how it went."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import needs
from e2e.web import Web, web_server
from live.namespaces import Internet, Namespace
from live.payload import Payload
from live.processes import ClientProgram, NodeProgram, Programs, programs
from live.waiting import PATIENCE, until

LISTEN = "/ip4/0.0.0.0/tcp/4001"
DESTINATION = "5.5.0.99"
"""Where the web server is."""

PAGE = b"A page that fits into one packet.\n"

ALONE = {"members": False}
"""Discovery of a client that is to know only what it is told: relays tell of addresses inside of homes."""

_TIMES = "%{stderr}\\ntimes %{time_starttransfer} %{time_total}\\n"


@dataclass(frozen=True)
class Fetched:
    """What became of one curl."""

    status: int
    """curl's: 0 done, 18 ended too early, 56 reset, 97 refused by the proxy."""
    first_byte: float
    """Seconds from its start to the first byte of the answer; 0 when none came."""
    seconds: float
    size: int
    sha256: str
    error: str
    """What curl said."""

    @property
    def is_page(self) -> bool:
        """Whether the page has come as it is."""
        return self.status == 0 and self.sha256 == hashlib.sha256(PAGE).hexdigest()


class Transfer:
    """A curl that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.received = 0
        """Bytes that it has written so far."""
        self.done = asyncio.create_task(self._finish(process))

    async def _finish(self, process: asyncio.subprocess.Process) -> Fetched:
        assert process.stdout is not None
        assert process.stderr is not None
        digest = hashlib.sha256()
        while data := await process.stdout.read(1 << 16):
            digest.update(data)
            self.received += len(data)
        said = (await process.stderr.read()).decode()
        first, total = map(float, re.findall(r"^times (\S+) (\S+)$", said, re.MULTILINE)[-1])
        words = said.partition("\ntimes")[0].strip()
        return Fetched(await process.wait(), first, total, self.received, digest.hexdigest(), words)


class Machine:
    """A client with the machine that it runs on."""

    def __init__(
        self, town: Town, place: Namespace, program: ClientProgram, exit_: NodeProgram, name: str
    ) -> None:
        self.place = place
        self.program = program
        self.payload = town.payload
        self._town = town
        self._exit = exit_
        self._name = name

    def curl_command(self, path: str, *options: str) -> list[str]:
        """curl on this machine, through the proxy, to `path` of the web server."""
        (curl,) = needs("curl")
        proxy = f"socks5h://{self.program.proxy[0]}:{self.program.proxy[1]}"
        url = f"http://{DESTINATION}:{self._town.web.http}{path}"
        return self.place.command(curl, "-sS", "--fail", "-w", _TIMES, "-x", proxy, *options, url)

    @contextlib.asynccontextmanager
    async def curl_running(self, path: str, *options: str) -> AsyncIterator[Transfer]:
        """A curl while it runs; it is killed if the block ends sooner."""
        process = await asyncio.create_subprocess_exec(
            *self.curl_command(path, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        transfer = Transfer(process)
        try:
            yield transfer
        finally:
            if process.returncode is None:
                process.kill()
            await asyncio.gather(transfer.done, return_exceptions=True)

    async def curl(self, path: str, *options: str) -> Fetched:
        """Run one to its end."""
        async with self.curl_running(path, *options) as transfer:
            return await transfer.done

    async def page(self) -> Fetched:
        """A small page; what came is right."""
        got = await self.curl("/page.txt")
        assert got.is_page, got
        return got

    async def page_again(self, patience: float) -> tuple[Fetched, list[Fetched]]:
        """Ask for a page until it comes, within so many seconds: the one that came, and those that failed before.

        What comes is right or an error.
        """
        failed: list[Fetched] = []
        async with asyncio.timeout(patience):
            while not (got := await self.curl("/page.txt")).is_page:
                assert got.status, got
                failed.append(got)
        return got, failed

    async def transfers(self) -> tuple[Fetched, Fetched]:
        """The web server's payload down, and then up; both hashes are right."""
        payload = self.payload
        down = await self.curl("/payload")
        assert (down.status, down.size, down.sha256) == (0, payload.size, payload.sha256), down
        up = await self.curl("/hash", "-T", str(self._town.payload_file))
        assert (up.status, up.sha256) == (0, hashlib.sha256(payload.sha256.encode()).hexdigest()), up
        return down, up

    async def status(self) -> dict[str, Any]:
        """What `bethrou status` says of the exit."""
        command = [sys.executable, "-m", "bethrou.cli.main", "status", "--client", "--instance", self._name]
        process = await asyncio.create_subprocess_exec(
            *command,
            "--json",
            env={**os.environ, "XDG_STATE_HOME": str(self.program.folder.parent)},
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
        (exit_,) = json.loads(out)["exits"]
        return dict(exit_)

    async def path(self) -> str:
        """How it reaches its exit now: circuit or direct."""
        return str((await self.status())["path"])

    async def takes(self, path: str) -> None:
        """Wait until requests take this path to the exit."""
        async with asyncio.timeout(PATIENCE):
            while await self.path() != path:
                continue

    def ways(self, path: str) -> list[dict[str, Any]]:
        """The log's lines of links to the exit that have come up by this path. (It has links to relays, too.)"""
        return self.program.lines_of("exit up", path=path, exit=self._exit.short)

    async def up(self, path: str, count: int = 1) -> dict[str, Any]:
        """Wait until so many links to the exit have come up by this path; the line of the last."""
        lines = await until(lambda: (found := self.ways(path)) and len(found) >= count and found)
        return dict(lines[count - 1])


class Town:
    """Relays, exits, clients and one web server. All in one private network, none where another one is."""

    def __init__(self, internet: Internet, started: Programs, folder: Path, payload: Payload) -> None:
        self.payload = payload
        self.payload_file = folder / "payload"
        self.payload_file.write_bytes(bytes(payload))
        self.web: Web
        self._internet = internet
        self._started = started
        self._clients = 0
        self._places: dict[NodeProgram, Namespace] = {}

    @contextlib.contextmanager
    def web_at(self, folder: Path) -> Iterator[None]:
        """Have the web server for the length of a block."""
        folder.mkdir()
        (folder / "page.txt").write_bytes(PAGE)
        place = self._internet.host(DESTINATION)
        served = web_server(self.payload, folder, DESTINATION)
        self.web = place.within(served.__enter__)
        try:
            yield
        finally:
            served.__exit__(None, None, None)

    def relay(self, address: str = "5.5.0.1") -> NodeProgram:
        """A relay with a public address."""
        return self._node(self._internet.host(address), "--relay-mode", "--no-exit")

    def exit(self, place: Namespace, *relays: NodeProgram) -> NodeProgram:
        """An exit at `place` that is reached through `relays`."""
        options = [option for relay in relays for option in ("--connect-relay", relay.address)]
        return self._node(place, *options)

    def again(self, relay: NodeProgram) -> NodeProgram:
        """A relay that has ended, on the machine where it was."""
        place = self._places[relay]
        options = {"listen": LISTEN, "host": place.address, "within": place.command()}
        started = self._started.again(relay, "--relay-mode", "--no-exit", **options)
        self._places[started] = place
        return started

    def client(self, place: Namespace, exit_: NodeProgram, *relays: NodeProgram, **config: Any) -> Machine:
        """A client at `place` that knows `exit_` behind `relays`; `config` is more of its client.yaml."""
        addresses = [f"{relay.address}/p2p-circuit/p2p/{exit_.id}" for relay in relays]
        self._clients += 1
        name = f"client-of-town-{self._clients}"
        program = self._started.client_of(
            [],
            *("--log-level", "debug", "--instance", name),
            within=place.command(),
            nodes=[{"addrs": addresses}],
            discovery=ALONE,
            **config,
        )
        return Machine(self, place, program, exit_, name)

    def _node(self, place: Namespace, *arguments: str) -> NodeProgram:
        options = {"listen": LISTEN, "host": place.address, "within": place.command()}
        node = self._started.node("--log-level", "debug", *arguments, **options)
        self._places[node] = place
        return node


@contextlib.contextmanager
def town(internet: Internet, folder: Path, payload: Payload) -> Iterator[Town]:
    """One for the length of a block, with its web server."""
    with programs(folder) as started:
        made = Town(internet, started, folder, payload)
        with made.web_at(folder / "web"):
            yield made


async def reserved(exit_: NodeProgram, count: int = 1) -> None:
    """Wait until an exit can be reached through so many relays, or again for so many times."""
    await exit_.logged("reachable through relay", count=count)


async def circuits_over(relay: NodeProgram, count: int) -> list[dict[str, Any]]:
    """Wait until so many circuits have ended at a relay; their lines."""
    return await until(lambda: (lines := relay.lines_of("circuit")) and len(lines) >= count and lines)
