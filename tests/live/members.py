"""Nodes and clients of ours inside the test's own loop, where their links and streams can be counted."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from bethrou.assembly.running_client import RunningClient
from bethrou.assembly.running_node import RunningNode
from bethrou.config import ClientConfig, node_config
from bethrou.events import Event
from bethrou.net.link import Link
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from live.waiting import PATIENCE, until

Kind = TypeVar("Kind")


class Events:
    """What a member tells, kept in order."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.all.append(event)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind so far."""
        return [event for event in self.all if isinstance(event, kind)]

    async def wait(
        self,
        kind: type[Kind],
        fits: Callable[[Kind], bool] = lambda event: True,
        timeout: float = PATIENCE,
    ) -> Kind:
        """The first event of `kind` that fits, past ones included."""

        def found() -> list[Kind]:
            return [event for event in self.of(kind) if fits(event)]

        return (await until(found, timeout, lambda: f"{kind.__name__}, among {self.all}"))[0]


class Node:
    """A node of ours."""

    def __init__(self, app: RunningNode, events: Events) -> None:
        self.app = app
        self.events = events

    @property
    def address(self) -> str:
        """Where it listens, with its peer ID."""
        return str(self.app.reachable_at[0])

    @property
    def streams(self) -> int:
        """Streams open on all its links."""
        return sum(link.stream_count for link in self.links)

    @property
    def links(self) -> list[Link]:
        return [link for links in self.app.host.links.values() for link in links]


class Client:
    """A client of ours."""

    def __init__(self, app: RunningClient, events: Events) -> None:
        self.app = app
        self.events = events
        self.proxy = app.socks_address

    def link_to(self, peer: str) -> Link:
        """Its link to an exit."""
        link = self.app.core.pool.exits[peer].link
        assert link is not None
        return link

    async def connected(self, *peers: str, timeout: float = PATIENCE) -> None:
        """Wait until requests can be sent to `peers` (none: to all exits)."""
        exits = self.app.core.pool.exits
        wanted = peers or tuple(exits)
        await until(
            lambda: all(exits[peer].usable for peer in wanted),
            timeout,
            lambda: f"links, among {self.events.all}",
        )


@contextlib.asynccontextmanager
async def running_node(
    key: NetworkKey,
    *,
    listen: str | Sequence[str] = "/ip4/127.0.0.1/tcp/0",
    allow: Sequence[str] = ("127.0.0.0/8",),
    identity: Identity | None = None,
    **options: Any,
) -> AsyncIterator[Node]:
    """A node for the length of a block; afterwards nothing of it is left."""
    events = Events()
    config = node_config(
        {"listen": [listen] if isinstance(listen, str) else list(listen), "allow": list(allow), **options}
    )
    app = RunningNode(
        asyncio.get_running_loop(), config, key, identity or Identity.generate(os.urandom), events
    )
    try:
        yield Node(app, events)
    finally:
        await app.close()


@contextlib.asynccontextmanager
async def running_client(
    key: NetworkKey, addresses: Sequence[str | Sequence[str]], *, wait: bool = True, **options: Any
) -> AsyncIterator[Client]:
    """A client of the exits at `addresses` (with peer IDs) for the length of a block, connected if `wait`.

    An exit with several addresses has a list of them.
    An application's end is held back from 1.0.0 exits for a moment only, unless `half_close_wait` says otherwise.
    """
    events = Events()
    options.setdefault("half_close_wait", "200ms")
    nodes = [{"addrs": [each] if isinstance(each, str) else each} for each in addresses]
    config = ClientConfig.model_validate({"server": {"listen": "127.0.0.1:0"}, "nodes": nodes, **options})
    app = RunningClient(asyncio.get_running_loop(), config, key, Identity.generate(os.urandom), events)
    try:
        client = Client(app, events)
        if wait:
            await client.connected()
        yield client
    finally:
        await app.close()
