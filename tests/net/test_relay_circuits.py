"""Circuits between real hosts over loopback: what goes in comes out, and the relay learns nothing of it."""

import asyncio
import hashlib
import time

import pytest

from bethrou.events import CircuitEnded
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.negotiation import propose
from bethrou.net.relay_client import reserve
from bethrou.net.stream import YamuxStream
from bethrou.wire.circuit import (
    HOP_PROTOCOL,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Status,
    StopMessage,
    StopType,
)
from live.waiting import until

from .collector import Collector, End, noise
from .hosts import Member
from .leftovers import nothing_left
from .relays import Relay, arrives, open_ends, relayed

MIB = 1 << 20


async def test_20_mib_each_way_at_once() -> None:
    there, back = noise(20 * MIB, 1), noise(20 * MIB, 2)
    async with nothing_left(), relayed() as (_, _relay, hidden, link):
        near, far = await open_ends(link, hidden)
        sending = asyncio.gather(near.send(there), far.send(back))
        assert await arrives(far, len(there)) == hashlib.sha256(there).hexdigest()
        assert await arrives(near, len(back)) == hashlib.sha256(back).hexdigest()
        await sending
        near.close()
        far.close()


async def test_both_ends_see_each_other_and_the_relay_sees_one_stream_each() -> None:
    async with relayed() as (dialer, relay, hidden, link):
        (other,) = await until(lambda: hidden.links.get(dialer.peer_id, []))
        assert (link.peer_id, other.peer_id) == (hidden.peer_id, dialer.peer_id)
        assert other.path == CIRCUIT
        assert not other.initiator
        assert link.remote == relay.full_address.circuit()
        assert other.remote.is_circuit
        assert relay.service.active == 1
        statement = await dialer.statement_of(link)
        assert statement is not None
        assert hidden.circuit_addresses[0] in statement.listen_addrs


async def test_a_half_closed_stream_gets_its_answer() -> None:
    async with relayed() as (_, _relay, hidden, link):
        near, far = await open_ends(link, hidden)
        near.write(b"question")
        near.write_eof()
        await far.protocol.eof
        answer = noise(MIB)
        await far.send(answer)
        far.write_eof()
        await near.protocol.eof
        assert near.protocol.hash == hashlib.sha256(answer).hexdigest()


async def test_streams_inside_and_beside_the_circuit_share_reads_but_no_scratch() -> None:
    """One read of the link to the relay holds records of both: the inner link reads while the outer one does."""
    sizes = [17, 1000, 20_000, 65_000]
    inside, beside = noise(4 * MIB, 1), noise(4 * MIB, 2)
    async with relayed() as (dialer, relay, hidden, link):
        (outer,) = dialer.links[relay.peer_id]
        (near_in, far_in), (near_out, far_out) = await open_ends(link, hidden), await open_ends(outer, relay)
        sending = asyncio.gather(
            *(
                end.send(data, chunk)
                for end, data, chunk in (
                    (near_in, inside, sizes[0] * 100),
                    (far_in, inside, sizes[1]),
                    (near_out, beside, sizes[2]),
                    (far_out, beside, sizes[3]),
                )
            )
        )
        for end, data in ((near_in, inside), (far_in, inside), (near_out, beside), (far_out, beside)):
            assert await arrives(end, len(data)) == hashlib.sha256(data).hexdigest()
        await sending
        assert link.alive
        assert outer.alive


async def test_a_slow_circuit_beside_a_fast_one() -> None:
    """Both lead over the same two links; one reader takes nothing."""
    data = noise(20 * MIB)
    async with relayed() as (dialer, relay, hidden, slow):
        fast = await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        assert len(dialer.links[relay.peer_id]) == 1
        await until(lambda: relay.service.active == 2)
        stuck_near, stuck_far = await open_ends(slow, hidden)
        near, far = await open_ends(fast, hidden)
        stuck_far.pause_reading()
        stuck = asyncio.create_task(stuck_near.send(data))
        await near.send(data)
        assert await arrives(far, len(data)) == hashlib.sha256(data).hexdigest()
        assert not stuck.done()
        assert slow.round_trip < 1
        stuck_far.resume_reading()
        await stuck
        assert await arrives(stuck_far, len(data)) == hashlib.sha256(data).hexdigest()


async def test_the_relay_reads_nothing_of_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that its links decrypt holds none of the words that pass."""
    word = b"a sentence that nobody else shall read. "
    seen = bytearray()
    async with relayed() as (dialer, relay, hidden, link):
        watch(monkeypatch, [each for links in relay.links.values() for each in links], seen)
        near, far = await open_ends(link, hidden)
        near.write(word * 5000)
        far.write(word * 5000)
        await arrives(near, len(word) * 5000)
        await arrives(far, len(word) * 5000)
        # the test can see: what is meant for the relay itself is there
        (outer,) = dialer.links[relay.peer_id]
        to_relay, at_relay = await open_ends(outer, relay)
        to_relay.write(b"for the relay")
        await arrives(at_relay, 13)
    assert len(seen) > 10_000 * len(word)
    assert b"for the relay" in seen
    for start in range(len(word) - 8):
        assert word[start : start + 8] not in seen


def watch(monkeypatch: pytest.MonkeyPatch, links: list[Link], seen: bytearray) -> None:
    """Keep all that these links decrypt."""
    act_on = Link._act_on

    def act_on_too(link: Link, plaintext: memoryview) -> None:
        if link in links:
            seen.extend(plaintext)
        act_on(link, plaintext)

    monkeypatch.setattr(Link, "_act_on", act_on_too)


async def test_a_circuit_itself_may_be_half_closed_and_keeps_what_came_early() -> None:
    relay, dialer, hidden = Relay(), Member("dialer"), Member("hidden")
    taken: asyncio.Queue[tuple[End, bytes]] = asyncio.Queue()

    def take(_link: Link, stream: YamuxStream, surplus: bytes) -> None:
        end = End(stream)
        end.switch(Collector())
        end.write(StopMessage(StopType.STATUS, status=Status.OK).encode() + b"early ")
        taken.put_nowait((end, surplus))

    try:
        hidden.handle(STOP_PROTOCOL, take)
        await reserve(hidden, await hidden.dial(relay.peer_id, [relay.address]), time.time)
        link = await dialer.dial(relay.peer_id, [relay.address])
        question = HopMessage(HopType.CONNECT, hidden.peer_id).encode() + b"early, too: "
        negotiation = propose(await link.open_stream(), [HOP_PROTOCOL], question)
        near = negotiation.stream
        near.write(b"question")
        near.write_eof()
        far, request = await taken.get()
        assert request == StopMessage(StopType.CONNECT, dialer.peer_id).encode()
        await far.protocol.eof
        assert far.protocol.data == b"early, too: question"
        far.write(b"answer")
        far.write_eof()
        await negotiation.agreed()
        answer = HopMessage(HopType.STATUS, status=Status.OK).encode()
        assert await negotiation.reader.read_exactly(len(answer)) == answer
        assert await negotiation.reader.read_exactly(12) == b"early answer"
        assert await negotiation.reader.read_some() == b""
        near.close()
        far.close()
        await until(lambda: relay.ended)
        assert relay.ended == [
            CircuitEnded(str(dialer.peer_id), str(hidden.peer_id), "", 20, 12, relay.ended[0].seconds)
        ]
    finally:
        for host in (dialer, hidden, relay):
            await host.close()
