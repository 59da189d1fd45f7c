"""What a link does as time goes by: the peer in the test's hands, and the clock too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bethrou.errors import LinkLost, StreamReset
from bethrou.net.link import Link
from bethrou.net.muxer import MAX_UNACKNOWLEDGED
from bethrou.net.reader import ByteReader
from bethrou.wire.yamux.frame import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE
from wire.yamux.frames import credit, data, fin, opening, pong, reset

from .clock import Clock, turns
from .collector import Collector, End, noise
from .hosts import LinkEnd, link_over, open_pipe, upgrader
from .memory import MemoryTransport, memory_pipe
from .raw_peer import RawPeer

KIB, MIB = 1 << 10, 1 << 20


class Scene:
    """A link of ours over a pipe in memory, and its peer. Streams of the peer's end up in `ends`."""

    def __init__(self, link: Link, peer: RawPeer, ours: MemoryTransport) -> None:
        self.link = link
        self.peer = peer
        self.ours = ours
        self.ends: dict[int, End] = {}

    async def opened_by_peer(self, stream: int = 2, frames: bytes = b"") -> End:
        """A stream of the peer's; `frames` come with it."""
        self.peer.send(opening(stream), frames)
        while stream not in self.ends:
            await asyncio.sleep(0)
        return self.ends[stream]

    async def opened_by_us(self) -> End:
        end = End(await self.link.open_stream())
        end.switch(Collector())
        return end

    async def peer_sends(self, *frames: bytes) -> None:
        self.peer.send(*frames)
        await turns()

    def resets(self) -> dict[int, int]:
        """The streams that we reset, with the code."""
        return {each[2]: each[3] for each in self.peer.frames if each[1] & RST}


@asynccontextmanager
async def raw_link(initiator: bool = True) -> AsyncIterator[Scene]:
    loop = asyncio.get_running_loop()
    ours, theirs = memory_pipe(loop)
    theirs.set_protocol(ByteReader(theirs))
    ours.set_protocol(ByteReader(ours))
    end, peer = LinkEnd(loop, "we"), RawPeer()
    scene: list[Scene] = []

    def take(_link: Link, stream: asyncio.Transport) -> None:
        new = End(stream)
        new.switch(Collector())
        scene[0].ends[stream.get_extra_info("stream_id")] = new

    end.on_stream = take
    link, _ = await asyncio.gather(
        end.start(ours, initiator), peer.over(theirs, upgrader("they"), not initiator)
    )
    scene.append(Scene(link, peer, ours))
    await turns()
    yield scene[0]
    link.abort(LinkLost("the test is over"))
    await turns()
    assert link.stream_count == 0
    assert end.budget._left == 256 * MIB


# -- is the peer alive? ----------------------------------------------------------------------------------------------


async def test_an_idle_link_stays_up(clock: Clock) -> None:
    async with raw_link() as scene:
        await clock.forward(120)
        assert scene.link.alive
        pings = [each for each in scene.peer.frames if each[:2] == (PING, SYN)]
        assert len({value for *_, value, _ in pings}) == len(pings)
        assert 20 <= len(pings) <= 30


@pytest.mark.parametrize("moment", [0.0, 0.1, 1.3, 2.5, 4.9, 5.0, 5.1])
async def test_a_frozen_peer_is_noticed_within_15_seconds(clock: Clock, moment: float) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_us()
        end.write(b"x")
        await clock.forward(20 + moment)
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        frozen = clock.now
        while scene.link.alive:
            await clock.forward(0.25)
        assert 5 <= clock.now - frozen <= 15
        assert "silent for" in str(scene.link.closed.result())
        assert isinstance(await end.protocol.lost, LinkLost)


