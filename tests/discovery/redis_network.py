"""What tests of discovery through Redis share: configurations, listeners, and our programs' ends of it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bethrou.config import DiscoveryConfig
from bethrou.discovery.redis_address import redis_address
from bethrou.discovery.redis_connection import RedisServer as Server
from bethrou.discovery.redis_presence import RedisPresence
from bethrou.discovery.redis_pubsub import RedisPubSub
from bethrou.discovery.redis_source import RedisSource
from bethrou.discovery.source import Sighting
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.announcement import AnnouncementKeys, encode_presence
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord, RecordCache
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey
from live.redis_server import RedisServer, Wiretap
from live.waiting import until
from net.clock import SkippingLoop, turns

TOPIC = "bethrou/test"
SECRET = "s3cr3t-of-the-test"
KEY = NetworkKey.generate(lambda size: bytes(range(size)))
KEYS = AnnouncementKeys(KEY)

_STEP = 2.0  # seconds: less than any wait for Redis


def discovery(server: RedisServer, **options: Any) -> DiscoveryConfig:
    """A configuration that names `server`."""
    values: dict[str, Any] = {"enabled": True, "address": server.url, **options}
    if server.tls is not None:
        values.setdefault("ca", server.tls.ca)
    return DiscoveryConfig.model_validate(values)


async def pass_time(seconds: float, others: Wiretap) -> None:
    """Let time pass on a loop where it can be skipped; Redis has its turns, too."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        loop.skip(min(left, _STEP))
        await turns()
        # Whoever was before us at Redis has had its answer when we have ours.
        await others.publish("tick", b"")
        await turns()


class Mailbox:
    """A subscriber that keeps what comes."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.subscriptions: list[bool] = []
        """For each whether it was one `again`."""

    def subscribed(self, again: bool) -> None:
        self.subscriptions.append(again)

    def received(self, data: bytes) -> None:
        self.messages.append(data)


class Line:
    """A `RedisPubSub` and its mailbox."""

    def __init__(self, pubsub: RedisPubSub, box: Mailbox) -> None:
        self.pubsub = pubsub
        self.box = box

    @property
    def detail(self) -> str:
        assert SECRET not in self.pubsub.detail
        return self.pubsub.detail

    async def up(self, times: int = 1) -> None:
        """Wait until it is subscribed, for the so-manieth time."""
        await until(lambda: self.pubsub.up and len(self.box.subscriptions) >= times, what=lambda: self.detail)

    async def down(self) -> None:
        await until(lambda: not self.pubsub.up)


@asynccontextmanager
async def line(
    server: RedisServer, channels: Sequence[str] = (TOPIC,), **options: Any
) -> AsyncIterator[Line]:
    """Our end of a subscription for the length of a block."""
    loop, box = asyncio.get_running_loop(), Mailbox()
    config = discovery(server, **options)
    where = Server(loop, redis_address(config), config.ca)
    pubsub = RedisPubSub(loop, where, channels, box, random.Random(1))
    pubsub.start()
    try:
        yield Line(pubsub, box)
    finally:
        await pubsub.close()


class Notebook:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.seen_all: list[Sighting] = []
        self.gone_all: list[PeerId] = []

    def seen(self, sighting: Sighting) -> None:
        self.seen_all.append(sighting)

    def gone(self, source: str, peer: PeerId) -> None:
        assert source == "redis"
        self.gone_all.append(peer)

    async def sighting(self, number: int = 1) -> Sighting:
        """The so-manieth sighting."""
        await until(lambda: len(self.seen_all) >= number)
        return self.seen_all[number - 1]


class Statement:
    """What a node says of itself: `record` for `RedisPresence`."""

    def __init__(self, identity: Identity, *addresses: str, name: str = "alpha") -> None:
        self.identity = identity
        self.peer = identity.peer_id
        self.name = name
        self._sealed: tuple[int, bytes] | None = None
        self.say(*addresses)

    def say(self, *addresses: str) -> None:
        """From now on it is at these addresses."""
        seq = time.time_ns()
        addrs = tuple(map(Multiaddr.parse, addresses))
        record = NodeRecord(self.peer, seq, seq // 10**9 + 3600, addrs, self.name, ("eu",), agent="test/1")
        self._sealed = seq, record.seal(self.identity)

    def say_nothing(self) -> None:
        self._sealed = None

    def __call__(self) -> tuple[int, bytes] | None:
        return self._sealed

    @property
    def envelope(self) -> bytes:
        assert self._sealed is not None
        return self._sealed[1]

    @property
    def seq(self) -> int:
        assert self._sealed is not None
        return self._sealed[0]


def statement(*addresses: str, name: str = "alpha") -> Statement:
    """What a node with a new identity says of itself."""
    return Statement(Identity.generate(os.urandom), *(addresses or ("/ip4/8.8.8.8/tcp/4000",)), name=name)


def presence_of(
    said: Statement, seq: int | None = None, ttl: float = 45, keys: AnnouncementKeys = KEYS
) -> bytes:
    """A presence of that node."""
    return encode_presence(said.peer, said.seq if seq is None else seq, ttl, said.envelope, keys)


class Client:
    """A `RedisSource` and its listener."""

    def __init__(self, source: RedisSource, notes: Notebook) -> None:
        self.source = source
        self.notes = notes

    @property
    def snapshot(self) -> SourceSnapshot:
        return self.source.snapshot()

    async def up(self) -> None:
        await until(lambda: self.snapshot.ok, what=lambda: self.snapshot.detail)

    async def counted(self, heard: int, skipped: int) -> None:
        """Wait until it has taken, and passed over, so many messages."""
        await until(
            lambda: (self.snapshot.heard, self.snapshot.skipped) == (heard, skipped),
            what=lambda: self.snapshot,
        )


@asynccontextmanager
async def client(
    server: RedisServer, time_ns: Callable[[], int] = time.time_ns, **options: Any
) -> AsyncIterator[Client]:
    """A client's end for the length of a block."""
    loop, notes = asyncio.get_running_loop(), Notebook()
    options.setdefault("topic", TOPIC)
    source = RedisSource(
        loop,
        discovery(server, **options),
        KEY,
        notes,
        time_ns,
        random.Random(1),
        os.urandom,
        RecordCache(),
    )
    source.start()
    try:
        yield Client(source, notes)
    finally:
        await source.close()


class Node:
    """A `RedisPresence`, what it has to say, and its listener."""

    def __init__(self, presence: RedisPresence, says: Statement, notes: Notebook) -> None:
        self.presence = presence
        self.says = says
        self.notes = notes

    async def up(self) -> None:
        await until(lambda: self.presence.snapshot().ok, what=lambda: self.presence.snapshot().detail)


@asynccontextmanager
async def node(server: RedisServer, says: Statement | None = None, **options: Any) -> AsyncIterator[Node]:
    """A node's end for the length of a block."""
    loop, notes, says = asyncio.get_running_loop(), Notebook(), says or statement()
    options.setdefault("topic", TOPIC)
    presence = RedisPresence(
        loop,
        discovery(server, **options),
        KEY,
        says.peer,
        says,
        notes,
        time.time_ns,
        random.Random(1),
        os.urandom,
        RecordCache(),
    )
    presence.start()
    try:
        yield Node(presence, says, notes)
    finally:
        await presence.close()
