"""The pump between two transports: an application on the left, a destination on the right, the splice between."""

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bethrou.errors import LinkLost, StreamReset
from bethrou.net.splice import Splice, SpliceEnd

from .clock import Clock, turns
from .collector import Collector, End, noise
from .hosts import stream_pair, two_hosts
from .leftovers import nothing_left
from .memory import MemoryTransport, memory_pipe

MIB = 1 << 20


class Scene:
    """`app` and `target` are the far ends; `left` and `right` the near ones, which are spliced."""

    def __init__(self, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        app, self.left = memory_pipe(loop)
        self.right, target = memory_pipe(loop)
        self.app, self.target = End(app), End(target)
        for end in (self.app, self.target):
            end.switch(end.protocol)
        self.ends: list[SpliceEnd] = []
        self.splice = Splice(loop, self.left, self.right, self.ends.append, **options)

    @property
    def both(self) -> tuple[MemoryTransport, MemoryTransport]:
        return self.left, self.right

    async def ended(self) -> SpliceEnd:
        """The splice is over, was said to be so once, and nothing is left open."""
        async with asyncio.timeout(5):
            while not self.ends:
                await asyncio.sleep(0)
        await turns()
        [end] = self.ends
        assert all(transport.is_closing() for transport in self.both)
        return end


async def test_bytes_go_both_ways() -> None:
    scene = Scene()
    there, back = noise(3 * MIB, 1), noise(2 * MIB, 2)
    await asyncio.gather(scene.app.send(there), scene.target.send(back, 7000))
    scene.app.write_eof()
    scene.target.write_eof()
    assert (await scene.ended())[:4] == (len(there), len(back), None, "")
    assert scene.target.protocol.hash == hashlib.sha256(there).hexdigest()
    assert scene.app.protocol.hash == hashlib.sha256(back).hexdigest()


async def test_scratch_buffers() -> None:
    scratch = memoryview(bytearray(10_000))
    scene = Scene(left_scratch=scratch, right_scratch=scratch)
    there, back = noise(MIB, 1), noise(MIB, 2)
    await asyncio.gather(scene.app.send(there), scene.target.send(back))
    await asyncio.gather(scene.target.protocol.have(MIB), scene.app.protocol.have(MIB))
    assert scene.target.protocol.hash == hashlib.sha256(there).hexdigest()
    assert scene.app.protocol.hash == hashlib.sha256(back).hexdigest()
    assert (scene.splice.bytes_from_left, scene.splice.bytes_from_right) == (MIB, MIB)


# -- the ends --------------------------------------------------------------------------------------------------------


async def test_the_answer_comes_behind_the_end_of_the_question() -> None:
    scene = Scene()
    scene.app.write(b"question")
    scene.app.write_eof()
    await scene.target.protocol.eof
    assert not scene.ends
    await scene.target.send(noise(MIB))
    scene.target.write_eof()
    await scene.app.protocol.eof
    assert scene.app.protocol.data == noise(MIB)
    assert (await scene.ended())[:4] == (8, MIB, None, "")


async def test_the_target_ends_first_and_the_application_goes_on() -> None:
    scene = Scene()
    scene.target.write(b"banner")
    scene.target.write_eof()
    await scene.app.protocol.eof
    await scene.app.send(noise(MIB))
    scene.app.write_eof()
    await scene.target.protocol.eof
    assert scene.target.protocol.data == noise(MIB)
    assert (await scene.ended())[:4] == (MIB, 6, None, "")


async def test_what_waits_for_a_slow_reader_is_delivered_when_both_have_ended() -> None:
    scene = Scene()
    scene.app.pause_reading()
    scene.app.write_eof()
    scene.target.write(noise(100_000))
    scene.target.write_eof()
    await turns()
    assert not scene.ends
    scene.app.resume_reading()
    await scene.app.protocol.eof
    assert scene.app.protocol.data == noise(100_000)
    assert (await scene.ended()).error is None


async def test_an_error_behind_the_end_of_both_takes_nothing_from_the_other_side() -> None:
    """A destination that answers, ends, and resets the connection because it never read all of the question."""
    scene = Scene()
    scene.target.pause_reading()
    scene.app.write(noise(50_000))
    scene.app.write_eof()
    scene.app.pause_reading()
    scene.target.write(noise(50_000, 1))
    scene.target.write_eof()
    await turns()
    scene.target.abort()
    await turns()
    scene.app.resume_reading()
    await scene.app.protocol.eof
    assert scene.app.protocol.data == noise(50_000, 1)
    assert (await scene.ended()).error is None


# -- pauses ----------------------------------------------------------------------------------------------------------


async def test_a_side_that_cannot_send_stops_the_other_from_reading() -> None:
    scene = Scene()
    scene.target.pause_reading()
    sending = asyncio.ensure_future(scene.app.send(noise(4 * MIB)))
    await turns(300)
    assert not sending.done()
    assert not scene.left.is_reading()
    assert scene.right.is_reading()
    assert scene.right.get_write_buffer_size() < MIB
    await scene.target.send(noise(MIB, 1))
    await scene.app.protocol.have(MIB)
    scene.target.resume_reading()
    await sending
    await scene.target.protocol.have(4 * MIB)
    assert scene.target.protocol.hash == hashlib.sha256(noise(4 * MIB)).hexdigest()
    assert scene.left.is_reading()


async def test_both_directions_stuck_and_freed() -> None:
    scene = Scene()
    for end in (scene.app, scene.target):
        end.pause_reading()
    sending = asyncio.gather(scene.app.send(noise(2 * MIB, 1)), scene.target.send(noise(2 * MIB, 2)))
    await turns(300)
    assert not scene.left.is_reading()
    assert not scene.right.is_reading()
    for end in (scene.app, scene.target):
        end.resume_reading()
    await sending
    await asyncio.gather(scene.app.protocol.have(2 * MIB), scene.target.protocol.have(2 * MIB))
    assert scene.app.protocol.data == noise(2 * MIB, 2)
    assert scene.target.protocol.data == noise(2 * MIB, 1)


@pytest.mark.parametrize("who", ["app", "target"])
async def test_an_end_while_the_other_side_is_paused(who: str) -> None:
    scene = Scene()
    scene.target.pause_reading()
    stuck = asyncio.ensure_future(scene.app.send(noise(4 * MIB)))
    await turns(100)
    (scene.app if who == "app" else scene.target).abort()
    end = await scene.ended()
    assert end.error is not None
    assert end.failed_side == ("left" if who == "app" else "right")
    stuck.cancel()


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["fresh", "other ended", "bytes waiting"])
@pytest.mark.parametrize("who", ["left", "right"])
async def test_an_error_on_one_side_ends_both(who: str, state: str) -> None:
    scene = Scene()
    if state == "other ended":
        (scene.target if who == "left" else scene.app).write_eof()
    elif state == "bytes waiting":
        scene.app.pause_reading()
        scene.target.pause_reading()
        scene.app.write(noise(100_000))
        scene.target.write(noise(100_000))
    await turns()
    failing, other = (scene.app, scene.target) if who == "left" else (scene.target, scene.app)
    failing.abort()
    end = await scene.ended()
    assert isinstance(end.error, ConnectionResetError)
    assert end.failed_side == who
    other.resume_reading()
    assert isinstance(await other.protocol.lost, ConnectionResetError)


