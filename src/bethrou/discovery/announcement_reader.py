"""From messages to what is believed: what Redis brings waits its turn here, so that no flood stops anything else.

Whoever can publish can send as much as Redis carries. So the messages wait in a bounded queue; what finds it full is
skipped. Each is read (some 50 us), and where it takes a signature to believe it (130 us), there are at most
`VERIFICATIONS` a second in the long run: first for messages that a member made, then for answers, which anybody can
make up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from bethrou.discovery.announced_exits import SOURCE, AnnouncedExits, Told
from bethrou.discovery.rate_limit import RateLimit
from bethrou.discovery.redis_pubsub import RedisPubSub
from bethrou.errors import DecodeError
from bethrou.net.tasks import Tasks
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.announcement import (
    MAX_MESSAGE,
    AnnouncementKeys,
    Answer,
    Request,
    UnknownAnnouncement,
    decode,
)

VERIFICATIONS = 500
"""Signatures that are verified in a second: 7 % of a core in the long run, whoever floods us."""

BURST = 2048
"""Signatures that may be verified at once after some rest, 0.3 s of a core: when a client starts, thousands of exits
answer, and any of them may be the one that works. The 4,096 of the largest network take 4 s."""

MAX_WAITING = 8192
"""Messages that wait in one queue."""

MAX_WAITING_BYTES = 8 << 20
"""And how long they may be together: 8,192 answers of an ordinary length."""

_TURN = 4  # messages read and verified before others in the loop have their turn: some 1 ms, or 5 ms of the longest

Item = TypeVar("Item")


class _Queue(Generic[Item]):
    """Messages that wait, and how long they are."""

    def __init__(self) -> None:
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item, size: int) -> bool:
        """Whether there was room for it."""
        if len(self._items) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return False
        self._items.append((item, size))
        self._bytes += size
        return True

    def get(self) -> tuple[Item, int]:
        item, size = self._items.popleft()
        self._bytes -= size
        return item, size


class AnnouncementReader:
    """Reads messages in a task of its own: requests go to `asked`, all else to `exits`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keys: AnnouncementKeys,
        exits: AnnouncedExits,
        asked: Callable[[Request], None],
    ) -> None:
        self.heard = 0
        """Messages that were taken."""
        self.skipped = 0
        """Messages that made no sense, were not genuine, or found no room."""
        self._loop = loop
        self._keys = keys
        self._exits = exits
        self._asked = asked
        self._tasks = Tasks(loop)
        self._new: _Queue[bytes] = _Queue()
        self._by_members: _Queue[Told] = _Queue()
        self._by_anybody: _Queue[Told] = _Queue()
        self._arrived = asyncio.Event()
        self._verifications = RateLimit(VERIFICATIONS, BURST)
        self._heard_at: float | None = None

    def start(self) -> None:
        """Begin."""
        self._tasks.start(self._work(), "announcements")

    async def close(self) -> None:
        """End; what waits is dropped."""
        await self._tasks.close()

    def received(self, data: bytes) -> None:
        """Take a message, to be read soon."""
        if len(data) > MAX_MESSAGE or not self._new.put(data, len(data)):
            self.skipped += 1
        else:
            self._arrived.set()

    def snapshot(self, pubsub: RedisPubSub) -> SourceSnapshot:
        """How it all is doing."""
        silent_for = None if self._heard_at is None else self._loop.time() - self._heard_at
        return SourceSnapshot(
            SOURCE, pubsub.ok, pubsub.detail, self._exits.known, self.heard, self.skipped, silent_for
        )

    async def _work(self) -> None:
        while True:
            for _ in range(_TURN):
                if not self._do_one():
                    break
            if len(self._new):
                await asyncio.sleep(0)
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Wait until there is something to do."""
        self._arrived.clear()
        costly = len(self._by_members) or len(self._by_anybody)
        try:
            async with asyncio.timeout(self._verifications.wait(self._loop.time()) if costly else None):
                await self._arrived.wait()
        except TimeoutError:
            return

    def _do_one(self) -> bool:
        """Read one message, and verify one that was read: so the first of thousands of answers can be used long before
        the last is read. False when there is nothing that can be done now."""
        read = len(self._new) > 0
        if read:
            self._read(*self._new.get())
        waiting = self._by_members if len(self._by_members) else self._by_anybody
        if not len(waiting) or not self._verifications.take(self._loop.time()):
            return read
        self._believe(waiting.get()[0])
        return True

    def _read(self, data: bytes, size: int) -> None:
        try:
            message = decode(data, self._keys)
        except UnknownAnnouncement:
            return  # of a later version: none of our business
        except DecodeError:
            self.skipped += 1
            return
        if isinstance(message, Request):
            self._asked(message)
        elif not self._exits.is_costly(message):
            self._believe(message)
        else:
            queue = self._by_anybody if isinstance(message, Answer) else self._by_members
            self.skipped += not queue.put(message, size)

    def _believe(self, message: Told) -> None:
        try:
            if self._exits.take(message):
                self.heard += 1
                self._heard_at = self._loop.time()
        except DecodeError:
            self.skipped += 1
