"""Nodes that stay reachable through relays, whatever these do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bethrou.errors import DialError, LinkLost, PeerError
from bethrou.events import RelayLost, RelayReserved
from bethrou.net import circuits, relay_client, relay_keeper, upgrade
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.relay_client import reserve
from bethrou.net.relay_limits import RelayLimits
from bethrou.net.splice import Splice
from bethrou.net.stream import YamuxStream
from bethrou.wire.circuit import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    Voucher,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed
from live.waiting import until

from .collector import Collector, End, noise
from .hosts import Member, identity
from .leftovers import nothing_left
from .relays import Hidden, Relay, relayed


@pytest.fixture(autouse=True)
def quick_redials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_keeper, "REDIAL", (0.02, 0.1))
    monkeypatch.setattr(relay_keeper, "REFUSED_WAIT", (0.02, 0.1))


def lost(hidden: Hidden) -> list[str]:
    return [event.reason for event in hidden.events if isinstance(event, RelayLost)]


# -- relays that come and go -----------------------------------------------------------------------------------------


async def test_a_relay_that_comes_back_has_its_nodes_back() -> None:
    async with nothing_left():
        relay, hidden = Relay(), Hidden()
        address = relay.full_address
        hidden.keeper = relay_keeper.RelayKeeper(
            hidden.loop, hidden, [address], hidden.events.append, random.Random(1), time.time
        )
        hidden.keeper.start()
        await hidden.reserved()
        assert hidden.circuit_addresses == [address.circuit()]
        await relay.close()
        await until(lambda: not hidden.circuit_addresses)
        assert lost(hidden)
        relay = Relay()
        relay.stop_listening()
        relay.listen(address.without_peer())
        await hidden.reserved(2)
        assert hidden.peer_id in relay.service.reservations
        dialer = Member("dialer")
        assert (await dialer.dial(hidden.peer_id, hidden.circuit_addresses)).path == CIRCUIT
        for host in (dialer, hidden, relay):
            await host.close()


async def test_many_nodes_come_back_one_after_the_other() -> None:
    """Their chance is each its own: the span is used."""
    keepers = [random.Random(str(number)) for number in range(200)]
    delays = sorted(rng.uniform(1.5, 4.0) for rng in keepers)
    busiest = max(sum(start <= delay < start + 0.25 for delay in delays) for start in delays)
    assert busiest < 60


async def test_a_reservation_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_keeper, "SOONEST_REFRESH", 0.01)
    monkeypatch.setattr(relay_keeper, "LATEST_REFRESH", 0.05)
    relay, granted = Relay(), 0
    reserve_there = relay.service._reserve

    def count(link: Link) -> HopMessage:
        nonlocal granted
        granted += 1
        return reserve_there(link)

    relay.service._reserve = count  # type: ignore[method-assign]
    hidden = Hidden(relay.full_address)
    try:
        await until(lambda: granted >= 4)
        assert len(relay.links[hidden.peer_id]) == 1
        assert hidden.count(RelayReserved) == 1
    finally:
        await hidden.close()
        await relay.close()


async def test_a_node_is_there_through_all_its_relays() -> None:
    relays = [Relay(f"relay {number}") for number in range(3)]
    hidden, dialer = Hidden(*(relay.full_address for relay in relays)), Member("dialer")
    try:
        await hidden.reserved(3)
        assert set(hidden.circuit_addresses) == {relay.full_address.circuit() for relay in relays}
        addresses = hidden.circuit_addresses
        for relay in relays[:2]:
            await relay.close()
        link = await dialer.dial(hidden.peer_id, addresses)
        assert link.remote == relays[2].full_address.circuit()
        await until(lambda: hidden.circuit_addresses == [relays[2].full_address.circuit()])
    finally:
        for host in (dialer, hidden, relays[2]):
            await host.close()


async def test_connected_peers_are_told_where_a_node_is() -> None:
    relay, hidden, friend = Relay(), Hidden(), Member("friend")
    try:
        link = await friend.dial(hidden.peer_id, [hidden.address])
        await friend.statement_of(link)
        hidden.reachable_through(relay.peer_id, [relay.full_address.circuit()])
        await until(lambda: link.statement and relay.full_address.circuit() in link.statement.listen_addrs)
        hidden.reachable_through(relay.peer_id, [])
        await until(
            lambda: link.statement and relay.full_address.circuit() not in link.statement.listen_addrs
        )
    finally:
        for host in (friend, hidden, relay):
            await host.close()


async def test_a_full_relay_is_asked_again() -> None:
    relay = Relay(limits=RelayLimits(reservations=1))
    first = Hidden(relay.full_address, name="first")
    second = None
    try:
        await first.reserved()
        second = Hidden(relay.full_address, name="second")
        await until(lambda: lost(second))
        assert "reservation refused (200)" in lost(second)[0]
        await first.close()
        await second.reserved()
    finally:
        for host in (first, second, relay):
            if host is not None:
                await host.close()


async def test_somebody_who_is_no_relay() -> None:
    member = Member("member")
    hidden = Hidden(member.address.with_peer(member.peer_id))
    try:
        await until(lambda: len(lost(hidden)) >= 2)
        assert HOP_PROTOCOL in lost(hidden)[0]
        assert hidden.circuit_addresses == []
    finally:
        await hidden.close()
        await member.close()


# -- relays that lie -------------------------------------------------------------------------------------------------

HopAnswer = Callable[[Link, YamuxStream, ByteReader], None]


class Liar(Member):
    """A relay that says what a test wants."""

    def __init__(self, answer: HopAnswer) -> None:
        super().__init__("relay")
        self.handle(HOP_PROTOCOL, self._take)
        self._answer = answer

    def _take(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self._answer(link, stream, reader)


@asynccontextmanager
async def lied_to(answer: HopAnswer) -> AsyncIterator[tuple[Member, Liar, Link]]:
    liar, member = Liar(answer), Member("member")
    try:
        yield member, liar, await member.dial(liar.peer_id, [liar.address])
    finally:
        await member.close()
        await liar.close()


def says(data: bytes) -> HopAnswer:
    return lambda link, stream, reader: stream.write(data)


def granting(expire: int, relay: str, peer: str, signer: str, damaged: bool = False) -> bytes:
    voucher = Voucher(identity(relay).peer_id, identity(peer).peer_id, expire).seal(identity(signer))
    if damaged:
        voucher = voucher[:-1] + bytes([voucher[-1] ^ 1])
    reservation = Reservation(expire, (), voucher)
    return HopMessage(HopType.STATUS, reservation=reservation, status=Status.OK).encode()


LATER = int(time.time()) + 3600


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (granting(LATER, "relay", "other", "relay"), "voucher is for somebody else"),
        (granting(LATER, "other", "member", "other"), "voucher is for somebody else"),
        (granting(1_000_000_000, "relay", "member", "relay"), "one of the two clocks is wrong"),
        (granting(LATER, "relay", "member", "relay", damaged=True), "bad signature"),
        (HopMessage(HopType.STATUS, status=Status.OK).encode(), "but not what"),
        (HopMessage(HopType.STATUS).encode(), "no status"),
        (HopMessage(HopType.STATUS, status=999).encode(), "status 999"),
        (HopMessage(HopType.RESERVE, status=Status.OK).encode(), "something else than a status"),
        (length_prefixed(b"\xff\xff"), "varint"),
        (b"\xff\xff\x7f", "at most 4096"),
    ],
    ids=[
        "other peer",
        "other relay",
        "past",
        "forged",
        "nothing",
        "no status",
        "999",
        "no answer",
        "junk",
        "long",
    ],
)
async def test_reservations_that_are_not_believed(answer: bytes, error: str) -> None:
    async with lied_to(says(answer)) as (member, _liar, link):
        with pytest.raises(PeerError, match=error):
            await reserve(member, link, time.time)
        assert link.alive


async def test_a_reservation_without_a_voucher_and_addresses_will_do() -> None:
    """As go grants it in a private network."""
    answer = HopMessage(HopType.STATUS, reservation=Reservation(LATER), status=Status.OK).encode()
    async with lied_to(says(answer)) as (member, _liar, link):
        assert await reserve(member, link, time.time) == Reservation(LATER)


async def test_a_relay_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_client, "RESERVE_TIMEOUT", 0.2)
    monkeypatch.setattr(circuits, "ANSWER_TIMEOUT", 0.2)
    async with lied_to(lambda link, stream, reader: None) as (member, liar, link):
        with pytest.raises(LinkLost, match="did not answer"):
            await reserve(member, link, time.time)
        target = Multiaddr.parse(f"{liar.address.with_peer(liar.peer_id)}/p2p-circuit")
        with pytest.raises(DialError, match="did not answer"):
            await member.dial(identity("target").peer_id, [target])
        await until(lambda: link.stream_count == 0)


OK = HopMessage(HopType.STATUS, status=Status.OK).encode()


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda link, stream, reader: stream.write(OK),
        lambda link, stream, reader: (stream.write(OK), stream.write_eof()),
        lambda link, stream, reader: (stream.write(OK), stream.abort()),
        lambda link, stream, reader: stream.write(OK + noise(100)),
        lambda link, stream, reader: stream.abort(),
        lambda link, stream, reader: link.close(),
    ],
    ids=["nobody there", "end", "reset behind ok", "garbage", "reset", "link closed"],
)
async def test_circuits_that_lead_nowhere(behaviour: HopAnswer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 0.5)
    async with nothing_left(), lied_to(behaviour) as (member, liar, _link):
        target = liar.address.with_peer(liar.peer_id).circuit()
        with pytest.raises(DialError):
            await member.dial(identity("target").peer_id, [target])
        for links in member.links.values():
            await until(lambda links=links: all(each.stream_count == 0 for each in links))  # type: ignore[misc]


async def test_endless_garbage_on_a_circuit_ends_it_and_nothing_else() -> None:
    def flood(link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        stream.write(OK)
        end = End(stream)
        end.switch(Collector(keep=False))
        flooding.append(asyncio.ensure_future(end.send(noise(1 << 20) * 50)))

    flooding: list[asyncio.Future[None]] = []
    async with lied_to(flood) as (member, liar, link):
        with pytest.raises(DialError):
            await member.dial(identity("target").peer_id, [liar.address.with_peer(liar.peer_id).circuit()])
        assert link.alive
        (pump,) = flooding
        pump.cancel()


async def test_a_relay_that_joins_us_to_somebody_else() -> None:
    """Who is there is what Noise proves: the relay itself, which has the network key, is not whom we meant."""

    async def accept(link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        await reader.read_prefixed(MAX_MESSAGE)
        stream.write(OK)
        await liars[0].accepting.take_circuit(stream, link.remote)

    def impostor(link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        accepting.append(asyncio.ensure_future(accept(link, stream, reader)))

    accepting: list[asyncio.Future[None]] = []
    liars: list[Liar] = []
    async with lied_to(impostor) as (member, liar, _link):
        liars.append(liar)
        with pytest.raises(DialError, match=str(liar.peer_id)):
            await member.dial(identity("target").peer_id, [liar.address.with_peer(liar.peer_id).circuit()])
        await asyncio.gather(*accepting)
        assert identity("target").peer_id not in member.links


async def test_a_relay_that_alters_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit: the circuit's link dies, the altered byte is not delivered, the link to the relay stays."""
    async with relayed() as (dialer, relay, hidden, link):
        (circuit,) = relay.service._circuits
        assert isinstance(circuit.splice, Splice)
        side = circuit.splice._left
        forward = side.forward

        negotiation = propose(await link.open_stream(), ["/test/pipe/1.0.0"])
        await negotiation.agreed()
        far = End(await hidden.pipes.get())
        far.switch(Collector())

        def alter(data: bytes | memoryview) -> None:
            forward(bytes(data[:-1]) + bytes([data[-1] ^ 1]))

        side.__class__ = type(
            "Altering", (type(side),), {"forward": lambda self, data: alter(data), "__slots__": ()}
        )
        negotiation.stream.write(b"words")
        await asyncio.wait_for(asyncio.shield(link.closed), 10)
        assert far.protocol.data == b""
        (outer,) = dialer.links[relay.peer_id]
        assert outer.alive


