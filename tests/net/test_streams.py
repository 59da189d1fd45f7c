"""Streams between two hosts, over real sockets: nobody waits for anybody else, and nothing is lost or left."""

import asyncio
import hashlib
import itertools

import pytest

from bethrou.errors import LinkLost, StreamReset
from bethrou.net.link import Link
from bethrou.net.muxer import MAX_UNACKNOWLEDGED
from bethrou.net.negotiation import propose

from .collector import BufferedCollector, Collector, End, noise
from .hosts import PIPE, Member, link_over, open_pipe, stream_pair, two_hosts
from .leftovers import nothing_left

MIB = 1 << 20


async def pipe(link: Link, listener: Member, keep: bool = True) -> tuple[End, End]:
    near, far = (End(stream) for stream in await stream_pair(link, listener))
    for end in (near, far):
        end.switch(Collector(keep=keep))
    return near, far


async def settled(*links: Link) -> None:
    """Wait until no stream is left on the links."""
    async with asyncio.timeout(10):
        while any(link.stream_count for link in links):
            await asyncio.sleep(0)


async def test_a_slow_reader_stops_its_own_stream_and_nothing_else() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        slow = await pipe(link, listener)
        fast = [await pipe(link, listener) for _ in range(3)]
        slow[1].pause_reading()
        data = noise(8 * MIB)
        stuck = asyncio.ensure_future(slow[0].send(data))
        await asyncio.gather(*(near.send(data) for near, _ in fast), fast[0][1].send(data))
        await asyncio.gather(
            *(far.protocol.have(len(data)) for _, far in fast), fast[0][0].protocol.have(len(data))
        )
        expected = hashlib.sha256(data).hexdigest()
        assert all(far.protocol.hash == expected for _, far in fast)
        assert not stuck.done()
        assert slow[1].protocol.size == 0
        slow[1].resume_reading()
        await stuck
        await slow[1].protocol.have(len(data))
        assert slow[1].protocol.hash == expected
        for near, far in [slow, *fast]:
            near.close()
            far.close()
        await settled(link, other)


async def test_a_paused_reader_costs_no_more_than_its_window() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        near, far = await pipe(link, listener)
        far.pause_reading()
        near.write(noise(24 * MIB))
        await propose_and_wait(link, listener)  # as many round trips as it takes to fill the window
        core = other._muxer._session.streams[far.transport.get_extra_info("stream_id")]
        assert core.window._held <= core.window.limit <= 512 * 1024
        assert near.transport.get_write_buffer_size() >= 23 * MIB
        near.abort()
        await far.protocol.lost
        await settled(link, other)


async def propose_and_wait(link: Link, listener: Member) -> None:
    for _ in range(20):
        near, far = await pipe(link, listener)
        near.write(b"x")
        await far.protocol.have(1)
        near.close()
        far.close()


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late reader"])
async def test_32_mib_each_way_at_once(late: bool) -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        near, far = await pipe(link, listener, keep=False)
        there, back = noise(32 * MIB, 1), noise(32 * MIB, 2)
        if late:
            far.pause_reading()
        transfer = asyncio.gather(near.send(there, 128 * 1024), far.send(back, 128 * 1024))
        await near.protocol.have(4 * MIB)
        if late:
            await near.protocol.have(len(back))
            assert far.protocol.size == 0
            far.resume_reading()
        await transfer
        near.write_eof()
        far.write_eof()
        await asyncio.gather(near.protocol.eof, far.protocol.eof)
        assert far.protocol.hash == hashlib.sha256(there).hexdigest()
        assert near.protocol.hash == hashlib.sha256(back).hexdigest()
        near.close()
        far.close()
        await settled(link, other)


async def test_fin_first_and_the_answer_later() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        near, far = await pipe(link, listener)
        near.write(b"question")
        near.write_eof()
        await far.protocol.eof
        await far.send(noise(4 * MIB))
        far.close()
        await near.protocol.eof
        assert near.protocol.data == noise(4 * MIB)
        near.close()
        await settled(link, other)


@pytest.mark.parametrize("who", ["writer", "reader"])
async def test_an_abort_in_mid_transfer_leaves_no_stream_on_either_side(who: str) -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, other):
        near, far = await pipe(link, listener)
        sending = asyncio.ensure_future(near.send(noise(16 * MIB)))
        await far.protocol.have(MIB)
        failing, left = (near, far) if who == "writer" else (far, near)
        failing.abort()
        error = await left.protocol.lost
        assert isinstance(error, StreamReset)
        assert await failing.protocol.lost is None
        sending.cancel()
        await settled(link, other)
        assert dialer.budget._left == listener.budget._left == 256 * MIB
        assert dialer.buffers.waiting._left == listener.buffers.waiting._left
        await propose_and_wait(link, listener)


