"""What a relay grants and refuses, and to whom."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bethrou.errors import BethrouError, DialError, StreamReset
from bethrou.net import relay_service
from bethrou.net.circuits import ask_for_circuit, ask_relay
from bethrou.net.link import Link
from bethrou.net.negotiation import propose
from bethrou.net.relay_client import ReservationRefused, reserve
from bethrou.net.relay_limits import Allowance, RelayLimits
from bethrou.net.relay_service import RelayService
from bethrou.net.stream import YamuxStream
from bethrou.wire.circuit import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Limit,
    Status,
    StopMessage,
    StopType,
    Voucher,
)
from bethrou.wire.multistream import HEADER
from bethrou.wire.protobuf import length_prefixed
from live.waiting import until

from .collector import Collector, End, noise
from .hosts import Member, identity
from .relays import Relay, arrives, open_ends, relayed

MIB = 1 << 20


@asynccontextmanager
async def relay_and_member(limits: RelayLimits | None = None) -> AsyncIterator[tuple[Relay, Member, Link]]:
    """A relay, and a member with a link to it."""
    relay, member = Relay(limits=limits), Member("member")
    try:
        yield relay, member, await member.dial(relay.peer_id, [relay.address])
    finally:
        await member.close()
        await relay.close()


async def status(link: Link, message: HopMessage | bytes) -> int | None:
    """What the relay says to a request."""
    encoded = message if isinstance(message, bytes) else message.encode()
    negotiation = propose(await link.open_stream(), [HOP_PROTOCOL], encoded)
    await negotiation.agreed()
    answer = HopMessage.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
    negotiation.stream.close()
    assert answer.type is HopType.STATUS
    return answer.status


# -- reservations ----------------------------------------------------------------------------------------------------


async def test_a_reservation_says_where_and_for_how_long() -> None:
    async with relay_and_member() as (relay, member, link):
        granted = await reserve(member, link, time.time)
        assert granted.addrs == (relay.full_address,)
        assert 3595 < granted.expire - time.time() <= 3600
        assert Voucher.open(granted.voucher) == Voucher(relay.peer_id, member.peer_id, granted.expire)
        answer, negotiation = await ask_relay(link, HopMessage(HopType.RESERVE))
        assert answer.limit is None
        assert await negotiation.reader.read_some() == b""  # the relay ends the stream
        negotiation.stream.close()
        assert len(relay.service.reservations) == 1


async def test_who_says_reserve_and_no_more_is_answered() -> None:
    """rust ends its direction right behind the request."""
    async with relay_and_member() as (_, _member, link):
        negotiation = propose(await link.open_stream(), [HOP_PROTOCOL], HopMessage(HopType.RESERVE).encode())
        negotiation.stream.write_eof()
        await negotiation.agreed()
        answer = HopMessage.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
        assert answer.status == Status.OK


async def test_a_reservation_dies_with_the_last_link() -> None:
    async with relay_and_member() as (relay, member, link):
        await reserve(member, link, time.time)
        second = await member.dial(relay.peer_id, [relay.address])
        await until(lambda: len(relay.links[member.peer_id]) == 2)
        link.close()
        await until(lambda: len(relay.links[member.peer_id]) == 1)
        assert member.peer_id in relay.service.reservations
        second.close()
        await until(lambda: not relay.service.reservations)


async def test_a_reservation_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_service, "RESERVATION_TIME", 1)
    async with relay_and_member() as (relay, _member, link):
        assert await status(link, HopMessage(HopType.RESERVE)) == Status.OK
        assert relay.service.reservations
        await until(lambda: not relay.service.reservations)
        assert link.alive


async def test_a_full_relay_renews_and_takes_nobody_new() -> None:
    async with relay_and_member(RelayLimits(reservations=1)) as (relay, member, link):
        await reserve(member, link, time.time)
        other = Member("other")
        try:
            to_relay = await other.dial(relay.peer_id, [relay.address])
            with pytest.raises(ReservationRefused, match="reservation refused") as refused:
                await reserve(other, to_relay, time.time)
            assert refused.value.full
            await reserve(member, link, time.time)
        finally:
            await other.close()


# -- what is no request, or may not be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (HopMessage(HopType.CONNECT), Status.MALFORMED_MESSAGE),
        (HopMessage(HopType.STATUS, status=100), Status.UNEXPECTED_MESSAGE),
        (length_prefixed(b"\xff"), Status.MALFORMED_MESSAGE),
        (length_prefixed(b"\x08\x01\x12\x04\x0a\x02\x00\x24"), Status.MALFORMED_MESSAGE),
        (HopMessage(HopType.CONNECT, identity("nobody").peer_id), Status.NO_RESERVATION),
        (HopMessage(HopType.CONNECT, identity("relay").peer_id), Status.NO_RESERVATION),
        (HopMessage(HopType.CONNECT, identity("member").peer_id), Status.PERMISSION_DENIED),
    ],
    ids=["no peer", "status", "garbage", "bad peer", "unknown peer", "the relay", "oneself"],
)
async def test_what_is_refused(request_: HopMessage | bytes, answer: Status) -> None:
    async with relay_and_member() as (relay, member, link):
        await reserve(member, link, time.time)
        assert await status(link, request_) == answer
        assert relay.service.active == 0


@pytest.mark.parametrize("data", [b"\xff\xff\x7f", b"\x80" * 12, bytes([0x81, 0x20])])
async def test_too_long_a_request_is_reset(data: bytes) -> None:
    async with relay_and_member() as (_, _member, link):
        negotiation = propose(await link.open_stream(), [HOP_PROTOCOL], data)
        await negotiation.agreed()
        with pytest.raises(StreamReset):
            await negotiation.reader.read_some()


async def test_who_says_nothing_loses_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_service, "REQUEST_TIMEOUT", 0.2)
    async with relay_and_member() as (_, _member, link):
        negotiation = propose(await link.open_stream(), [HOP_PROTOCOL], b"\x05")
        await negotiation.agreed()
        with pytest.raises(StreamReset):
            await negotiation.reader.read_some()


async def test_no_circuits_and_reservations_inside_circuits() -> None:
    async with relayed() as (_dialer, _relay, hidden, link):
        inner = RelayService(
            hidden.loop, hidden, hidden.identity, lambda event: None, RelayLimits(), time.time
        )
        for request in (HopMessage(HopType.RESERVE), HopMessage(HopType.CONNECT, identity("x").peer_id)):
            assert await status(link, request) == Status.PERMISSION_DENIED
        await inner.close()


# -- circuits that do not come about ---------------------------------------------------------------------------------


Answer = bytes | None


async def connected(relay: Relay, member: Member, link: Link, answer: Answer) -> str:
    """Why there is no circuit to a target that answers STOP so (None: never)."""
    target = Member("target")

    def take(_link: Link, stream: YamuxStream, _surplus: bytes) -> None:
        End(stream).switch(Collector())
        if answer is not None:
            stream.write(answer)

    target.handle(STOP_PROTOCOL, take)
    try:
        await reserve(target, await target.dial(relay.peer_id, [relay.address]), time.time)
        with pytest.raises(DialError) as caught:
            await ask_for_circuit(link, target.peer_id)
        await until(lambda: relay.service.active == 0)
        (at_relay,) = relay.links[target.peer_id]
        await until(lambda: at_relay.stream_count == 0)
        return str(caught.value)
    finally:
        await target.close()


@pytest.mark.parametrize(
    "answer",
    [
        StopMessage(StopType.STATUS, status=Status.PERMISSION_DENIED).encode(),
        StopMessage(StopType.STATUS).encode(),
        StopMessage(StopType.CONNECT, status=Status.OK).encode(),
        length_prefixed(b"\xff"),
        b"\xff\xff\xff\x7f",
        None,
    ],
    ids=["refused", "no status", "no answer", "garbage", "too long", "silence"],
)
async def test_a_target_that_does_not_take_the_circuit(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_service, "STOP_TIMEOUT", 0.5)
    async with relay_and_member() as (relay, member, link):
        assert "connection failed (203)" in await connected(relay, member, link, answer)
        assert link.alive


async def test_who_gives_up_while_the_target_is_asked_costs_nothing() -> None:
    async with relay_and_member() as (relay, _member, link):
        target = Member("target")
        asked: asyncio.Queue[YamuxStream] = asyncio.Queue()

        def take(_link: Link, stream: YamuxStream, _surplus: bytes) -> None:
            End(stream).switch(Collector())
            asked.put_nowait(stream)

        target.handle(STOP_PROTOCOL, take)
        try:
            await reserve(target, await target.dial(relay.peer_id, [relay.address]), time.time)
            request = HopMessage(HopType.CONNECT, target.peer_id).encode()
            negotiation = propose(await link.open_stream(), [HOP_PROTOCOL], request)
            stream = await asked.get()
            assert relay.service.active == 1
            negotiation.stream.abort()
            await until(lambda: relay.service.active == 0)
            await until(stream.is_closing)
        finally:
            await target.close()


async def test_bounds_on_circuits() -> None:
    async with relayed(RelayLimits(circuits_per_peer=2)) as (dialer, relay, hidden, _link):
        await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        with pytest.raises(DialError, match=r"resource limit exceeded \(201\)"):
            await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        assert relay.service.active == 2
    async with relayed(RelayLimits(circuits=1)) as (dialer, _relay, hidden, link):
        with pytest.raises(DialError, match=r"resource limit exceeded \(201\)"):
            await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        link.close()
        await until(lambda: not dialer.links.get(hidden.peer_id))
        assert (await dialer.dial(hidden.peer_id, hidden.circuit_addresses)).alive


async def test_thousands_of_requests_harm_only_who_sends_them() -> None:
    async with relayed() as (_, relay, hidden, link):
        flooder = Member("flooder")
        try:
            flood = await flooder.dial(relay.peer_id, [relay.address])
            request = HopMessage(HopType.CONNECT, identity("nobody").peer_id).encode()
            streams = []
            for number in range(3000):
                stream = await flood.open_stream()
                End(stream).switch(Collector(keep=False))
                # half of them never end their request
                stream.write(b"\x13" + HEADER[1:] + length_prefixed(HOP_PROTOCOL.encode() + b"\n"))
                stream.write(request if number % 2 else request[:-1])
                streams.append(stream)
            near, far = await open_ends(link, hidden)
            data = noise(MIB)
            await near.send(data)
            await arrives(far, MIB)
            assert len(relay.service._tasks) <= relay_service.MAX_REQUESTS_OF_LINK + 1
        finally:
            await flooder.close()
        await until(lambda: not relay.service._tasks)
        assert relay.service.active == 1


# -- limits ----------------------------------------------------------------------------------------------------------


async def test_the_limit_on_bytes_ends_a_circuit_and_says_so() -> None:
    async with relayed(RelayLimits(data=MIB)) as (_, relay, hidden, link):
        near, far = await open_ends(link, hidden)
        near.write(noise(2 * MIB))
        await asyncio.wait_for(near.protocol.lost, 10)
        assert far.protocol.size < MIB + 65536  # the frame that was too much may have passed
        await until(lambda: relay.ended)
        assert relay.ended[0].reason == f"the relay's limit of {MIB} bytes is reached"
        assert relay.links[hidden.peer_id]


async def test_the_limit_on_time_ends_a_circuit_and_is_announced() -> None:
    async with relayed(RelayLimits(duration=1)) as (dialer, relay, hidden, link):
        (outer,) = dialer.links[relay.peer_id]
        answer, negotiation = await ask_relay(outer, HopMessage(HopType.CONNECT, hidden.peer_id))
        assert answer.limit == Limit(1, 0)
        negotiation.stream.abort()
        await asyncio.wait_for(asyncio.shield(link.closed), 10)
        await until(lambda: len(relay.ended) == 2)
        assert "the relay's limit of 1 s is reached" in [event.reason for event in relay.ended]
        assert outer.alive


@pytest.mark.parametrize("limits", [RelayLimits(rate=2 * MIB), RelayLimits(circuit_rate=2 * MIB)])
async def test_rates_pace_without_a_stall(limits: RelayLimits) -> None:
    async with relayed(limits) as (_, _relay, hidden, link):
        near, far = await open_ends(link, hidden)
        arrived: list[float] = []
        loop = asyncio.get_running_loop()
        far.protocol.on_data = lambda data: arrived.append(loop.time())
        data = noise(3 * MIB)
        started = loop.time()
        await near.send(data)
        await arrives(far, len(data))
        assert loop.time() - started > 1.0  # 1.5 s, less what may pass at once
        pauses = [after - before for before, after in itertools.pairwise(arrived)]
        assert max(pauses) < 0.5
        assert link.alive


async def test_a_rate_for_all_is_shared() -> None:
    async with relayed(RelayLimits(rate=4 * MIB)) as (dialer, _relay, hidden, link):
        other = await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        pairs = [await open_ends(each, hidden) for each in (link, other)]
        sending = [asyncio.create_task(near.send(noise(20 * MIB))) for near, _ in pairs]
        await asyncio.wait_for(pairs[0][1].protocol.have(3 * MIB), 20)
        assert pairs[1][1].protocol.size > MIB
        for task in sending:
            task.cancel()


def test_an_allowance_is_arithmetic() -> None:
    free = Allowance(0, 5.0)
    assert free.take(1 << 40, 5.0) == 0
    allowance = Allowance(1_000_000, 0.0)
    assert allowance.take(250_000, 0.0) == 0  # a quarter of a second at once
    assert allowance.take(100_000, 0.0) == pytest.approx(0.1)
    assert allowance.take(100_000, 0.0) == pytest.approx(0.2)  # in turn
    assert allowance.take(100_000, 0.25) == pytest.approx(0.05)
    assert allowance.take(250_000, 1000.0) == 0  # no more is saved up than that
    assert allowance.take(100_000, 1000.0) == pytest.approx(0.1)


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_a_relay_that_drains_keeps_what_is_there() -> None:
    async with relayed() as (dialer, relay, hidden, link):
        relay.service.drain()
        with pytest.raises(DialError, match="resource limit exceeded"):
            await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        (outer,) = dialer.links[relay.peer_id]
        with pytest.raises(ReservationRefused):
            await reserve(dialer, outer, time.time)
        near, far = await open_ends(link, hidden)
        near.write(b"on it goes")
        await arrives(far, 10)
        assert not relay.service.idle_for(0.2)
        await until(lambda: relay.service.idle_for(0.2))  # although the two ends ping each other
        near.write(noise(10_000))
        await arrives(far, 10_010)
        assert not relay.service.idle_for(0.2)


async def test_a_relay_that_stops_says_so_in_its_events() -> None:
    async with relayed() as (_, relay, _hidden, link):
        await relay.service.close()
        assert isinstance(await link.closed, BethrouError)
        await until(lambda: relay.ended)
        assert relay.ended[0].reason == "the relay is stopping"