# -- circuits that nobody asked for ----------------------------------------------------------------------------------


async def stop_status(link: Link, message: bytes) -> int | None:
    negotiation = propose(await link.open_stream(), [STOP_PROTOCOL], message)
    await negotiation.agreed()
    answer = StopMessage.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
    negotiation.stream.abort()
    return answer.status


async def test_what_a_node_says_to_circuits() -> None:
    relay = Relay()
    hidden, stranger = Hidden(relay.full_address), Member("stranger")
    try:
        await hidden.reserved()
        by_stranger = await stranger.dial(hidden.peer_id, [hidden.address])
        (by_relay,) = relay.links[hidden.peer_id]
        source = StopMessage(StopType.CONNECT, identity("somebody").peer_id).encode()
        assert await stop_status(by_stranger, source) == Status.PERMISSION_DENIED
        assert await stop_status(by_relay, source) == Status.OK
        own = StopMessage(StopType.CONNECT, hidden.peer_id).encode()
        assert await stop_status(by_relay, own) == Status.MALFORMED_MESSAGE
        assert await stop_status(by_relay, length_prefixed(b"\xff")) == Status.MALFORMED_MESSAGE
        assert await stop_status(by_relay, StopMessage(StopType.CONNECT).encode()) == Status.MALFORMED_MESSAGE
        status = StopMessage(StopType.STATUS, status=Status.OK).encode()
        assert await stop_status(by_relay, status) == Status.UNEXPECTED_MESSAGE
    finally:
        for host in (stranger, hidden, relay):
            await host.close()