async def test_200_streams_at_once() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        data = [noise(40_000 + 997 * number, number) for number in range(200)]

        async def one(number: int) -> None:
            negotiation = propose(await link.open_stream(), [PIPE])
            await negotiation.agreed()
            near = End(negotiation.stream)
            near.switch(Collector())
            await near.send(data[number], 3000)
            near.write_eof()
            await near.protocol.eof
            assert near.protocol.data == data[number][::-1]
            near.close()

        async def answer() -> None:
            for _ in data:
                far = End(await listener.pipes.get())
                far.switch(Collector(keep_open=True))
                far.protocol.on_eof = lambda far=far: (far.write(far.protocol.data[::-1]), far.close())[0]

        await asyncio.gather(answer(), *(one(number) for number in range(200)))
        await settled(link, other)


async def test_thousands_of_short_streams_leave_nothing() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, other):

        async def answer() -> None:
            for _ in range(2000):
                far = End(await listener.pipes.get())
                far.switch(Collector(keep_open=False))
                far.write(b"short answer")

        async def ask() -> None:
            for _ in range(40):
                negotiation = propose(await link.open_stream(), [PIPE])
                await negotiation.agreed()
                assert await negotiation.reader.read_exactly(12) == b"short answer"
                negotiation.stream.close()

        await asyncio.gather(answer(), *(ask() for _ in range(50)))
        await settled(link, other)
        assert dialer.budget._left == listener.budget._left == 256 * MIB


async def test_more_streams_than_may_be_unacknowledged() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        count = 3 * MAX_UNACKNOWLEDGED

        async def open_one() -> End:
            negotiation = propose(await link.open_stream(), [PIPE])
            await negotiation.agreed()
            end = End(negotiation.stream)
            end.switch(Collector())
            return end

        near = await asyncio.gather(*(open_one() for _ in range(count)))
        far = [End(await listener.pipes.get()) for _ in range(count)]
        for end in far:
            end.switch(Collector())
        assert other.stream_count >= count
        for number, end in enumerate(near):
            end.write(number.to_bytes(4, "big"))
        await asyncio.gather(*(end.protocol.have(4) for end in far))
        assert {int.from_bytes(end.protocol.data, "big") for end in far} == set(range(count))
        for end in itertools.chain(near, far):
            end.close()
        await settled(link, other)


@pytest.mark.parametrize("how", ["reset", "link lost"])
async def test_what_came_whole_is_delivered_however_the_stream_ends(how: str) -> None:
    async with two_hosts() as (_, listener, link, other):
        near, far = await pipe(link, listener)
        far.pause_reading()
        await near.send(noise(100_000))
        near.write_eof()
        far.write(b"nobody reads this")
        await near.protocol.have(17)
        if how == "reset":
            near.abort()
        else:
            link.close()
        while other.stream_count:
            await asyncio.sleep(0)
        far.write(b"nor this")
        far.resume_reading()
        error = await far.protocol.lost
        assert isinstance(error, StreamReset if how == "reset" else LinkLost)
        assert far.protocol.eof.done()
        assert far.protocol.data == noise(100_000)


async def test_what_came_in_part_is_dropped_with_the_stream() -> None:
    async with two_hosts() as (_, listener, link, other):
        near, far = await pipe(link, listener)
        far.pause_reading()
        await near.send(noise(100_000))
        near.abort()
        assert isinstance(await far.protocol.lost, StreamReset)
        assert not far.protocol.eof.done()
        await settled(link, other)


async def test_closing_a_link_ends_all_its_streams() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        ends = [end for _ in range(20) for end in await pipe(link, listener)]
        for end in ends:
            end.write(noise(1000))
        link.close("enough")
        for end in ends:
            assert isinstance(await end.protocol.lost, LinkLost)
        assert "ended the session (code 0x0)" in str(await other.closed)
        with pytest.raises(LinkLost, match="enough"):
            await link.open_stream()
        assert link.stream_count == other.stream_count == 0


async def test_a_circuit_ends_with_the_link_that_carries_it() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, _other):
        near, far = await stream_pair(link, listener)
        near_link, far_link, _, responder = await link_over(near, far)
        ends = [End(stream) for stream in await open_pipe(near_link, responder)]
        for end in ends:
            end.switch(BufferedCollector())
        ends[0].write(noise(MIB))
        await ends[1].protocol.have(MIB)
        link.abort(LinkLost("the relay is gone"))
        for each in (near_link, far_link):
            assert isinstance(await each.closed, LinkLost)
        for end in ends:
            assert isinstance(await end.protocol.lost, LinkLost)


async def test_a_circuit_of_its_own_ends_alone() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, other):
        near, far = await stream_pair(link, listener)
        near_link, far_link, _, _ = await link_over(near, far)
        near_link.close()
        await far_link.closed
        await asyncio.gather(near_link.flushed, far_link.flushed)
        await settled(link, other)
        await propose_and_wait(link, listener)
