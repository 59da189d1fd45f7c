"""The client's exits from Redis: it asks who is there, and listens to who says so unasked.

Our nodes announce themselves, so asking is only for the start, and for what was missed while Redis was away. Go
programs only answer: while one of them is known, or nobody is, the client asks again every minute, and else every ten
minutes, so that a Go program which came later is found, too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from bethrou.config import DiscoveryConfig
from bethrou.discovery.announced_exits import ASK_AGAIN
from bethrou.discovery.redis_address import announcement_topic
from bethrou.discovery.redis_announcements import RedisAnnouncements
from bethrou.discovery.source import Listener
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.announcement import AnnouncementKeys, Request, encode_request
from bethrou.wire.announcement_keys import NONCE_SIZE
from bethrou.wire.node_record import RecordCache
from bethrou.wire.psk import NetworkKey

ASK_SELDOM = 600.0
"""Seconds between two requests where every exit announces itself. Each costs an answer of every node."""

ASK_RETRY = 5.0
"""Seconds until a request that could not be published is tried again."""


class RedisSource:
    """The `Source` named redis. Raises ConfigError at construction for an address or certificates that are unusable.

    `time_ns` is Unix time in nanoseconds, `rng` spreads requests in time, `random_bytes` makes the nonces of sealed
    ones, `records` may be shared with other sources.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: DiscoveryConfig,
        network_key: NetworkKey,
        listener: Listener,
        time_ns: Callable[[], int],
        rng: random.Random,
        random_bytes: Callable[[int], bytes],
        records: RecordCache,
    ) -> None:
        self._loop = loop
        self._sealed = config.sealed
        self._rng = rng
        self._random_bytes = random_bytes
        self._keys = AnnouncementKeys(network_key)
        self._topic = announcement_topic(config, network_key)
        self._reply = f"client-reply-{time_ns()}"
        self._announcements = RedisAnnouncements(
            loop,
            config,
            self._keys,
            (self._topic, self._reply),
            None,
            self,
            listener,
            lambda: time_ns() / 1e9,
            rng,
            records,
        )

    def start(self) -> None:
        """Begin."""
        self._announcements.start()

    async def close(self) -> None:
        """End, with nothing left behind."""
        await self._announcements.close()

    def snapshot(self) -> SourceSnapshot:
        """How it is doing."""
        return self._announcements.snapshot()

    # -- Speaker ----------------------------------------------------------------------------------------------------

    async def speak(self) -> None:
        while True:
            if await self._announcements.publish(self._topic, self._request()):
                await self._until_to_be_asked_again()
            else:
                await asyncio.sleep(self._soon(ASK_RETRY))

    def asked(self, request: Request) -> None:
        """Not ours to answer; our own come back, too."""

    async def _until_to_be_asked_again(self) -> None:
        asked_at = self._loop.time()
        while True:
            await asyncio.sleep(self._soon(ASK_AGAIN))
            if self._depends_on_answers() or self._loop.time() - asked_at >= ASK_SELDOM:
                return

    def _depends_on_answers(self) -> bool:
        return self._announcements.unproved > 0 or self._announcements.known == 0

    def _soon(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.8, 1.2)

    def _request(self) -> bytes:
        nonce = self._random_bytes(NONCE_SIZE) if self._sealed else b""
        return encode_request(self._reply, self._keys, self._sealed, nonce)
