"""What a transport does about reading."""

import asyncio
import hashlib

import pytest

from net.clock import turns
from net.collector import noise

from .pipes import Pipe

MIB = 1 << 20


async def test_bytes_arrive_in_order_and_unaltered(pipe: Pipe) -> None:
    left, right = pipe
    data = noise(4 * MIB)
    await left.send(data, 33_333)
    await right.protocol.have(len(data))
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()
    assert not left.protocol.size


@pytest.mark.parametrize("chunk", [1, 7, 1000, 65_519, 65_520, 3 * MIB])
async def test_bytes_written_in_chunks_of_any_size(pipe: Pipe, chunk: int) -> None:
    left, right = pipe
    data = noise(min(3 * MIB, 400 * chunk), seed=chunk)
    await left.send(data, chunk)
    await right.protocol.have(len(data))
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()


async def test_both_directions_at_once(pipe: Pipe) -> None:
    left, right = pipe
    there, back = noise(3 * MIB, 1), noise(3 * MIB, 2)
    await asyncio.gather(left.send(there, 70_001), right.send(back, 12_345))
    await right.protocol.have(len(there))
    await left.protocol.have(len(back))
    assert right.protocol.hash == hashlib.sha256(there).hexdigest()
    assert left.protocol.hash == hashlib.sha256(back).hexdigest()


async def test_nothing_comes_while_reading_is_paused(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    assert not right.transport.is_reading()
    left.write(b"waiting")
    left.write_eof()
    await turns()
    assert right.protocol.calls == []
    right.resume_reading()
    assert right.transport.is_reading()
    await right.protocol.eof
    assert right.protocol.data == b"waiting"


async def test_reading_paused_from_inside_data_received(pipe: Pipe) -> None:
    left, right = pipe
    calls = []

    def pause(data: bytes) -> None:
        calls.append(len(data))
        right.pause_reading()

    right.protocol.on_data = pause
    data = noise(2 * MIB)
    sending = asyncio.ensure_future(left.send(data))
    while right.protocol.size < len(data):
        before = len(calls)
        await right.protocol.have(right.protocol.size + 1)
        await turns(5)
        assert len(calls) == before + 1  # one call, however much is waiting
        right.resume_reading()
    await sending
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()


async def test_pausing_and_resuming_twice_does_no_harm(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    right.pause_reading()
    left.write(b"once")
    await turns()
    assert right.protocol.size == 0
    right.resume_reading()
    right.resume_reading()
    await right.protocol.have(4)
    assert right.protocol.data == b"once"


async def test_resuming_and_pausing_in_one_turn(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    left.write(b"waiting")
    await turns()
    right.resume_reading()
    right.pause_reading()
    await turns()
    assert right.protocol.size == 0
    right.resume_reading()
    await right.protocol.have(7)


async def test_a_paused_direction_does_not_stop_the_other(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    stuck = asyncio.ensure_future(left.send(noise(8 * MIB)))
    await turns()
    back = noise(2 * MIB, 3)
    await right.send(back)
    await left.protocol.have(len(back))
    assert left.protocol.hash == hashlib.sha256(back).hexdigest()
    assert not stuck.done()
    stuck.cancel()


async def test_a_reader_that_comes_late_gets_everything(pipe: Pipe) -> None:
    left, right = pipe
    data = noise(4 * MIB)
    right.pause_reading()
    sending = asyncio.ensure_future(left.send(data))
    await turns(300)
    assert not sending.done()
    assert not left.protocol.writable.is_set()
    right.resume_reading()
    await sending
    left.write_eof()
    await right.protocol.eof
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()
