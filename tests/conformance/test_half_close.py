"""Ending one direction: the other goes on."""

import asyncio
import hashlib

import pytest

from net.clock import turns
from net.collector import Collector, noise

from .pipes import Pipe

MIB = 1 << 20


async def test_each_direction_ends_by_itself(pipe: Pipe) -> None:
    left, right = pipe
    assert left.transport.can_write_eof()
    left.write(b"question")
    left.write_eof()
    await right.protocol.eof
    assert right.protocol.data == b"question"
    answer = noise(2 * MIB)
    await right.send(answer)
    assert not left.protocol.eof.done()
    right.write_eof()
    await left.protocol.eof
    assert left.protocol.hash == hashlib.sha256(answer).hexdigest()
    assert not left.protocol.lost.done()
    left.close()
    right.close()
    assert await left.protocol.lost is None
    assert await right.protocol.lost is None


async def test_both_ends_at_once(pipe: Pipe) -> None:
    left, right = pipe
    left.write_eof()
    right.write_eof()
    await left.protocol.eof
    await right.protocol.eof
    assert left.protocol.calls == right.protocol.calls == ["eof_received"]


async def test_eof_comes_behind_everything_that_was_written(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    data = noise(3 * MIB)
    left.write(data)
    left.write_eof()
    await turns()
    right.resume_reading()
    await right.protocol.eof
    assert right.protocol.hash == hashlib.sha256(data).hexdigest()


async def test_the_answer_flows_while_the_question_is_still_waiting(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    question = noise(3 * MIB)
    left.write(question)
    left.write_eof()
    answer = noise(MIB, 1)
    await right.send(answer)
    right.write_eof()
    await left.protocol.eof
    assert left.protocol.hash == hashlib.sha256(answer).hexdigest()
    right.resume_reading()
    await right.protocol.eof
    assert right.protocol.hash == hashlib.sha256(question).hexdigest()


async def test_an_end_may_be_written_twice_but_nothing_behind_it(pipe: Pipe) -> None:
    left, right = pipe
    left.write(b"last")
    left.write_eof()
    left.write_eof()
    with pytest.raises(RuntimeError):
        left.write(b"behind")
    await right.protocol.eof
    with pytest.raises(RuntimeError):
        left.write(b"behind")
    assert right.protocol.data == b"last"


async def test_eof_answered_with_false_closes_the_transport(pipe: Pipe) -> None:
    left, right = pipe
    right.switch(Collector(keep_open=False))
    left.write_eof()
    assert await right.protocol.lost is None
    assert right.transport.is_closing()
    assert right.protocol.calls == ["eof_received", "connection_lost"]
    await left.protocol.eof


async def test_what_waits_is_sent_before_eof_closes_the_transport(pipe: Pipe) -> None:
    left, right = pipe
    right.switch(Collector(keep_open=False))
    left.pause_reading()
    data = noise(3 * MIB)
    right.write(data)
    left.write_eof()
    await right.protocol.eof
    left.resume_reading()
    await left.protocol.eof
    assert left.protocol.hash == hashlib.sha256(data).hexdigest()
    assert await right.protocol.lost is None


async def test_eof_waits_for_a_paused_reader(pipe: Pipe) -> None:
    left, right = pipe
    right.pause_reading()
    left.write_eof()
    await turns()
    assert right.protocol.calls == []
    right.resume_reading()
    await right.protocol.eof


async def test_an_answer_written_from_inside_eof_received(pipe: Pipe) -> None:
    left, right = pipe

    def answer() -> None:
        right.write(right.protocol.data[::-1])
        right.write_eof()

    right.protocol.on_eof = answer
    left.write(b"question")
    left.write_eof()
    async with asyncio.timeout(5):
        await left.protocol.eof
    assert left.protocol.data == b"noitseuq"