@pytest.mark.parametrize("who", ["left", "right"])
async def test_an_error_behind_the_end_of_one_side_takes_nothing_of_what_it_had_sent(who: str) -> None:
    """As when a server answers an upload, ends, and resets the connection because more of the upload comes."""
    scene = Scene()
    failing, other = (scene.app, scene.target) if who == "left" else (scene.target, scene.app)
    other.pause_reading()
    other.write(b"x" * 1000)
    failing.write(noise(50_000))
    failing.write_eof()
    await turns()
    failing.abort()
    await turns()
    other.write(b"too late")
    other.resume_reading()
    await other.protocol.eof
    assert other.protocol.data == noise(50_000)
    end = await scene.ended()
    assert isinstance(end.error, ConnectionResetError)
    assert end.failed_side == who


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("who", ["left", "right"])
async def test_a_transport_that_is_closed_from_here_ends_both(who: str, ended: bool) -> None:
    """As when a stream is given up because its peer is gone: connection_lost without an error."""
    scene = Scene()
    near, far = (scene.left, scene.app) if who == "left" else (scene.right, scene.target)
    if ended:
        far.write_eof()
        await turns()
    near.abort()
    end = await scene.ended()
    assert isinstance(end.error, StreamReset)
    assert end.failed_side == who


async def test_a_splice_that_is_over_leaves_no_work_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        async with two_hosts() as (_, listener, link, _other):
            near, far = await stream_pair(link, listener)
            end = End(near)
            end.switch(end.protocol)
            app, left = memory_pipe(asyncio.get_running_loop())
            app.set_protocol(Collector())
            ends: list[SpliceEnd] = []
            Splice(asyncio.get_running_loop(), left, far, ends.append)
            end.write_eof()
            app.write_eof()
            while not ends:
                await asyncio.sleep(0)
            del left, far
            await turns()
            assert not [thing for thing in gc.get_objects() if isinstance(thing, Splice)]
    finally:
        gc.enable()


