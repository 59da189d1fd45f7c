"""A control that notes what is asked of it, served over a real Unix socket, and curl to ask it with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bethrou.errors import ConfigError, NotOffered
from bethrou.events import Emit, LinkOpened, RequestEnded
from bethrou.net.listener import Acceptor
from bethrou.net.tasks import Tasks
from bethrou.ops.control import Metrics
from bethrou.ops.control_server import ControlServer
from bethrou.ops.event_feed import EventFeed
from bethrou.snapshots import (
    CandidateSnapshot,
    ConnectionSnapshot,
    ExitSnapshot,
    LoadSnapshot,
    NatSnapshot,
    ReachabilitySnapshot,
    SourceSnapshot,
    StatusSnapshot,
    WhySnapshot,
)
from conftest import needs

PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
NOW = 1_795_428_000.125

EXIT = ExitSnapshot(
    id=PEER,
    name="berlin",
    tags=("eu",),
    state="healthy",
    reason="",
    since=61.0,
    round_trip=0.0123,
    path="direct",
    address="/ip4/192.0.2.7/tcp/4000",
    addresses=("/ip4/192.0.2.7/tcp/4000",),
    sources=("static",),
    streams=2,
    load=LoadSnapshot(7, 0.25, None),
)
STATUS = StatusSnapshot(
    role="client",
    version="0.1.0",
    id="12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU",
    network="dc6bbab0846474c86c5ab90063ef7193",
    uptime=3661.5,
    draining=False,
    listening=("127.0.0.1:1080",),
    connections=2,
    strategy="random",
    exits=(EXIT,),
    sources=(SourceSnapshot("redis", True, "listening", 1, 5, 0, 2.5),),
)
CONNECTION = ConnectionSnapshot("00112233445566aa", "example.com:443", PEER, "ann", 517, 40_960, 12.5, 0.25)
WHY = WhySnapshot(
    "example.com:443",
    "",
    "exit",
    "random",
    (CandidateSnapshot(PEER, "berlin", 1, "the only one that is up", 0.0123, "healthy"),),
)
REACHABILITY = ReachabilitySnapshot(
    addresses=(),
    checked=None,
    own=("/ip4/192.0.2.9/tcp/4000",),
    nat=NatSnapshot("unknown", (), 0),
    clocks=(),
    punching=True,
    punchable=(),
    punches=(),
    ways=(),
    relays=(),
)
OPENED = LinkOpened(PEER, "/ip4/192.0.2.7/tcp/4000", "direct", False)
ENDED = RequestEnded("00112233445566aa", PEER, "example.com:443", "ok", "", 517, 4096, 0.5, "ann")


@dataclass
class Recorder:
    """The double of a running client: says what it is told to say, and notes what is asked."""

    now: StatusSnapshot = STATUS
    open: list[ConnectionSnapshot] = field(default_factory=lambda: [CONNECTION])
    changes: list[str] = field(default_factory=list)
    bad_file: str = ""
    offers_why: bool = True
    asked: list[Any] = field(default_factory=list)
    feed: EventFeed = field(default_factory=lambda: EventFeed(lambda event: None))
    subscribers: int = 0

    def status(self) -> StatusSnapshot:
        return self.now

    def connections(self) -> Sequence[ConnectionSnapshot]:
        return self.open

    def why(self, host: str, port: int, user: str) -> WhySnapshot:
        self.asked.append(("why", host, port, user))
        if not self.offers_why:
            raise NotOffered("a node chooses no exits")
        return WHY

    async def reachability(self) -> ReachabilitySnapshot:
        self.asked.append("reachability")
        return REACHABILITY

    async def reload(self) -> Sequence[str]:
        self.asked.append("reload")
        if self.bad_file:
            raise ConfigError(self.bad_file)
        return self.changes

    def drain(self) -> None:
        self.asked.append("drain")

    def close_connection(self, id: str) -> bool:  # noqa: A002
        self.asked.append(("close", id))
        return any(connection.id == id for connection in self.open)

    def subscribe(self, callback: Emit) -> Callable[[], None]:
        unsubscribe = self.feed.subscribe(callback)
        self.subscribers += 1

        def end() -> None:
            self.subscribers -= 1
            unsubscribe()

        return end


@dataclass(frozen=True)
class Reply:
    """What curl was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of an error."""
        (text,) = self.json.values()
        assert list(self.json) == ["error"]
        return str(text)


class Served:
    """A control server at work, and its clients."""

    def __init__(self, path: Path, control: Recorder, uid: int, metrics: Metrics | None) -> None:
        self.path = path
        self.control = control
        loop = asyncio.get_running_loop()
        self.tasks = Tasks(loop)
        self._server = ControlServer(control, self.tasks, uid, lambda: NOW, metrics)
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.bind(str(path))
        sock.listen(128)
        self._acceptor = Acceptor(loop, sock, self._server.accept, lambda short: None)

    async def curl(self, path: str, *options: str, user: int | None = None) -> Reply:
        """Ask with curl, as `user` if one is given."""
        (curl,) = needs("curl")
        done = await asyncio.to_thread(
            subprocess.run,
            [curl, "-sSi", "--unix-socket", str(self.path), *options, f"http://localhost{path}"],
            capture_output=True,
            check=True,
            timeout=20,
            user=user,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Reply(int(first.split()[1]), headers, body)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        """End it as a program does."""
        self._acceptor.close()
        await self.tasks.close()
        self._server.close()
        self.path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def served(
    path: Path, control: Recorder | None = None, uid: int | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Served]:
    """A control served at the socket `path` for the length of a block."""
    server = Served(path, control or Recorder(), os.getuid() if uid is None else uid, metrics)
    try:
        yield server
    finally:
        await server.close()
        assert len(server.tasks) == 0
        assert server.control.subscribers == 0


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The status and the JSON of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    (length,) = [
        int(line.split(": ")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")
    ]
    return int(head.split()[1]), json.loads(await reader.readexactly(length))
