"""What a transport does about writing: when it asks for a pause, and what it does with buffers."""

import asyncio
import hashlib

import pytest

from net.clock import turns
from net.collector import noise

from .pipes import Pipe

MIB = 1 << 20


async def fill(pipe: Pipe) -> bytes:
    """Write to the left end, whose peer does not read, until it asks for a pause; what was written."""
    left, right = pipe
    right.pause_reading()
    data = noise(65_536)
    written = 0
    while left.protocol.writable.is_set():
        left.write(data)
        written += 1
        await turns(2)
        assert written < 1000, "nothing ever asked for a pause"
    return data * written


async def test_a_full_transport_asks_for_a_pause_and_a_drained_one_goes_on(pipe: Pipe) -> None:
    left, right = pipe
    data = await fill(pipe)
    low, high = left.transport.get_write_buffer_limits()
    assert 0 < low < high < left.transport.get_write_buffer_size()
    right.resume_reading()
    await left.protocol.writable.wait()
    assert left.transport.get_write_buffer_size() <= high
    await right.protocol.have(len(data))
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()
    assert left.protocol.calls == ["pause_writing", "resume_writing"]
    assert left.transport.get_write_buffer_size() == 0


async def test_pauses_and_resumptions_alternate(pipe: Pipe) -> None:
    left, right = pipe
    data = noise(6 * MIB)
    seen = []

    def wait_a_little(data: bytes) -> None:
        seen.append(len(data))
        right.pause_reading()

    right.protocol.on_data = wait_a_little
    sending = asyncio.ensure_future(left.send(data, 100_000))
    while right.protocol.size < len(data):
        await turns(3)
        right.resume_reading()
    await sending
    # the collector itself fails when it is paused or resumed twice in a row
    assert "pause_writing" in left.protocol.calls
    assert left.protocol.calls[-1] == "resume_writing"


async def test_a_limit_of_nothing_asks_for_a_pause_at_the_first_byte_that_waits(
    pipe: Pipe, kind: str
) -> None:
    if kind == "wss":
        pytest.skip("TLS transports do not count what waits at their socket")
    left, _right = pipe
    left.set_write_buffer_limits(0)
    assert left.transport.get_write_buffer_limits() == (0, 0)
    data = await fill(pipe)
    assert left.transport.get_write_buffer_size() > 0
    pipe[1].resume_reading()
    await left.protocol.writable.wait()
    assert left.transport.get_write_buffer_size() == 0
    await pipe[1].protocol.have(len(data))


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [(1000, 100, (100, 1000)), (1000, None, (250, 1000)), (None, 100, (100, 400)), (5, 5, (5, 5))],
)
async def test_limits_as_asyncio_defines_them(
    pipe: Pipe, high: int | None, low: int | None, expected: tuple[int, int]
) -> None:
    left, _ = pipe
    left.set_write_buffer_limits(high, low)
    assert left.transport.get_write_buffer_limits() == expected


@pytest.mark.parametrize(("high", "low"), [(100, 101), (-1, None), (10, -1)])
async def test_limits_that_make_no_sense(pipe: Pipe, high: int, low: int | None) -> None:
    with pytest.raises(ValueError, match="must be >="):
        pipe[0].set_write_buffer_limits(high, low)


async def test_limits_lowered_below_what_waits_ask_for_a_pause(pipe: Pipe, kind: str) -> None:
    if kind == "wss":
        pytest.skip("TLS transports look at their limits only when they are written to")
    left, right = pipe
    left.set_write_buffer_limits(32 * MIB)
    right.pause_reading()
    for _ in range(16):
        left.write(noise(MIB))
    await turns()
    assert left.protocol.writable.is_set()
    left.set_write_buffer_limits(1 * MIB)
    await turns()
    assert not left.protocol.writable.is_set()
    right.resume_reading()
    await left.protocol.writable.wait()


async def test_every_kind_of_buffer_and_several_at_once(pipe: Pipe) -> None:
    left, right = pipe
    left.write(b"bytes ")
    left.write(bytearray(b"bytearray "))
    left.write(memoryview(b"-memoryview-")[1:-1])
    left.writelines([b" ", b"lines", b"", b" more"])
    left.write_eof()
    await right.protocol.eof
    assert right.protocol.data == b"bytes bytearray memoryview lines more"


async def test_writing_nothing_is_nothing(pipe: Pipe) -> None:
    left, right = pipe
    left.write(b"")
    left.writelines([])
    left.writelines([b"", b""])
    left.write(bytearray())
    await turns()
    assert right.protocol.calls == []
    left.write(b"something")
    await right.protocol.have(9)


async def test_a_buffer_is_the_callers_again_when_write_returns(pipe: Pipe, kind: str) -> None:
    """uvloop keeps a reference to what is written until the end of the loop's turn, and asyncio while it waits."""
    if kind == "tcp":
        pytest.skip("a socket's transport may keep the buffer")
    left, right = pipe
    scratch = bytearray(200_000)
    expected = hashlib.sha256()
    total = 0
    for number in range(40):
        size = (1, 500, 3000, 40_000, 70_000, 200_000)[number % 6]
        content = noise(size, number)
        await left.protocol.writable.wait()
        scratch[:size] = content
        left.write(memoryview(scratch)[:size])
        scratch[:size] = b"\xaa" * size
        expected.update(content)
        total += size
    await right.protocol.have(total)
    assert right.protocol.hash == expected.hexdigest()


async def test_a_buffer_that_waits_is_a_copy(pipe: Pipe, kind: str) -> None:
    if kind == "tcp":
        pytest.skip("a socket's transport may keep the buffer")
    left, right = pipe
    data = await fill(pipe)
    scratch = bytearray(b"precious")
    left.write(scratch)
    scratch[:] = b"spoiled!"
    del scratch[4:]  # a kept view would forbid this
    right.resume_reading()
    await right.protocol.have(len(data) + 8)
    assert right.protocol.data.endswith(b"precious")


async def test_writing_more_than_was_asked_for_loses_nothing(pipe: Pipe) -> None:
    left, right = pipe
    data = await fill(pipe)
    more = noise(3 * MIB, 5)
    left.write(more)
    right.resume_reading()
    left.write_eof()
    await right.protocol.eof
    assert right.protocol.hash == hashlib.sha256(data + more).hexdigest()
