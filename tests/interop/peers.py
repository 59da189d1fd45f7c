"""Peers as processes: started, listened to, told what to do (README.md has their events and commands)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from conftest import missing, needs
from live.namespaces import Namespace
from live.waiting import PATIENCE

Line = dict[str, Any]

_BUILD = Path(__file__).with_name("build")
MISSING = 3
"""Status of a build that is impossible here, or that takes too long to be done now."""
TOOLS = {"go-v0.42": "go", "go-newest": "go", "js": "node", "rust": "rust"}
"""What each peer needs, as BETHROU_REQUIRE names it."""


@functools.cache
def built(name: str) -> tuple[int, str]:
    """Status of the build, and the runnable or what went wrong. Rust's takes minutes, so that is done beforehand."""
    options = ["--cached"] if name == "rust" else []
    done = subprocess.run(
        [sys.executable, _BUILD, *options, name], check=False, capture_output=True, text=True
    )
    if done.returncode:
        return done.returncode, done.stderr.strip()
    return 0, done.stdout.strip().partition("\t")[2]


def runnable(name: str) -> str:
    """The peer's program, built if need be. Skips the test where that is impossible."""
    if name == "js":
        needs("node")  # to run it, also when it was built already
    status, text = built(name)
    if status == MISSING:
        missing(TOOLS[name], text)
    assert status == 0, text
    return text


class Peer:
    """One process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, identity: Identity) -> None:
        self.standing = 1 if name == "rust" else 0
        """Streams that it keeps open on each link: rust-libp2p pings on one for ever."""
        self.identity = identity
        self.id = str(identity.peer_id)
        self.lines: list[Line] = []
        """Events so far."""
        self._process = process
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[Line]] = {}
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())
        self._complaints: list[str] = []
        self._listening = asyncio.create_task(self._collect_complaints())

    async def event(
        self, name: str, fits: Callable[[Line], bool] = lambda line: True, timeout: float = PATIENCE
    ) -> Line:
        """The first event of this name that fits, past ones included."""

        def found() -> Line | None:
            return next((line for line in self.events(name) if fits(line)), None)

        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: found() or self._reading.done())
        except TimeoutError:
            pass
        line = found()
        assert line is not None, f"no {name} among {self.lines} {''.join(self._complaints)}"
        return line

    def events(self, name: str) -> list[Line]:
        """All events of this name so far."""
        return [line for line in self.lines if line.get("event") == name]

    @property
    def address(self) -> str:
        """Where an exit listens, with its peer ID."""
        address: str = self.events("listening")[0]["addrs"][0]
        return address

    async def command(self, cmd: str, /, timeout: float = 60.0, **arguments: Any) -> Line:
        """Have a client do something; its answer."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        text = json.dumps({"id": number, "cmd": cmd, "timeout": timeout, **arguments})
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(timeout + PATIENCE):
            return await self._answers[number]

    async def stop(self) -> None:
        """End the process, by force if need be."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(self._reading, self._listening)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for text in self._process.stdout:
            line = json.loads(text)
            if "event" in line:
                async with self._arrived:
                    self.lines.append(line)
                    self._arrived.notify_all()
            else:
                self._answers.pop(line["id"]).set_result(line)
        for waiting in self._answers.values():
            waiting.set_exception(AssertionError(f"the peer has ended: {''.join(self._complaints)}"))
        async with self._arrived:
            self._arrived.notify_all()

    async def _collect_complaints(self) -> None:
        assert self._process.stderr is not None
        async for text in self._process.stderr:
            self._complaints.append(text.decode())


class Peers:
    """Starts the peers of one test and ends them with it. `folder` holds the network key."""

    def __init__(self, key: NetworkKey, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._numbers = itertools.count(1)
        self.key_file = self.write_key(key)

    def write_key(self, key: NetworkKey) -> Path:
        """A key file that peers can read."""
        path = self._folder / f"{key.fingerprint[:8]}.key"
        path.write_bytes(key.format())
        return path

    async def exit(
        self,
        name: str,
        *options: str,
        listen: str = "/ip4/127.0.0.1/tcp/0",
        key_file: Path | None = None,
        like: Peer | None = None,
        within: Namespace | None = None,
    ) -> Peer:
        """A peer that serves proxy requests, listening; with the identity of `like`."""
        identity = like.identity if like else None
        options = ("--listen", listen, *options)
        peer = await self._start(name, "exit", *options, key_file=key_file, identity=identity, within=within)
        await peer.event("listening")
        return peer

    async def discoverable_exit(
        self,
        name: str,
        redis: str,
        *options: str,
        topic: str | None = None,
        listen: str = "/ip4/127.0.0.1/tcp/0",
    ) -> Peer:
        """An exit that answers on `topic` (None: its peer ID), subscribed at the server `redis`."""
        topics = ("--discover-topic", topic) if topic else ()
        peer = await self.exit(name, "--discover-address", redis, *topics, *options, listen=listen)
        await peer.event("discoverable")
        return peer

    async def discovering_client(self, name: str, redis: str, topic: str, *options: str) -> Peer:
        """A peer that asks on `topic` for exits and connects to those that answer."""
        asked = ("--discover-address", redis, "--discover-topic", topic)
        return await self._start(name, "client", *asked, *options, key_file=None)

    async def client(
        self,
        name: str,
        address: str,
        *options: str,
        key_file: Path | None = None,
        within: Namespace | None = None,
    ) -> Peer:
        """A peer that dials `address`; its first event says whether it got through."""
        return await self._start(
            name, "client", "--dial", address, *options, key_file=key_file, within=within
        )

    async def connected_client(
        self, name: str, address: str, *options: str, within: Namespace | None = None
    ) -> Peer:
        """A peer that has dialled `address` and knows who is there."""
        peer = await self.client(name, address, *options, within=within)
        await peer.event("connected")
        return peer

    async def _start(
        self,
        name: str,
        role: str,
        *options: str,
        key_file: Path | None,
        identity: Identity | None = None,
        within: Namespace | None = None,
    ) -> Peer:
        identity = identity or Identity.from_seed(next(self._numbers).to_bytes(32, "big"))
        seed = identity.to_protobuf()[4:36].hex()
        key_options = ("--psk", str(key_file or self.key_file), "--identity-seed", seed)
        argv = [runnable(name), role, *key_options, *options]
        process = await asyncio.create_subprocess_exec(
            *(argv if within is None else within.command(*argv)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=1 << 20,
        )
        peer = Peer(name, process, identity)
        self._stack.push_async_callback(peer.stop)
        return peer


@contextlib.asynccontextmanager
async def open_peers(key: NetworkKey, folder: Path) -> AsyncIterator[Peers]:
    """Peers of one network for the length of a block."""
    async with contextlib.AsyncExitStack() as stack:
        yield Peers(key, folder, stack)


PEERS = ("go-v0.42", "go-newest", "js", "rust")
GO_PEERS = PEERS[:2]

each_peer = pytest.mark.parametrize("name", PEERS)
each_go_peer = pytest.mark.parametrize("name", GO_PEERS)
each_exit = pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in PEERS for mode in ("proper", "faithful")[: 1 + (name in GO_PEERS)]],
)
"""Every peer in every mode that it has."""
