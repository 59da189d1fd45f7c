"""A network whose members find each other through Redis, and what its programs say through their control sockets.

Programs take their time to start: that happens in threads, so that the load goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bethrou.cli.control_client import ControlClient
from bethrou.cli.control_path import find_socket
from bethrou.snapshots import SourceSnapshot, StatusSnapshot
from live.processes import ClientProgram, NodeProgram, Programs
from live.redis_server import RedisServer
from live.waiting import PATIENCE, until


class Network:
    """Starts members that are told of one Redis and of nothing else."""

    def __init__(self, started: Programs, redis: RedisServer, folder: Path) -> None:
        self.started = started
        self.redis = redis
        self._folder = folder

    async def node(self, *arguments: str, **options: Any) -> NodeProgram:
        """A node that announces itself."""
        node: NodeProgram = await asyncio.to_thread(
            self.started.node, *self.discovering, *arguments, **options
        )
        return node

    async def again(self, node: NodeProgram, *arguments: str) -> NodeProgram:
        """The same after its end."""
        return await asyncio.to_thread(self.started.again, node, *self.discovering, *arguments)

    @property
    def discovering(self) -> tuple[str, ...]:
        """A node's options."""
        return "--discover", "--discover-address", self.redis.url

    async def client(self, exits: int, **config: Any) -> ClientProgram:
        """A client that has found so many exits."""
        settings = {"discovery": self.discovery, **config}
        client: ClientProgram = await asyncio.to_thread(self.started.client_of, [], **settings)
        await client.connected(exits)
        return client

    @property
    def discovery(self) -> dict[str, Any]:
        """A client's block `discovery`."""
        return {"enabled": True, "address": self.redis.url}

    async def members(self, count: int, **config: Any) -> tuple[list[NodeProgram], ClientProgram]:
        """So many nodes, and a client that has found them all."""
        nodes = await asyncio.gather(*(self.node("--instance", str(number)) for number in range(count)))
        return nodes, await self.client(count, **config)

    @property
    def state(self) -> Path:
        """Where the programs' states are."""
        return self._folder / "bethrou"


async def status(folder: Path) -> StatusSnapshot:
    """What the program whose state is in `folder` says of itself."""
    return await asyncio.to_thread(ControlClient(find_socket(folder)).status)


async def until_status(
    folder: Path, fits: Callable[[StatusSnapshot], object], timeout: float = PATIENCE
) -> StatusSnapshot:
    """The first status that fits."""
    seen: list[StatusSnapshot] = []

    async def look() -> None:
        while not seen or not fits(seen[-1]):
            seen.append(await status(folder))

    looking = asyncio.ensure_future(look())
    try:
        await until(looking.done, timeout, lambda: seen[-1:])
        await looking
    finally:
        looking.cancel()
    return seen[-1]


def source_of(snapshot: StatusSnapshot, name: str) -> SourceSnapshot:
    """What the status says of one source."""
    (found,) = (source for source in snapshot.sources if source.name == name)
    return found


def state_of(snapshot: StatusSnapshot, node: NodeProgram) -> str:
    """What a client's status says of an exit; "" when it does not know it."""
    return next((exit_.state for exit_ in snapshot.exits if exit_.id == node.id), "")
