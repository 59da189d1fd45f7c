"""Handing a transport from one protocol to the next, and protocols that bring their own buffer."""

import asyncio
import hashlib

import pytest

from net.clock import turns
from net.collector import BufferedCollector, Collector, Recorder, noise

from .pipes import Pipe

MIB = 1 << 20


def make(buffered: bool) -> Recorder:
    return BufferedCollector(10_000) if buffered else Collector()


@pytest.mark.parametrize("buffered", [(False, False), (False, True), (True, False), (True, True)])
async def test_the_protocol_changes_while_data_flows(pipe: Pipe, buffered: tuple[bool, bool]) -> None:
    left, right = pipe
    data = noise(3 * MIB)
    first, second = make(buffered[0]), make(buffered[1])
    right.switch(first)

    def hand_over(_: bytes) -> None:
        if first.size > MIB:
            right.switch(second)

    first.on_data = hand_over
    await left.send(data, 40_001)
    left.write_eof()
    await second.eof
    assert MIB < first.size < 3 * MIB
    assert first.calls == ["data_received"]
    whole = first.data + second.data
    assert hashlib.sha256(whole).hexdigest() == hashlib.sha256(data).hexdigest()


async def test_the_protocol_changes_many_times(pipe: Pipe) -> None:
    left, right = pipe
    data = noise(2 * MIB)
    used: list[Recorder] = []

    def next_one(_: bytes = b"") -> None:
        used.append(make(buffered=len(used) % 2 == 1))
        used[-1].on_data = next_one
        right.switch(used[-1])

    next_one()
    sending = asyncio.ensure_future(left.send(data, 30_000))
    while sum(each.size for each in used) < len(data):
        await asyncio.sleep(0)
    await sending
    assert len(used) > 5
    whole = b"".join(each.data for each in used)
    assert hashlib.sha256(whole).hexdigest() == hashlib.sha256(data).hexdigest()


async def test_the_protocol_changes_while_reading_is_paused(pipe: Pipe) -> None:
    left, right = pipe
    first, second = right.protocol, Collector()
    right.pause_reading()
    left.write(b"for whoever comes")
    left.write_eof()
    await turns()
    right.switch(second)
    await turns()
    assert second.calls == []
    right.resume_reading()
    await second.eof
    assert second.data == b"for whoever comes"
    assert first.calls == []


async def test_get_protocol_names_the_one_in_charge(pipe: Pipe) -> None:
    left, _ = pipe
    assert left.transport.get_protocol() is left.protocol
    left.switch(BufferedCollector())
    assert left.transport.get_protocol() is left.protocol


@pytest.mark.parametrize("size", [1, 7, 4096, 300_000])
async def test_buffers_of_any_size(pipe: Pipe, size: int) -> None:
    left, right = pipe
    data = noise(min(MIB, 5000 * size))
    right.switch(BufferedCollector(size))
    await left.send(data)
    left.write_eof()
    await right.protocol.eof
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()


async def test_a_pause_from_inside_buffer_updated_holds(pipe: Pipe) -> None:
    left, right = pipe
    right.switch(BufferedCollector(100))
    right.protocol.on_data = lambda _: right.pause_reading()
    data = noise(20_000)
    left.write(data)
    while right.protocol.size < len(data):
        before = right.protocol.size
        await right.protocol.have(before + 1)
        await turns(3)
        assert right.protocol.size - before <= 100
        right.resume_reading()
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()


async def test_close_from_inside_buffer_updated_is_the_last_of_it(pipe: Pipe) -> None:
    left, right = pipe
    right.switch(BufferedCollector(100))
    right.protocol.on_data = lambda _: right.close()
    left.write(noise(20_000))
    await right.protocol.lost
    assert right.protocol.size <= 100
    assert right.protocol.calls == ["data_received", "connection_lost"]


async def test_answers_written_from_inside_data_received(pipe: Pipe) -> None:
    left, right = pipe
    right.protocol.on_data = right.write
    data = noise(200_000)
    for start in range(0, len(data), 10_000):
        left.write(data[start : start + 10_000])
        await left.protocol.have(start)
    await left.protocol.have(len(data))
    assert left.protocol.hash == hashlib.sha256(data).hexdigest()


async def test_unknown_facts_have_a_default(pipe: Pipe) -> None:
    left, _ = pipe
    assert left.transport.get_extra_info("colour") is None
    assert left.transport.get_extra_info("colour", "none") == "none"
