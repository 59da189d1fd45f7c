"""Channels of a Redis server, kept: subscribed again for ever whatever happens, with one more connection to publish.

Redis may be absent, restart, freeze, or cut us off because we read too slowly: each time it is dialled again, at most
`LONGEST_RETRY` seconds apart, so that we are back within five seconds of its return. Where it turns us away (password,
permissions, certificate) somebody has to change something first, and we ask every `REFUSED_RETRY` seconds. Nothing is
raised at the user of this: what is wrong stands in `detail`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

from bethrou.discovery.redis_connection import TIMEOUT, RedisConnection, RedisServer
from bethrou.errors import AccessRefused, LinkError, LinkLost
from bethrou.net.tasks import Tasks
from bethrou.printable import printable

FIRST_RETRY = 0.1
"""Seconds before the first new attempt; doubled up to `LONGEST_RETRY`, with +-20 % of chance."""

LONGEST_RETRY = 3.3

REFUSED_RETRY = 15.0
"""Seconds between attempts where Redis turns us away, with +-20 % of chance."""

SETTLED = 5.0
"""Seconds that a subscription has to last: one that is cut off sooner is retried ever more slowly, as if it failed."""

SILENCE = 4.0
"""Seconds without a byte after which we ask for a sign of life, and as many again before we give up: a server that
froze is noticed within 10 s."""

_TURN = 64
"""Replies read before others in the loop have their turn: a flood comes out of a buffer without a wait."""


class Subscriber(Protocol):
    """Who is told what comes. Nothing may be raised."""

    def subscribed(self, again: bool) -> None:
        """All channels are subscribed, for the first time or `again`. What was said meanwhile is lost."""

    def received(self, data: bytes) -> None:
        """A message on one of the channels."""


class RedisPubSub:
    """Keeps `channels` subscribed, and publishes. `rng` spreads attempts in time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: RedisServer,
        channels: Sequence[str],
        subscriber: Subscriber,
        rng: random.Random,
    ) -> None:
        self._loop = loop
        self._server = server
        self._channels = tuple(channels)
        self._subscriber = subscriber
        self._rng = rng
        self._tasks = Tasks(loop)
        self._publisher = _Publisher(loop, server)
        self._up_since: float | None = None
        self._again = False
        self._trouble = f"connecting to Redis at {printable(str(server.address))}"

    @property
    def up(self) -> bool:
        """Whether the channels are subscribed now."""
        return self._up_since is not None

    @property
    def ok(self) -> bool:
        """Whether all works, publishing included."""
        return self.up and not self._publisher.trouble

    @property
    def detail(self) -> str:
        """What is wrong, or what it does."""
        if not self.up:
            return self._trouble
        where = printable(f"{self._channels[0]} at {self._server.address}", 200)
        return self._publisher.trouble or f"listening on {where}"

    def start(self) -> None:
        """Begin."""
        self._tasks.start(self._keep(), "redis subscription")

    async def close(self) -> None:
        """End both connections. Nothing may be publishing any more."""
        await self._tasks.close()
        self._up_since = None
        await self._publisher.close()

    async def publish(self, channel: str, data: bytes) -> bool:
        """Publish; whether Redis took it. Nothing is kept for later: who is subscribed again says it afresh."""
        return self.up and await self._publisher.publish(channel, data)

    async def _keep(self) -> None:
        attempt = 0
        while True:
            try:
                await self._listen()
            except AccessRefused as error:
                delay = REFUSED_RETRY
                self._trouble = f"{error}; asking again every {REFUSED_RETRY:g} s"
            except LinkError as error:
                if self._up_since is not None and self._loop.time() - self._up_since >= SETTLED:
                    attempt = 0
                delay = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(attempt, 16))
                attempt += 1
                self._trouble = str(error)
            finally:
                self._up_since = None
            await asyncio.sleep(delay * self._rng.uniform(0.8, 1.2))

    async def _listen(self) -> None:
        """Be subscribed until that ends. Raises `AccessRefused` or `LinkLost`."""
        connection = self._server.connection()
        try:
            await connection.open()
            await self._subscribe(connection)
            self._up_since = self._loop.time()
            self._publisher.try_again()
            self._subscriber.subscribed(self._again)
            self._again = True
            await self._read(connection)
        finally:
            await connection.end()

    async def _subscribe(self, connection: RedisConnection) -> None:
        missing = {channel.encode() for channel in self._channels}
        reply = await connection.carry_out("subscribe to these channels", "SUBSCRIBE", *self._channels)
        while missing:
            match reply:
                case [b"subscribe", bytes(channel), int()]:
                    missing.discard(channel)
                case None:
                    raise LinkLost(f"Redis at {self._server.address} does not answer within {TIMEOUT:g} s")
                case _:
                    self._take(reply)
            if missing:
                reply = await connection.next_reply(TIMEOUT)

    async def _read(self, connection: RedisConnection) -> None:
        replies, asked_at = 0, -1
        while True:
            reply = await connection.next_reply(SILENCE)
            replies += 1
            if replies % _TURN == 0:
                await asyncio.sleep(0)
            if reply is not None:
                self._take(reply)
            elif connection.reads == asked_at:
                raise LinkLost(f"Redis at {self._server.address} has been silent for {2 * SILENCE:g} s")
            else:
                asked_at = connection.reads
                await connection.ask_for_life()

    def _take(self, reply: object) -> None:
        match reply:
            case [b"message", bytes(), bytes(data)]:
                self._subscriber.received(data)
            case _:
                pass  # an answer to our PING


class _Publisher:
    """Publishes over a connection of its own, opened when first needed and again whenever it is gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: RedisServer) -> None:
        self.trouble = ""
        """Why the last attempt failed; "" when it did not."""
        self._loop = loop
        self._server = server
        self._connection: RedisConnection | None = None
        self._turn = asyncio.Lock()
        self._not_before = 0.0

    def try_again(self) -> None:
        """Redis let us in elsewhere: a refusal from before counts no more."""
        self._not_before = 0.0

    async def publish(self, channel: str, data: bytes) -> bool:
        """Publish; whether Redis took it."""
        async with self._turn:
            if self._loop.time() < self._not_before:
                return False
            try:
                await self._publish(channel, data)
            except LinkError as error:
                self.trouble = str(error)
                if isinstance(error, AccessRefused):
                    self._not_before = self._loop.time() + REFUSED_RETRY
                return False
            self.trouble = ""
            return True

    async def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            await self._connection.end()
            self._connection = None

    async def _publish(self, channel: str, data: bytes) -> None:
        if self._connection is not None and not self._connection.usable:
            await self.close()
        is_new = self._connection is None
        connection = self._connection or self._server.connection()
        # After an error, or a wait that is cancelled while an answer is on the way, it is not to be used again.
        self._connection = None
        try:
            if is_new:
                await connection.open()
            await connection.carry_out("publish on this channel", "PUBLISH", channel, data)
            self._connection = connection
        finally:
            if self._connection is None:
                await connection.end()