async def test_circuits_by_the_hundred_that_become_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 1.0)
    relay = Relay()
    hidden = Hidden(relay.full_address)
    try:
        await hidden.reserved()
        (by_relay,) = relay.links[hidden.peer_id]
        message = StopMessage(StopType.CONNECT, identity("somebody").peer_id).encode()
        for _ in range(600):
            negotiation = propose(await by_relay.open_stream(), [STOP_PROTOCOL], message)
            assert negotiation.stream
        at_hidden = hidden.links[relay.peer_id][0]
        await until(lambda: at_hidden.stream_count == 0)
        assert hidden.accepting.handshakes == 0
        dialer = Member("dialer")
        assert (await dialer.dial(hidden.peer_id, hidden.circuit_addresses)).alive
        await dialer.close()
    finally:
        await hidden.close()
        await relay.close()


# -- dialling --------------------------------------------------------------------------------------------------------


async def test_addresses_that_are_no_way_through_one_relay() -> None:
    relay, dialer = Relay(), Member("dialer")
    target = identity("target").peer_id
    try:
        for text in (
            "/p2p-circuit",
            f"{relay.address}/p2p-circuit",
            f"{relay.full_address}/p2p-circuit/p2p/{identity('x').peer_id}/p2p-circuit",
            f"{relay.address}/p2p/{target}/p2p-circuit",
        ):
            with pytest.raises(DialError, match="no way through one relay"):
                await dialer.dial(target, [Multiaddr.parse(text)])
        own = dialer.address.with_peer(dialer.peer_id).circuit()
        with pytest.raises(DialError, match="this is the relay itself"):
            await dialer.dial(target, [own])
    finally:
        await dialer.close()
        await relay.close()


async def test_a_link_to_a_relay_goes_when_no_circuit_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuits, "IDLE", 0.1)
    async with relayed() as (dialer, relay, hidden, link):
        (outer,) = dialer.links[relay.peer_id]
        second = await dialer.dial(hidden.peer_id, hidden.circuit_addresses)
        link.close()
        await asyncio.sleep(0.3)  # longer than it would be kept without the second one
        assert outer.alive
        second.close()
        await until(lambda: not outer.alive)


async def test_a_direct_way_has_a_head_start() -> None:
    async with relayed() as (dialer, _relay, hidden, _link):
        link = await dialer.dial(hidden.peer_id, [*hidden.circuit_addresses, hidden.address])
        assert link.remote == hidden.address
        nobody = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
        started = time.monotonic()
        link = await dialer.dial(hidden.peer_id, [*hidden.circuit_addresses, nobody])
        assert link.path == CIRCUIT
        assert time.monotonic() - started < 0.8  # when no direct one is left, circuits do not wait
