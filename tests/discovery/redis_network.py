"""What tests of discovery through Redis share: configurations, listeners, and our programs' ends of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bethrou.config import DiscoveryConfig
from bethrou.discovery.redis_address import redis_address
from bethrou.discovery.redis_connection import RedisServer as Server
from bethrou.discovery.redis_pubsub import RedisPubSub
from live.redis_server import RedisServer
from live.waiting import until
from net.leftovers import nothing_left

TOPIC = "bethrou/test"
SECRET = "s3cr3t-of-the-test"


def discovery(server: RedisServer, **options: Any) -> DiscoveryConfig:
    """A configuration that names `server`."""
    values: dict[str, Any] = {"enabled": True, "address": server.url, **options}
    if server.tls is not None:
        values.setdefault("ca", server.tls.ca)
    return DiscoveryConfig.model_validate(values)


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
    """Our end of a subscription for the length of a block; nothing may be left of it."""
    loop, box = asyncio.get_running_loop(), Mailbox()
    config = discovery(server, **options)
    async with nothing_left():
        where = Server(loop, redis_address(config), config.ca)
        pubsub = RedisPubSub(loop, where, channels, box, random.Random(1))
        pubsub.start()
        try:
            yield Line(pubsub, box)
        finally:
            await pubsub.close()
