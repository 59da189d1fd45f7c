"""Announcements through Redis, as clients and nodes have them alike: heard, believed, told to a listener; and made."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from bethrou.config import DiscoveryConfig
from bethrou.discovery.announced_exits import AnnouncedExits
from bethrou.discovery.announcement_reader import AnnouncementReader
from bethrou.discovery.redis_address import redis_address
from bethrou.discovery.redis_connection import RedisServer
from bethrou.discovery.redis_pubsub import RedisPubSub
from bethrou.discovery.source import Listener
from bethrou.net.tasks import Tasks
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.announcement import AnnouncementKeys, Request
from bethrou.wire.node_record import RecordCache
from bethrou.wire.peer_id import PeerId

SPREAD = 5.0
"""Seconds over which all who find Redis back speak up again, so that they do not do so in one moment."""


class Speaker(Protocol):
    """Whose announcements they are."""

    async def speak(self) -> None:
        """Say what there is to say, for ever. Begun anew at each subscription: what others said before is lost."""

    def asked(self, request: Request) -> None:
        """Somebody wants to know who is there."""


class RedisAnnouncements:
    """Hears what is said on `channels`, and tells `listener` of exits other than `me`.

    `now` is Unix time in seconds, `rng` spreads things in time. ConfigError at construction for an address or
    certificates that cannot be used.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: DiscoveryConfig,
        keys: AnnouncementKeys,
        channels: Sequence[str],
        me: PeerId | None,
        speaker: Speaker,
        listener: Listener,
        now: Callable[[], float],
        rng: random.Random,
        records: RecordCache,
    ) -> None:
        address = redis_address(config)
        server = RedisServer(loop, address, config.ca)
        self._loop = loop
        self._rng = rng
        self._speaker = speaker
        self._speaking: asyncio.Task[None] | None = None
        self._tasks = Tasks(loop)
        self._closing = False
        self._exits = AnnouncedExits(listener, me, now, address.is_loopback, records)
        self._reader = AnnouncementReader(loop, keys, self._exits, speaker.asked)
        self._pubsub = RedisPubSub(loop, server, channels, self, rng)

    @property
    def known(self) -> int:
        """Exits that are there now, as far as is known."""
        return self._exits.known

    @property
    def unproved(self) -> int:
        """Of these, exits that are known only because they answer: those of Go programs."""
        return self._exits.unproved

    def start(self) -> None:
        """Begin."""
        self._reader.start()
        self._pubsub.start()

    async def silence(self) -> None:
        """Have the speaker say no more, also when Redis is back after this."""
        self._closing = True
        await self._tasks.close()

    async def close(self) -> None:
        """End, with nothing left behind."""
        await self.silence()
        await self._pubsub.close()
        await self._reader.close()

    async def publish(self, channel: str, data: bytes) -> bool:
        """Say something now; whether Redis took it."""
        return await self._pubsub.publish(channel, data)

    def snapshot(self) -> SourceSnapshot:
        """How it is doing."""
        return self._reader.snapshot(self._pubsub)

    # -- Subscriber -------------------------------------------------------------------------------------------------

    def subscribed(self, again: bool) -> None:
        if self._closing:
            return
        if self._speaking is not None:
            self._speaking.cancel()
        delay = self._rng.uniform(0.0, SPREAD) if again else 0.0
        self._speaking = self._tasks.start(self._speak(delay), "redis speaker")

    def received(self, data: bytes) -> None:
        self._reader.received(data)

    async def _speak(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._speaker.speak()
