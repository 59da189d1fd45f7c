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
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.announcement import AnnouncementKeys, Request
from bethrou.wire.node_record import RecordCache
from bethrou.wire.peer_id import PeerId

SPREAD = 5.0
"""Seconds over which all who find Redis back speak up again, so that they do not do so in one moment."""


class Speaker(Protocol):
    """Whose announcements they are."""

    def subscribed(self, again: bool) -> None:
        """It can be spoken now, for the first time or `again`; what others said meanwhile is lost."""

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
        self._speaker = speaker
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

    async def close(self) -> None:
        """End."""
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
        self._speaker.subscribed(again)

    def received(self, data: bytes) -> None:
        self._reader.received(data)