async def test_abort_ends_both_sides_at_once() -> None:
    scene = Scene()
    scene.app.write(b"x")
    await turns()
    scene.splice.abort(LinkLost("the node is stopping"))
    end = await scene.ended()
    assert end.from_left == 1
    assert isinstance(end.error, LinkLost)
    scene.splice.abort(LinkLost("again"))
    await turns()
    assert len(scene.ends) == 1


# -- taking over -----------------------------------------------------------------------------------------------------


async def test_bytes_and_ends_from_before() -> None:
    scene = Scene(from_left=b"early question", from_right=b"early answer", left_ended=True)
    await scene.target.protocol.eof
    assert scene.target.protocol.data == b"early question"
    scene.target.write(b", late answer")
    scene.target.write_eof()
    await scene.app.protocol.eof
    assert scene.app.protocol.data == b"early answer, late answer"
    assert (await scene.ended())[:4] == (14, 25, None, "")


async def test_both_had_ended_before() -> None:
    scene = Scene(from_left=b"all", from_right=b"everything", left_ended=True, right_ended=True)
    assert (await scene.ended())[:4] == (3, 10, None, "")
    assert scene.target.protocol.data == b"all"
    assert scene.app.protocol.data == b"everything"


@pytest.mark.parametrize("who", ["left", "right"])
async def test_a_side_that_was_lost_before(who: str) -> None:
    scene = Scene(**{f"{who}_lost": True, f"{who}_ended": True})
    await turns()
    other = scene.right if who == "left" else scene.left
    assert other.is_closing()
    [end] = scene.ends
    assert isinstance(end.error, StreamReset)
    assert end.failed_side == who


async def test_early_bytes_that_do_not_fit() -> None:
    early = noise(500_000)
    scene = Scene(from_left=early)
    assert not scene.left.is_reading()
    scene.app.write(b"more")
    await scene.target.protocol.have(len(early) + 4)
    assert scene.target.protocol.data == early + b"more"


# -- the end from the left held back ---------------------------------------------------------------------------------


async def test_a_held_end_goes_on_when_the_answer_has_ended(clock: Clock) -> None:
    scene = Scene(hold_fin_from_left=5.0)
    scene.app.write(b"question")
    scene.app.write_eof()
    await turns()
    assert not scene.target.protocol.eof.done()
    for _ in range(10):
        await clock.forward(4)
        scene.target.write(b"answer.")
    assert not scene.target.protocol.eof.done()
    scene.target.write_eof()
    await scene.target.protocol.eof
    assert scene.app.protocol.data == b"answer." * 10
    assert (await scene.ended())[:4] == (8, 70, None, "")
    await clock.forward(20)


async def test_a_held_end_goes_on_when_the_other_side_is_quiet(clock: Clock) -> None:
    scene = Scene(hold_fin_from_left=5.0)
    scene.app.write_eof()
    await clock.forward(4)
    scene.target.write(b"a little")
    await clock.forward(4.5)
    assert not scene.target.protocol.eof.done()
    await clock.forward(1)
    assert scene.target.protocol.eof.done()
    scene.target.write(b" and more")
    scene.target.write_eof()
    await scene.app.protocol.eof
    assert scene.app.protocol.data == b"a little and more"
    assert (await scene.ended()).error is None


async def test_a_held_end_waits_while_it_is_the_application_that_takes_nothing(clock: Clock) -> None:
    scene = Scene(hold_fin_from_left=5.0)
    scene.app.write_eof()
    scene.app.pause_reading()
    answer = asyncio.create_task(scene.target.send(noise(MIB)))
    await clock.forward(30)
    assert not scene.target.protocol.eof.done()
    scene.app.resume_reading()
    await answer
    await scene.app.protocol.have(MIB)
    await clock.forward(6)
    assert scene.target.protocol.eof.done()


