"""A node's place in Redis: it says that it is there, answers who asks, and listens to the others.

A presence is told at once, then at an interval that grows with the network, and again within a second when the node has
something else to say of itself; a goodbye when it stops. Answers are for Go programs, and for clients of ours that have
just come. A Go client gives up on one bad answer, so none is better than one without addresses, or one that it cannot
read: whoever asks in the open gets no answer where discovery is sealed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from bethrou.config import DiscoveryConfig
from bethrou.discovery.rate_limit import RateLimit
from bethrou.discovery.redis_address import announcement_topic
from bethrou.discovery.redis_announcements import RedisAnnouncements
from bethrou.discovery.source import Listener
from bethrou.net.tasks import Tasks
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.announcement import (
    PRESENCE_TTL_FACTOR,
    AnnouncementKeys,
    Request,
    encode_answer,
    encode_gone,
    encode_presence,
    presence_interval,
)
from bethrou.wire.announcement_keys import NONCE_SIZE
from bethrou.wire.node_record import RecordCache
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

ANSWERS_PER_SECOND = 20

MAX_ASKED = 100
"""Requests that wait to be answered: five seconds' worth. A Go client waits ten."""

LOOK = 1.0
"""Seconds between two looks at what the node has to say of itself: no presence comes sooner after another one."""

GOODBYE_TIMEOUT = 1.0
"""Seconds that stopping may wait for Redis to take the goodbye."""


class RedisPresence:
    """Announces the node `peer`, and is a `Source` of the others.

    `record` returns the number and the envelope of the node's record as it is now, None while there is nothing to
    say; it is asked every second. `time_ns`, `rng`, `random_bytes` and `records` are as in `RedisSource`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: DiscoveryConfig,
        network_key: NetworkKey,
        peer: PeerId,
        record: Callable[[], tuple[int, bytes] | None],
        listener: Listener,
        time_ns: Callable[[], int],
        rng: random.Random,
        random_bytes: Callable[[int], bytes],
        records: RecordCache,
    ) -> None:
        self._loop = loop
        self._sealed = config.sealed
        self._peer = peer
        self._record = record
        self._rng = rng
        self._random_bytes = random_bytes
        self._records = records
        self._keys = AnnouncementKeys(network_key)
        self._topic = announcement_topic(config, network_key)
        # Like a Go node's, the topic is also the peer ID where none is given; a sealed one's is nobody's business.
        self._channels = (self._topic,) if config.topic or config.sealed else (self._topic, str(peer))
        self._announcements = RedisAnnouncements(
            loop,
            config,
            self._keys,
            self._channels,
            peer,
            self,
            listener,
            lambda: time_ns() / 1e9,
            rng,
            records,
        )
        self._tasks = Tasks(loop)
        self._said: bytes | None = None
        """The record of the last presence."""
        self._seq = 0
        self._waiting: dict[str, bool] = {}
        """Reply channels of those who asked, and whether they asked sealed."""
        self._has_been_asked = asyncio.Event()
        self._answers = RateLimit(ANSWERS_PER_SECOND, 1)

    def start(self) -> None:
        """Begin."""
        self._tasks.start(self._answer(), "redis answers")
        self._announcements.start()

    async def close(self) -> None:
        """Say goodbye, if Redis takes it in time, and end with nothing left behind."""
        await self._announcements.silence()
        await self._tasks.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                await self._say_goodbye()
        await self._announcements.close()

    def snapshot(self) -> SourceSnapshot:
        """How it is doing; the exits in it are the others."""
        return self._announcements.snapshot()

    # -- Speaker ----------------------------------------------------------------------------------------------------

    async def speak(self) -> None:
        while True:
            interval = presence_interval(self._announcements.known)
            told = await self._tell(interval)
            due = self._loop.time() + (interval * self._rng.uniform(0.8, 1.2) if told else LOOK)
            while True:
                await asyncio.sleep(LOOK)
                if self._loop.time() >= due or self._has_news():
                    break

    def asked(self, request: Request) -> None:
        if request.reply in self._channels or (self._sealed and not request.sealed):
            return  # an answer for everybody would have everybody answered by everybody
        if request.reply not in self._waiting and len(self._waiting) < MAX_ASKED:
            self._waiting[request.reply] = request.sealed
            self._has_been_asked.set()

    # -- presences --------------------------------------------------------------------------------------------------

    def _has_news(self) -> bool:
        current = self._record()
        return self._said != (None if current is None else current[1])

    async def _tell(self, interval: float) -> bool:
        """Tell what there is to tell; whether Redis took it."""
        current = self._record()
        if current is None:
            return await self._say_goodbye()
        number, record = current
        self._seq = max(number, self._seq + 1)
        self._said = record
        ttl = PRESENCE_TTL_FACTOR * interval
        data = encode_presence(
            self._peer, self._seq, ttl, record, self._keys, self._sealed, self._nonce(self._sealed)
        )
        return await self._announcements.publish(self._topic, data)

    async def _say_goodbye(self) -> bool:
        """Take back what was said, if anything; whether Redis took it."""
        if self._said is None:
            return True
        record, self._said = self._said, None
        self._seq += 1
        data = encode_gone(
            self._peer, self._seq, 0, record, self._keys, self._sealed, self._nonce(self._sealed)
        )
        return await self._announcements.publish(self._topic, data)

    # -- answers ----------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        while True:
            await self._has_been_asked.wait()
            self._has_been_asked.clear()
            while self._waiting:
                if self._answers.take(self._loop.time()):
                    reply = next(iter(self._waiting))
                    await self._answer_to(reply, self._waiting.pop(reply))
                else:
                    await asyncio.sleep(self._answers.wait(self._loop.time()))

    async def _answer_to(self, reply: str, sealed: bool) -> None:
        current = self._record()
        if current is None:
            return
        addresses = self._records.open(current[1], self._peer).addrs
        if addresses:
            data = encode_answer(self._peer, addresses, current[1], self._keys, sealed, self._nonce(sealed))
            await self._announcements.publish(reply, data)

    def _nonce(self, sealed: bool) -> bytes:
        return self._random_bytes(NONCE_SIZE) if sealed else b""
