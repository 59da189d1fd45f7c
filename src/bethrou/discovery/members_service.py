"""`/bethrou/members/1.0.0`, the answering side: a node tells its members which other nodes it knows.

The asker says who it is, if it is a node itself, and so becomes known here; then it gets our own record and those of
all others. What a member can make us do for it is bounded by what it can ask, and by what it reads of the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from bethrou.discovery.member_records import MemberRecords, is_near
from bethrou.discovery.own_record import OwnRecord
from bethrou.errors import BethrouError, DecodeError, LinkLost
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire.members_message import MAX_RECORDS, encode_record
from bethrou.wire.node_record import MAX_RECORD, RecordCache
from bethrou.wire.peer_id import PeerId

PATIENCE = 10.0
"""Seconds that an asker may take to say who it is, or to read anything at all of what waits for it."""

MAX_ANSWER = 4 << 20
"""Bytes of one answer: 4,096 records of twice their usual size."""

MAX_SECONDS = 300.0
"""How long one conversation may last: 4 MiB at the pace of a slow telephone."""

MAX_STREAMS = 2
"""Conversations of one link at once; an honest asker has one."""

MIN_INTERVAL = 5.0
"""Seconds from one question of a member to the next, over whatever links; what comes sooner is refused.

Such a member has just got the answer, or it is not to have us send megabytes without end. Ours ask again after 10 s.
"""

MAX_ASKERS = 4096
"""Members that may ask within `MIN_INTERVAL`; more are refused, and ask again."""

_CHUNK = 16 * 1024
"""Bytes that are written together: the small records of many nodes make few frames."""


class MembersService:
    """Answers members with `records`, the signed records that are known here, and `own`, what we say of ourselves.

    What askers say of themselves goes to `taken`. `cache` knows most of the records already; `time` gives Unix time
    in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        taken: MemberRecords,
        records: Callable[[], Iterable[bytes]],
        own: OwnRecord,
        cache: RecordCache,
        time: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._taken = taken
        self._records = records
        self._own = own
        self._cache = cache
        self._time = time
        self._tasks = Tasks(loop)
        self._closing = False
        self._open: Counter[Link] = Counter()
        """Conversations of each link."""
        self._read: dict[bytes, tuple[PeerId, int]] = {}
        """Whose each record is and when it expires, so that nobody's question has it verified again."""
        self._asked: dict[PeerId, float] = {}
        """When members asked, in the last `MIN_INTERVAL` seconds, the earliest first."""

    def serve(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        """Handler of inbound streams."""
        if self._closing or self._open[link] >= MAX_STREAMS or not self._may_ask(link.peer_id):
            stream.reset(RESOURCE_LIMIT)
            return
        self._open[link] += 1
        asker = _Asker(stream, surplus)
        stream.set_protocol(asker)
        self._tasks.start(self._converse(link, stream, asker), f"members told to {link.peer_id.short}")

    async def close(self) -> None:
        """End the conversations under way, and have no others."""
        self._closing = True
        await self._tasks.close()

    def _may_ask(self, peer: PeerId) -> bool:
        now = self._loop.time()
        while self._asked and now - next(iter(self._asked.values())) >= MIN_INTERVAL:
            del self._asked[next(iter(self._asked))]
        if peer in self._asked or len(self._asked) >= MAX_ASKERS:
            return False
        self._asked[peer] = now
        return True

    async def _converse(self, link: Link, stream: YamuxStream, asker: _Asker) -> None:
        try:
            async with asyncio.timeout(MAX_SECONDS):
                async with asyncio.timeout(PATIENCE):
                    introduction = await asker.read_prefixed(MAX_RECORD)
                if introduction:
                    self._taken.take(introduction, is_near(link), author=link.peer_id)
                for chunk in _chunks(await self._answer(link.peer_id)):
                    await asker.ready()
                    stream.write(chunk)
                stream.set_write_buffer_limits(0)
                await asker.ready()
            stream.close()
        except (BethrouError, TimeoutError):
            return
        finally:
            stream.abort()
            self._open[link] -= 1
            if not self._open[link]:
                del self._open[link]

    async def _answer(self, asker: PeerId) -> list[bytes]:
        """The records that are told, those that are good for longest first; ours before all others."""
        await self._read_records()
        own, now = self._own.current(), self._time()
        told = [
            envelope for envelope, (peer, expires) in self._read.items() if expires > now and peer != asker
        ]
        told.sort(key=lambda envelope: self._read[envelope][1], reverse=True)
        return told[:MAX_RECORDS] if own is None else [own[1], *told[: MAX_RECORDS - 1]]

    async def _read_records(self) -> None:
        read = {}
        for envelope in list(self._records()):
            about = self._read.get(envelope)
            if about is None:
                with contextlib.suppress(DecodeError):
                    record = self._cache.open(envelope)
                    about = record.peer_id, record.expires
                await asyncio.sleep(0)  # a signature costs 130 us, and streams are not to wait for thousands
            if about is not None:
                read[envelope] = about
        self._read = read


def _chunks(records: list[bytes]) -> Iterator[bytes]:
    """The messages of an answer, as many as MAX_ANSWER has room for, many at a time."""
    chunk, size = bytearray(), 0
    for record in records:
        message = encode_record(record)
        size += len(message)
        if size > MAX_ANSWER:
            break
        chunk += message
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


class _Asker(ByteReader):
    """The asker's stream: what it says, and whether it reads what it is told."""

    __slots__ = ("_full", "_room")

    def __init__(self, stream: YamuxStream, surplus: bytes) -> None:
        super().__init__(stream, surplus)
        self._full = False
        self._room = asyncio.Event()

    async def ready(self) -> None:
        """Wait until more may be written.

        Raises `TimeoutError` when nothing of what waits is taken for `PATIENCE` seconds, `LinkLost` at the end.
        """
        while self._full and not self.lost:
            waiting = self.transport.get_write_buffer_size()
            self._room.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._room.wait()
            except TimeoutError:
                if self.transport.get_write_buffer_size() >= waiting:
                    raise
        if self.lost:
            raise LinkLost("the asker is gone")

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._room.set()