async def test_a_held_end_of_an_application_that_is_gone(clock: Clock) -> None:
    scene = Scene(hold_fin_from_left=5.0)
    scene.app.write_eof()
    await clock.forward(1)
    scene.app.abort()
    end = await scene.ended()
    assert end.failed_side == "left"
    assert scene.target.protocol.eof.done()
    await clock.forward(20)
    assert len(scene.ends) == 1


async def test_a_held_end_and_an_error_of_the_target(clock: Clock) -> None:
    scene = Scene(hold_fin_from_left=5.0)
    scene.app.write_eof()
    await clock.forward(1)
    scene.target.abort()
    assert (await scene.ended()).failed_side == "right"
    await clock.forward(20)


async def test_the_target_ends_first_and_nothing_is_held(clock: Clock) -> None:
    scene = Scene(hold_fin_from_left=5.0)
    scene.target.write_eof()
    await turns()
    scene.app.write_eof()
    assert (await scene.ended())[:4] == (0, 0, None, "")
    assert scene.target.protocol.eof.done()


# -- with real transports --------------------------------------------------------------------------------------------


class Tunnel:
    """application - TCP - splice - stream of a link - splice - TCP - target"""

    def __init__(self, app: End, target: End, ends: list[SpliceEnd]) -> None:
        self.app = app
        self.target = target
        self.ends = ends

    async def ended(self) -> None:
        while len(self.ends) < 2:
            await asyncio.sleep(0)


@asynccontextmanager
async def tunnel() -> AsyncIterator[Tunnel]:
    loop = asyncio.get_running_loop()

    async def tcp() -> tuple[End, asyncio.Transport]:
        accepted: asyncio.Future[asyncio.Transport] = loop.create_future()

        class Accepting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.pause_reading()  # type: ignore[attr-defined]
                accepted.set_result(transport)  # type: ignore[arg-type]

        server = await loop.create_server(Accepting, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(Collector, "127.0.0.1", port)
        server.close()
        return End(transport, protocol), await accepted

    async with nothing_left(), two_hosts() as (client, server, link, _):
        near, far = await stream_pair(link, server)
        app, left = await tcp()
        target, right = await tcp()
        ends: list[SpliceEnd] = []
        Splice(loop, left, near, ends.append, left_scratch=client.buffers.socket)
        Splice(loop, far, right, ends.append, right_scratch=server.buffers.socket)
        left.resume_reading()
        right.resume_reading()
        yield Tunnel(app, target, ends)
        for end in (app, target):
            if not end.protocol.lost.done():
                end.abort()
                await end.protocol.lost


async def test_a_tunnel_carries_both_directions_and_both_ends() -> None:
    async with tunnel() as scene:
        await asyncio.gather(scene.app.send(noise(6 * MIB, 1)), scene.target.send(noise(6 * MIB, 2), 9999))
        scene.app.write_eof()
        await scene.target.protocol.eof
        await scene.target.send(noise(MIB, 3))
        scene.target.write_eof()
        await scene.app.protocol.eof
        assert scene.target.protocol.hash == hashlib.sha256(noise(6 * MIB, 1)).hexdigest()
        answer = noise(6 * MIB, 2) + noise(MIB, 3)
        assert scene.app.protocol.hash == hashlib.sha256(answer).hexdigest()
        scene.app.close()
        scene.target.close()
        await scene.ended()
        assert [end.error for end in scene.ends] == [None, None]


@pytest.mark.parametrize("who", ["app", "target"])
async def test_an_aborted_tunnel_ends_at_the_other_end(who: str) -> None:
    async with tunnel() as scene:
        failing, other = (scene.app, scene.target) if who == "app" else (scene.target, scene.app)
        other.protocol.keep_open = False
        stuck = asyncio.ensure_future(other.send(noise(64 * MIB), MIB))
        await failing.protocol.have(MIB)
        failing.abort()
        await other.protocol.lost
        await scene.ended()
        assert all(end.error is not None for end in scene.ends)
        stuck.cancel()


async def test_an_application_that_stops_reading_stops_the_target() -> None:
    async with tunnel() as scene:
        scene.app.pause_reading()
        sending = asyncio.ensure_future(scene.target.send(noise(32 * MIB), MIB))
        while scene.target.protocol.writable.is_set():
            await asyncio.sleep(0)
        await turns(300)
        assert not sending.done()
        scene.app.resume_reading()
        await sending
        await scene.app.protocol.have(32 * MIB)
        assert scene.app.protocol.hash == hashlib.sha256(noise(32 * MIB)).hexdigest()