async def test_a_peer_that_freezes_in_the_middle_of_a_transfer(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        sending = asyncio.ensure_future(end.send(noise(8 * MIB)))
        await turns()
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        await clock.forward(15)
        assert not scene.link.alive
        sending.cancel()
        assert isinstance(await end.protocol.lost, LinkLost)


async def test_any_byte_is_life(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        scene.peer.answers_pings = False
        for _ in range(30):
            await scene.peer_sends(data(2, b"x"))
            await clock.forward(4)
        assert scene.link.alive
        assert end.protocol.size == 30
        await clock.forward(15)
        assert not scene.link.alive


async def test_a_pong_of_something_else_is_no_pong(clock: Clock) -> None:
    async with raw_link() as scene:
        scene.peer.answers_pings = False
        before = scene.link.round_trip
        for value in range(8):
            await scene.peer_sends(pong(1000 + value))
            await clock.forward(1)
        assert scene.link.round_trip == before
        assert scene.link.alive
        assert sum(each[:2] == (PING, SYN) for each in scene.peer.frames) <= 4


async def test_the_round_trip_is_measured(clock: Clock) -> None:
    async with raw_link() as scene:
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        for _ in range(10):
            await clock.forward(5)  # a ping is sent
            await clock.forward(0.5)
            scene.peer.transport.thaw()  # type: ignore[attr-defined]
            await turns()
            scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        assert 0.4 < scene.link.round_trip < 6
        assert scene.link._muxer.round_trip < 0.5  # the smallest: from the first pings


# -- the peer is gone, but its streams are not -----------------------------------------------------------------------


async def test_bytes_that_wait_for_a_peer_that_has_finished_are_given_up(clock: Clock) -> None:
    """go closes a stream this way when its application is gone: FIN, and never any credit."""
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        await scene.peer_sends(fin(2))
        assert end.protocol.eof.done()
        await clock.forward(29)
        assert not scene.resets()
        await clock.forward(12)
        assert scene.resets() == {2: 0}
        assert end.protocol.lost.done()
        assert scene.link.alive
        assert len(scene.peer.data_of(2)) == INITIAL_WINDOW


async def test_a_slow_reader_may_be_as_slow_as_it_likes(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        await clock.forward(600)
        await scene.peer_sends(credit(2, MIB))
        assert scene.peer.data_of(2) == noise(MIB)
        assert not end.protocol.lost.done()


async def test_a_slow_reader_that_has_finished_may_be_slow_too(clock: Clock) -> None:
    """Half-closed and reading a little every 20 s: credit comes, so nobody is gone."""
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        size = INITIAL_WINDOW + 10 * 10_000
        end.write(noise(size))
        await scene.peer_sends(fin(2))
        for _ in range(10):
            await clock.forward(20)
            await scene.peer_sends(credit(2, 10_000))
        assert not scene.resets()
        assert scene.peer.data_of(2) == noise(size)


async def test_a_peer_that_has_finished_and_read_everything_is_not_given_up(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(INITIAL_WINDOW))  # the window exactly: nothing waits
        await scene.peer_sends(fin(2))
        await clock.forward(90)
        assert not scene.resets()
        await scene.peer_sends(credit(2, 5))
        end.write(b"later")
        end.close()
        await turns()
        assert scene.peer.data_of(2) == noise(INITIAL_WINDOW) + b"later"
        assert scene.peer.flags_of(2) & FIN


# -- close -----------------------------------------------------------------------------------------------------------


async def test_a_closed_stream_has_half_a_minute_for_the_peers_fin(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(b"farewell")
        end.close()
        assert await end.protocol.lost is None
        await clock.forward(29)
        assert scene.peer.data_of(2) == b"farewell"
        assert scene.peer.flags_of(2) == ACK | FIN
        assert scene.link.stream_count == 1
        await clock.forward(2)
        assert scene.resets() == {2: 0}
        assert scene.link.stream_count == 0


async def test_a_fin_in_time_ends_the_stream(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.close()
        await clock.forward(25)
        await scene.peer_sends(fin(2))
        assert scene.link.stream_count == 0
        await clock.forward(30)
        assert not scene.resets()


async def test_bytes_behind_close_are_answered_with_rst(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.close()
        await turns()
        await scene.peer_sends(data(2, b"too late"))
        assert scene.resets() == {2: 0}
        assert scene.link.stream_count == 0
        assert end.protocol.calls == ["connection_lost"]


async def test_what_waits_at_close_has_half_a_minute_without_credit(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        end.close()
        await clock.forward(29)
        assert not end.protocol.lost.done()
        await clock.forward(2)
        assert scene.resets() == {2: 0}
        assert await end.protocol.lost is None


async def test_what_waits_at_close_is_sent_however_slowly_the_peer_reads(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        size = INITIAL_WINDOW + 5 * 10_000
        end.write(noise(size))
        end.close()
        for _ in range(5):
            await clock.forward(20)
            assert not end.protocol.lost.done()
            await scene.peer_sends(credit(2, 10_000))
        assert scene.peer.data_of(2) == noise(size)
        assert scene.peer.flags_of(2) & FIN
        assert not scene.resets()
        assert await end.protocol.lost is None


async def test_bytes_that_cross_with_close_do_not_harm_what_waits(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        size = INITIAL_WINDOW + 100_000
        end.write(noise(size))
        end.close()
        await scene.peer_sends(data(2, b"crossing"), data(2, b"again"))
        await scene.peer_sends(credit(2, 100_000))
        assert scene.peer.data_of(2) == noise(size)
        assert scene.peer.flags_of(2) & FIN
        assert await end.protocol.lost is None
        assert end.protocol.size == 0


async def test_a_link_that_dies_while_closed_streams_wait(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        end.close()
        await scene.peer_sends(data(2, b"crossing"))
        scene.peer.transport.abort()
        await turns()
        assert isinstance(await end.protocol.lost, LinkLost)


async def test_a_closed_stream_that_the_peer_resets(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        end.close()
        await scene.peer_sends(reset(2, 7))
        error = await end.protocol.lost
        assert isinstance(error, StreamReset)
        assert error.code == 7
        await clock.forward(60)
        assert not scene.resets()


async def test_a_stream_that_was_never_used_leaves_nothing(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_us()
        end.abort()
        await end.protocol.lost
        assert scene.link.stream_count == 0
        assert not any(each[2] == 1 for each in scene.peer.frames)


async def test_go_away_is_said_and_the_connection_ends_in_two_seconds(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        scene.link.close("enough")
        assert str(scene.link.closed.result()) == "enough"
        assert isinstance(await end.protocol.lost, LinkLost)
        await clock.forward(1)
        assert not scene.link.flushed.done()
        scene.peer.transport.thaw()  # type: ignore[attr-defined]
        await turns()
        assert any(each[0] == GO_AWAY for each in scene.peer.frames)
        assert scene.link.flushed.done()
        await clock.forward(5)


async def test_a_peer_that_does_not_end_is_cut_off(clock: Clock) -> None:
    async with raw_link() as scene:
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        scene.link.close()
        await clock.forward(2.5)
        assert scene.link.flushed.done()


# -- flags and limits ------------------------------------------------------------------------------------------------


async def test_streams_of_the_peer_are_acknowledged_once() -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer(2)
        await turns()
        acks = [each for each in scene.peer.frames if each[2] == 2]
        assert acks == [(WINDOW_UPDATE, ACK, 2, 0, b"")]
        end.write(b"x")
        end.write_eof()
        await turns()
        assert sum(bool(each[1] & ACK) for each in scene.peer.frames if each[2] == 2) == 1


async def test_an_answer_in_the_same_turn_carries_the_acknowledgement() -> None:
    async with raw_link() as scene:
        scene.peer.send(data(2, b"question", SYN))
        while 2 not in scene.ends:
            await asyncio.sleep(0)
        scene.ends[2].write(b"answer")
        await turns()
        assert [each for each in scene.peer.frames if each[2] == 2] == [(DATA, ACK, 2, 6, b"answer")]


async def test_streams_of_ours_are_opened_by_their_first_bytes() -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_us()
        await turns()
        assert not any(each[2] == 1 for each in scene.peer.frames)
        end.write(b"first")
        end.write(b"second")
        end.write_eof()
        await turns()
        frames = [each for each in scene.peer.frames if each[2] == 1]
        assert frames[0][:2] == (DATA, SYN)
        assert sum(bool(each[1] & SYN) for each in frames) == 1
        assert scene.peer.data_of(1) == b"firstsecond"
        assert frames[-1][1] & FIN


async def test_no_more_streams_than_the_peer_has_acknowledged() -> None:
    async with raw_link() as scene:
        ends = [await scene.opened_by_us() for _ in range(MAX_UNACKNOWLEDGED)]
        for end in ends:
            end.write(b"x")
        waiting = [asyncio.ensure_future(scene.link.open_stream()) for _ in range(4)]
        await turns()
        assert not any(task.done() for task in waiting)
        await scene.peer_sends(credit(1, 0, ACK))  # go and js
        assert [task.done() for task in waiting] == [True, False, False, False]
        await scene.peer_sends(data(3, b"x", ACK))  # rust
        assert [task.done() for task in waiting] == [True, True, False, False]
        await scene.peer_sends(reset(5))
        assert [task.done() for task in waiting] == [True, True, True, False]
        ends[10].abort()
        await turns()
        assert all(task.done() for task in waiting)
        assert [(await task).get_extra_info("stream_id") for task in waiting] == [513, 515, 517, 519]


async def test_who_gives_up_waiting_for_a_stream_takes_nobodys_place() -> None:
    async with raw_link() as scene:
        for _ in range(MAX_UNACKNOWLEDGED):
            (await scene.opened_by_us()).write(b"x")
        first, second = (asyncio.ensure_future(scene.link.open_stream()) for _ in range(2))
        await turns()
        scene.link._muxer.receive(memoryview(credit(1, 0, ACK)))
        first.cancel()  # in the very turn in which it would have had its stream
        await turns()
        assert first.cancelled()
        assert second.done()


async def test_waiting_for_a_stream_ends_with_the_link() -> None:
    async with raw_link() as scene:
        for _ in range(MAX_UNACKNOWLEDGED):
            (await scene.opened_by_us()).write(b"x")
        waiting = asyncio.ensure_future(scene.link.open_stream())
        await turns()
        scene.peer.transport.abort()
        with pytest.raises(LinkLost):
            await waiting
        with pytest.raises(LinkLost):
            await scene.link.open_stream()


# -- who is served when ----------------------------------------------------------------------------------------------


async def test_streams_that_wait_are_served_in_turn_and_control_frames_first() -> None:
    async with raw_link() as scene:
        ends = [await scene.opened_by_peer(number) for number in (2, 4, 6)]
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        for end in ends:
            end.write(noise(200 * KIB))
        await turns()
        before = len(scene.peer.frames)
        scene.link._muxer.receive(memoryview(data(8, b"hello", SYN)))
        await turns()
        scene.peer.transport.thaw()  # type: ignore[attr-defined]
        await turns(400)
        frames = scene.peer.frames[before:]
        assert {number: len(scene.peer.data_of(number)) for number in (2, 4, 6)} == dict.fromkeys(
            (2, 4, 6), 200 * KIB
        )
        last_of_first = max(place for place, each in enumerate(frames) if each[2] == 2)
        first_of_last = min(place for place, each in enumerate(frames) if (each[0], each[2]) == (DATA, 6))
        assert first_of_last < last_of_first  # nobody waits until others have sent all
        acknowledged = next(place for place, each in enumerate(frames) if each[2] == 8)
        assert acknowledged < len(frames) - 20


async def test_a_small_answer_beside_a_large_one() -> None:
    async with raw_link() as scene:
        large, small = await scene.opened_by_peer(2), await scene.opened_by_peer(4)
        await scene.peer_sends(credit(2, 4 * MIB))
        sending = asyncio.ensure_future(large.send(noise(4 * MIB)))
        while len(scene.peer.data_of(2)) < MIB:
            await asyncio.sleep(0)
        small.write(b"small")
        before = len(scene.peer.data_of(2))
        await scene.peer.until(lambda: scene.peer.data_of(4))
        assert len(scene.peer.data_of(2)) - before < MIB
        await sending
        await scene.peer.until(lambda: len(scene.peer.data_of(2)) == 4 * MIB)
        assert scene.peer.data_of(2) == noise(4 * MIB)


# -- both ends ours --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 17, 4096])
async def test_records_cut_anywhere(chunk: int) -> None:
    left, right = memory_pipe(asyncio.get_running_loop())
    for transport in (left, right):
        transport.set_protocol(ByteReader(transport))
    near_link, far_link, _, responder = await link_over(left, right)
    near, far = (End(stream) for stream in await open_pipe(near_link, responder))
    for end in (near, far):
        end.switch(Collector())
    left.chunk = right.chunk = chunk
    size = min(chunk * 3000, 2 * MIB)
    await asyncio.gather(near.send(noise(size, 1), 3000), far.send(noise(size, 2), 70_000))
    await asyncio.gather(near.protocol.have(size), far.protocol.have(size))
    assert (far.protocol.data, near.protocol.data) == (noise(size, 1), noise(size, 2))
    near_link.close()
    await far_link.closed
    await turns(200)
