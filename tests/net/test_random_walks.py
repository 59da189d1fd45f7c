"""Two links, many streams, and everything that can be done to them in an order that a seed decides."""

import asyncio
import random

import pytest

from bethrou.errors import LinkLost
from bethrou.net.buffers import MAX_WAITING
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.wire.yamux.window import BUDGET

from .clock import turns
from .collector import BufferedCollector, Collector, End, noise
from .hosts import LinkEnd, link_over, open_pipe
from .memory import MemoryTransport, memory_pipe

NOISE = noise(1 << 22)


class Half:
    """One direction of a stream as it must be: what was written, and what the other end may have of it."""

    def __init__(self, sender: End, receiver: End) -> None:
        self.sender = sender
        self.receiver = receiver
        self.written = bytearray()
        self.ended = False
        """Whether the sender ended in peace: then every byte must arrive, unless the receiver gave up."""

    def write(self, start: int, size: int) -> None:
        if not self.ended and not self.sender.transport.is_closing():
            data = NOISE[start : start + size]
            self.sender.write(memoryview(data))
            self.written += data


class Walk:
    """A pair of links under the feet of a random walker."""

    def __init__(
        self, seed: int, ends: tuple[Link, Link, LinkEnd, LinkEnd], pipe: list[MemoryTransport]
    ) -> None:
        self.random = random.Random(seed)
        self.near, self.far, self._initiator, self._responder = ends
        self.pipe = pipe
        self.halves: list[Half] = []
        self.aborted: set[int] = set()

    async def step(self) -> None:
        choice = self.random.random()
        if choice < 0.08 and len(self.halves) < 40:
            await self._open()
        elif self.halves:
            self._act(self.random.randrange(len(self.halves)))
        if self.random.random() < 0.3:
            end = self.random.choice(self.pipe)
            end.chunk = self.random.choice([1 << 20, 70_000, 5000, 100])
        await turns(self.random.choice([0, 0, 1, 3, 10]))

    async def _open(self) -> None:
        from_far = self.random.random() < 0.5
        link, other = (self.far, self._initiator) if from_far else (self.near, self._responder)
        left, right = (End(stream, self._protocol()) for stream in await open_pipe(link, other))
        for end in (left, right):
            end.switch(end.protocol)
        self.halves += [Half(left, right), Half(right, left)]

    def _protocol(self) -> Collector | BufferedCollector:
        return (
            Collector()
            if self.random.random() < 0.5
            else BufferedCollector(self.random.choice([50_000, 3000]))
        )

    def _act(self, index: int) -> None:
        half = self.halves[index]
        if half.sender.protocol.lost.done():
            return
        what = self.random.random()
        if what < 0.55:
            size = self.random.choice([1, 100, 2048, 2049, 20_000, 70_000, 300_000])
            half.write(self.random.randrange(1 << 20), size)
        elif what < 0.67:
            half.receiver.pause_reading()
        elif what < 0.87:
            half.receiver.resume_reading()
        elif what < 0.93:
            half.ended = True
            half.sender.write_eof()
        elif what < 0.95:
            self.aborted.add(index // 2)
            half.sender.abort()
        elif what < 0.97:
            half.sender.set_write_buffer_limits(self.random.choice([0, 10_000, 1_000_000]))

    async def finish(self) -> None:
        """Let everything go, and end every direction that has not ended."""
        for end in self.pipe:
            end.chunk = 1 << 20
        for index, half in enumerate(self.halves):
            half.receiver.resume_reading()
            if index // 2 not in self.aborted and not half.ended:
                half.sender.write_eof()
        for half in self.halves:
            # a stream that had ended both ways cannot be aborted any more: then it is EOF there, too
            await asyncio.wait(
                (half.receiver.protocol.eof, half.receiver.protocol.lost), return_when="FIRST_COMPLETED"
            )
        for half in self.halves:
            half.sender.close()
            await half.sender.protocol.lost
        await turns()

    def check(self) -> None:
        for index, half in enumerate(self.halves):
            received = half.receiver.protocol.data
            if index // 2 in self.aborted:
                assert half.written.startswith(received)
            else:
                assert received == half.written
        for link in (self.near, self.far):
            assert link.alive
            assert link.stream_count == 0
            assert not link._muxer._ready
            assert not link._muxer._parked
        for end in (self._initiator, self._responder):
            assert end.budget._left == BUDGET
            assert end.buffers.waiting._left == MAX_WAITING


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_nothing_is_lost_or_left(seed: int) -> None:
    left, right = memory_pipe(asyncio.get_running_loop())
    for transport in (left, right):
        transport.set_protocol(ByteReader(transport))
    walk = Walk(seed, await link_over(left, right), [left, right])
    for _ in range(250):
        await walk.step()
    await walk.finish()
    walk.check()
    walk.near.abort(LinkLost("the walk is over"))
    await walk.far.closed
    await turns()
