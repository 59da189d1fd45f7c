"""The ends of a transport: close, abort, and what is called once and never again."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from net.clock import turns
from net.collector import Collector, End, noise

from .pipes import Pipe

MIB = 1 << 20


async def test_close_sends_what_is_waiting(pipe: Pipe) -> None:
    left, right = pipe
    right.protocol.keep_open = False
    right.pause_reading()
    data = noise(4 * MIB)
    left.write(data)
    left.close()
    assert left.transport.is_closing()
    await turns()
    assert not left.protocol.lost.done()
    right.resume_reading()
    assert await left.protocol.lost is None
    assert await right.protocol.lost is None
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()
    assert right.protocol.eof.done()


async def test_close_of_an_idle_pipe(pipe: Pipe) -> None:
    left, right = pipe
    right.protocol.keep_open = False
    left.close()
    assert left.protocol.calls == []  # not from inside the call
    assert await left.protocol.lost is None
    assert await right.protocol.lost is None
    assert left.protocol.calls == ["connection_lost"]
    assert right.protocol.calls == ["eof_received", "connection_lost"]


async def test_nothing_is_delivered_behind_close(pipe: Pipe) -> None:
    left, right = pipe
    left.pause_reading()
    right.write(b"waiting unread")
    await turns()
    left.close()
    left.resume_reading()
    await left.protocol.lost
    assert left.protocol.calls == ["connection_lost"]
    assert not left.transport.is_reading()


async def test_close_from_inside_data_received_is_the_last_of_it(pipe: Pipe) -> None:
    left, right = pipe
    right.protocol.on_data = lambda data: right.close()
    left.write(noise(MIB))
    left.write_eof()
    await right.protocol.lost
    assert right.protocol.calls == ["data_received", "connection_lost"]
    assert right.protocol.size < MIB


async def test_abort_from_inside_data_received_is_the_last_of_it(pipe: Pipe) -> None:
    left, right = pipe
    right.protocol.on_data = lambda data: right.abort()
    left.write(noise(MIB))
    left.write_eof()
    assert await right.protocol.lost is None
    assert right.protocol.calls == ["data_received", "connection_lost"]


async def test_abort_ends_both_sides_without_waiting(pipe: Pipe) -> None:
    left, right = pipe
    right.protocol.keep_open = False
    right.pause_reading()
    left.write(noise(4 * MIB))
    left.abort()
    assert left.transport.is_closing()
    assert left.protocol.calls in ([], ["pause_writing"])
    assert await left.protocol.lost is None
    right.resume_reading()
    await right.protocol.lost
    assert right.protocol.size < 4 * MIB
    assert left.transport.get_write_buffer_size() == 0


async def test_the_other_end_of_an_abort_can_only_give_up(pipe: Pipe) -> None:
    left, right = pipe
    left.abort()
    await left.protocol.lost
    async with asyncio.timeout(5):
        while not right.protocol.lost.done():
            if not right.transport.is_closing():
                right.write(b"into the void")
            await asyncio.sleep(0)


ENDINGS: dict[str, Callable[[End], None]] = {
    "close, close": lambda end: (end.close(), end.close())[0],
    "close, abort": lambda end: (end.close(), end.abort())[0],
    "abort, close": lambda end: (end.abort(), end.close())[0],
    "abort, abort": lambda end: (end.abort(), end.abort())[0],
    "eof, close": lambda end: (end.write_eof(), end.close())[0],
    "eof, abort": lambda end: (end.write_eof(), end.abort())[0],
    "close, eof": lambda end: (end.close(), end.write_eof())[0],
}


@pytest.mark.parametrize("waiting", [0, 2 * MIB], ids=["idle", "full"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_connection_lost_comes_once_whatever_is_called(
    pipe: Pipe, kind: str, ending: str, waiting: int
) -> None:
    left, right = pipe
    right.protocol.keep_open = False
    if waiting:
        right.pause_reading()
        left.write(noise(waiting))
        right.resume_reading()
    ENDINGS[ending](left)
    await left.protocol.lost
    await right.protocol.lost
    await turns()
    for end in (left, right):
        end.close()
        if kind != "tcp":  # asyncio's own transport fails when it is aborted behind a close that had to wait
            end.abort()
    await turns()  # the collectors fail when they are called again
    assert left.protocol.calls.count("connection_lost") == 1
    assert right.protocol.calls.count("connection_lost") == 1


async def test_both_ends_close_at_once(pipe: Pipe) -> None:
    left, right = pipe
    left.write(b"farewell")
    right.write(b"farewell")
    left.close()
    right.close()
    assert await left.protocol.lost is None
    assert await right.protocol.lost is None
    assert left.protocol.calls == right.protocol.calls == ["connection_lost"]


async def test_what_is_called_behind_the_end_does_no_harm(pipe: Pipe, kind: str) -> None:
    if kind == "tcp":
        pytest.skip("uvloop's own transport raises RuntimeError from then on")
    left, _right = pipe
    left.close()
    await left.protocol.lost
    left.write(b"late")
    left.writelines([b"late"])
    left.pause_reading()
    left.resume_reading()
    left.close()
    left.abort()
    await turns()
    assert left.transport.is_closing()
    assert not left.transport.is_reading()
    assert left.protocol.calls == ["connection_lost"]


async def test_the_end_is_told_to_the_protocol_of_that_moment(pipe: Pipe) -> None:
    left, _right = pipe
    first = left.protocol
    left.close()
    left.switch(Collector())
    assert await left.protocol.lost is None
    await turns()
    assert first.calls == []


async def test_the_peers_end_is_told_to_a_paused_reader_that_closes(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    left.write(b"unread")
    left.close()
    await turns()
    right.close()
    assert await left.protocol.lost is None
    await right.protocol.lost
    assert right.protocol.calls == ["connection_lost"]


async def test_a_writer_that_was_paused_is_told_of_the_end(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    sending = asyncio.ensure_future(left.send(noise(8 * MIB)))
    while left.protocol.writable.is_set():
        await asyncio.sleep(0)
    left.abort()
    await left.protocol.lost
    sending.cancel()
    assert left.protocol.calls == ["pause_writing", "connection_lost"]
