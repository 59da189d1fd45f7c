"""Floods of messages: what waits, what is skipped, and what goes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bethrou.discovery.announced_exits import AnnouncedExits
from bethrou.discovery.announcement_reader import (
    BURST,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    VERIFICATIONS,
    AnnouncementReader,
)
from bethrou.discovery.rate_limit import RateLimit
from bethrou.wire.announcement import MAX_MESSAGE, Request, encode_answer, encode_request
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import RecordCache
from discovery.redis_network import KEYS, Notebook, Statement, presence_of, statement
from live.waiting import until
from net.clock import Clock, turns


class Reading:
    """A reader at work."""

    def __init__(self) -> None:
        self.notes = Notebook()
        self.asked: list[Request] = []
        exits = AnnouncedExits(self.notes, None, time.time, False, RecordCache())
        self.reader = AnnouncementReader(asyncio.get_running_loop(), KEYS, exits, self.asked.append)
        self.reader.start()

    @property
    def counts(self) -> tuple[int, int]:
        """Messages that were taken, and skipped."""
        return self.reader.heard, self.reader.skipped


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    reading = Reading()
    yield reading
    await reading.reader.close()


def answer_of(said: Statement) -> bytes:
    return encode_answer(said.peer, [Multiaddr.parse("/ip4/8.8.8.8/tcp/4000")], said.envelope, KEYS)


async def test_signatures_are_verified_at_a_bounded_pace_and_none_is_forgotten(
    clock: Clock, reading: Reading
) -> None:
    count = BURST + VERIFICATIONS // 2
    for message in [presence_of(statement()) for _ in range(count)]:
        reading.reader.received(message)
    began = clock.now
    await until(lambda: reading.reader.heard >= BURST)
    while reading.reader.heard < count:
        assert reading.reader.heard <= BURST + VERIFICATIONS * (clock.now - began) + 1
        await clock.forward(0.02)
    assert clock.now - began > 0.4
    assert reading.counts == (count, 0)


async def test_what_a_member_said_goes_before_what_anybody_can_make_up(
    clock: Clock, reading: Reading
) -> None:
    for message in [answer_of(statement()) for _ in range(BURST + 2000)]:
        reading.reader.received(message)
    await until(lambda: reading.reader.heard >= BURST and not len(reading.reader._new))
    member = statement()
    reading.reader.received(presence_of(member))
    before = reading.reader.heard
    while reading.reader.heard < BURST + 2001:
        await clock.forward(0.02)
    order = [sighting.peer for sighting in reading.notes.seen_all]
    assert order.index(member.peer) - before < 20
    assert reading.reader.skipped == 0


async def test_what_is_known_waits_for_no_signature(clock: Clock, reading: Reading) -> None:
    reading.reader._verifications = RateLimit(1, BURST)  # slower than any machine reads
    member = statement()
    reading.reader.received(presence_of(member))
    await reading.notes.sighting()
    for message in [presence_of(statement()) for _ in range(BURST + 2000)]:
        reading.reader.received(message)
    reading.reader.received(presence_of(member, member.seq + 1))
    reading.reader.received(encode_request("client-reply-1", KEYS))
    await until(lambda: reading.asked)
    assert reading.reader.heard < BURST + 2000
    assert [sighting.peer for sighting in reading.notes.seen_all].count(member.peer) == 2


async def test_what_waits_is_bounded_in_number(reading: Reading) -> None:
    for number in range(MAX_WAITING + 10):
        reading.reader.received(encode_request(f"client-reply-{number}", KEYS))
    assert reading.counts == (0, 10)
    await until(lambda: len(reading.asked) == MAX_WAITING)


async def test_what_waits_is_bounded_in_bytes(reading: Reading) -> None:
    for _ in range(MAX_WAITING_BYTES // MAX_MESSAGE + 10):
        reading.reader.received(bytes(MAX_MESSAGE))
    assert reading.counts == (0, 10)
    await until(lambda: reading.counts == (0, MAX_WAITING_BYTES // MAX_MESSAGE + 10))


async def test_a_message_that_is_too_long_does_not_even_wait(reading: Reading) -> None:
    reading.reader.received(bytes(MAX_MESSAGE + 1))
    assert reading.counts == (0, 1)


async def test_what_a_later_version_says_is_no_nonsense(reading: Reading) -> None:
    reading.reader.received(b'{"action":"presence","v":2,"id":"x"}')
    reading.reader.received(b'{"action":"yet-to-come","to":"you"}')
    reading.reader.received(encode_request("client-reply-1", KEYS))
    await until(lambda: reading.asked)
    assert reading.counts == (0, 0)


async def test_others_in_the_loop_have_their_turns_during_a_flood(reading: Reading) -> None:
    for number in range(MAX_WAITING):
        reading.reader.received(encode_request(f"client-reply-{number}", KEYS))
    count = 0
    while len(reading.asked) < MAX_WAITING:
        await turns(1)
        count += 1
    assert count >= MAX_WAITING // 10
