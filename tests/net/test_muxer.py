"""The switchboard of a link: who is told what, how many streams there may be, and who is served when."""

import asyncio
import random

import pytest

from bethrou.errors import LinkLost, MuxerError, StreamReset
from bethrou.net.muxer import MAX_UNACKNOWLEDGED
from bethrou.net.reader import ByteReader
from bethrou.wire.yamux.frame import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, header
from wire.yamux.frames import credit, data, fin, go_away, opening, reset

from .clock import turns
from .collector import Collector, End, noise
from .hosts import link_over, open_pipe
from .memory import memory_pipe
from .raw_link import raw_link

KIB, MIB = 1 << 10, 1 << 20


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


@pytest.mark.parametrize(
    "breach", [go_away(0), opening(1), b"\x09" * 12], ids=["goodbye", "parity", "no Yamux"]
)
async def test_streams_that_end_in_front_of_the_end_of_the_link_are_told(breach: bytes) -> None:
    async with raw_link() as scene:
        ends = [await scene.opened_by_peer(number) for number in (2, 4, 6)]
        ends[2].close()
        await scene.peer_sends(data(2, b"last words"), reset(2, 7), fin(4), fin(6), breach)
        errors = [await end.protocol.lost for end in ends]
        assert isinstance(errors[0], StreamReset)
        assert ends[0].protocol.data == b"last words"
        assert ends[1].protocol.eof.done()
        assert isinstance(errors[1], LinkLost | MuxerError)
        assert errors[2] is None


# -- anything at all -------------------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("seed", range(40))
async def test_frames_at_random_do_no_more_than_end_the_link(seed: int) -> None:
    """Every combination of type, flags and streams, on streams of both sides that are being used meanwhile."""
    dice = random.Random(seed)
    async with raw_link(initiator=seed % 2 == 0) as scene:
        ours = [await scene.opened_by_us() for _ in range(4)]
        for _ in range(150):
            if not scene.link.alive:
                break
            frames = []
            for _ in range(dice.randrange(1, 6)):
                kind = dice.choice(
                    [
                        DATA,
                        DATA,
                        WINDOW_UPDATE,
                        WINDOW_UPDATE,
                        PING,
                        GO_AWAY if dice.random() < 0.02 else PING,
                    ]
                )
                flags = dice.choice(
                    [0, 0, 0, SYN, ACK, FIN, RST, SYN | FIN, ACK | FIN, SYN | ACK, dice.randrange(16)]
                )
                stream = dice.randrange(12)
                if flags & SYN and dice.random() < 0.95:
                    stream = 2 * dice.randrange(500) + (2 if scene.link.initiator else 1)
                payload = noise(dice.choice([0, 1, 100, 5000])) if kind == DATA else b""
                size = len(payload) if kind == DATA else dice.choice([0, 1, 1000, 2**20])
                frames.append(header(kind, flags, stream, size) + payload)
            wire = b"".join(frames)
            cut = dice.randrange(len(wire) + 1)
            scene.peer.send(wire[:cut])
            scene.peer.send(wire[cut:])
            end = dice.choice(ours + list(scene.ends.values()))
            if not end.transport.is_closing():
                dice.choice(
                    [
                        lambda end=end: end.pause_reading(),
                        lambda end=end: end.resume_reading(),
                        lambda end=end: end.close(),
                        lambda end=end: end.abort(),
                        lambda end=end: end.set_write_buffer_limits(dice.randrange(10**6)),
                    ]
                )()
            await turns(dice.choice([1, 5]))
        await turns()
        if not scene.link.alive:
            assert isinstance(scene.link.closed.result(), MuxerError | LinkLost)
            for end in (*ours, *scene.ends.values()):
                end.resume_reading()  # what had come whole is still there for a reader that had paused
            await turns()
            assert all(end.protocol.lost.done() for end in [*ours, *scene.ends.values()])
