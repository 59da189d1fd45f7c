"""Readers that take their time: what waits for them stays, as long as they go on at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from net.clock import Clock, turns
from net.hosts import stream_pair, two_hosts

KIB = 1024
LENGTH = 2 * 1024 * KIB


class Reader(asyncio.Protocol):
    """Pauses after each piece."""

    def __init__(self, stream: YamuxStream) -> None:
        self.stream = stream
        self.size = 0
        self.lost = False
        stream.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        self.stream.pause_reading()

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Writer(asyncio.Protocol):
    """Sends `LENGTH` bytes, as fast as it may."""

    def __init__(self, stream: YamuxStream) -> None:
        self.stream = stream
        self.left = LENGTH
        self.paused = False
        self.lost = False
        stream.set_protocol(self)
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.left and not self.paused:
            size = min(self.left, 64 * KIB)
            self.left -= size
            self.stream.write(bytes(size))

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


Ends = tuple[Reader, Writer, Link]


@pytest.fixture
async def ends(clock: Clock) -> AsyncIterator[Ends]:
    """A reader that has ended its own direction, and who writes to it."""
    async with two_hosts() as (_, listener, link, _other):
        near, far = await stream_pair(link, listener)
        ends = Reader(near), Writer(far), link
        near.write_eof()
        await turns()
        yield ends


async def read_on(reader: Reader, clock: Clock, seconds: int) -> None:
    """A piece a second."""
    for _ in range(seconds):
        reader.stream.resume_reading()
        await clock.forward(1.0)


async def read_all(reader: Reader, size: int) -> None:
    """One piece after the other, until there are `size` bytes or no more come."""
    while reader.size < size and not reader.lost:
        before = reader.size
        reader.stream.resume_reading()
        await turns()
        assert reader.size > before or reader.lost


async def test_one_that_reads_on_slowly_keeps_its_stream(ends: Ends, clock: Clock) -> None:
    reader, writer, _ = ends
    await read_on(reader, clock, 100)
    assert not reader.lost
    assert not writer.lost
    await read_all(reader, LENGTH)
    assert reader.size == LENGTH


async def test_one_that_reads_no_more_loses_its_stream(ends: Ends, clock: Clock) -> None:
    reader, writer, _ = ends
    await read_on(reader, clock, 5)
    await clock.forward(25.0)
    assert not writer.lost
    await clock.forward(15.0)
    assert writer.lost


async def test_it_gets_credit_for_what_it_has_taken_before_all_that_waits_is_read(
    ends: Ends, clock: Clock
) -> None:
    reader, writer, _ = ends
    sent = LENGTH - writer.left
    await read_all(reader, sent // 2)
    assert LENGTH - writer.left > sent


async def test_last_bytes_of_a_closed_stream_wait_for_a_slow_reader(ends: Ends, clock: Clock) -> None:
    reader, writer, _ = ends
    sent = LENGTH - writer.left
    writer.stream.close()
    await clock.forward(20.0)
    await read_on(reader, clock, 15)
    await read_all(reader, sent)
    assert reader.size == sent


async def test_a_stream_that_is_over_leaves_nothing_with_its_link(clock: Clock) -> None:
    async with two_hosts() as (_, listener, link, _other):
        near, far = await stream_pair(link, listener)
        Reader(far)
        near.set_protocol(asyncio.Protocol())
        near.write(bytes(32 * KIB))
        near.close()
        far.abort()
        await turns()
        assert link.stream_count == 0
        assert not link._muxer._bulk
