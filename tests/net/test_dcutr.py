"""Direct links in place of circuits, over loopback: links labelled as circuits, and peers with rules of their own.

What NATs do to it is in test_punching.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest

from bethrou.errors import LinkLost, StreamReset
from bethrou.events import Event, HolePunched, HolePunchFailed
from bethrou.net import dcutr, punch
from bethrou.net.dcutr import MAX_ROUNDS, Dcutr
from bethrou.net.dialer import connect_beside
from bethrou.net.host import Host
from bethrou.net.link import CIRCUIT, DIRECT, Link
from bethrou.net.listener import open_listening_socket
from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.wire.dcutr import PROTOCOL, SYNC, HolePunch, Kind, connect, decode
from bethrou.wire.identify import Identify
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed
from live.waiting import until

from .clock import Clock, turns
from .hosts import ANYWHERE, Member, stream_pair, upgrader

A, B = "a", "b"


class Hidden(Member):
    """A member that says nothing of where it can be reached, as one whose addresses would lead nowhere."""

    def statement(self, link: Link) -> Identify:
        return replace(super().statement(link), listen_addrs=(), signed_peer_record=None)


class Pair:
    """A, who made the circuit, and B, who accepted it. What is public is said by port."""

    def __init__(self) -> None:
        self.a, self.b = Hidden(A, from_listening_port=True), Hidden(B, from_listening_port=True)
        self.public_ports = {self.a.port, self.b.port}
        self.services: list[Dcutr] = []
        self.events: list[Event] = []

    def public(self, address: Multiaddr) -> bool:
        return address.tcp_port in self.public_ports

    async def connect(self) -> None:
        """Make what stands for the circuit, at a port of B's that nobody tells."""
        # From the listening port there is then no connection yet to the port that a hole is punched to.
        back_door = self.b.listen(ANYWHERE)
        self.circuit_a = await self.a.dial(self.b.peer_id, [back_door])
        await until(lambda: self.a.peer_id in self.b.links)
        self.circuit_b = self.b.links[self.a.peer_id][0]
        for host, link in ((self.a, self.circuit_a), (self.b, self.circuit_b)):
            link.path = CIRCUIT
            assert await host.statement_of(link)

    def serve(self, host: Host, clock: Callable[[], float] | None = None) -> Dcutr:
        service = Dcutr(host, clock or host.loop.time, self.events.append, self.public)
        self.services.append(service)
        return service

    async def close(self) -> None:
        for service in self.services:
            await service.close()
        await self.a.close()
        await self.b.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.connect()
    yield pair
    await pair.close()


def direct(host: Host, peer: Host) -> list[Link]:
    return [link for link in host.links.get(peer.peer_id, []) if link.path == DIRECT]


async def say(negotiation: OutboundNegotiation, message: HolePunch) -> None:
    negotiation.stream.write(length_prefixed(message.encode()))


async def hear(reader: ByteReader, kind: Kind) -> HolePunch:
    return decode(await reader.read_prefixed(4096), kind)


async def ask(link: Link) -> OutboundNegotiation:
    negotiation = propose(await link.open_stream(), [PROTOCOL])
    await negotiation.agreed()
    return negotiation


async def test_a_direct_link_comes_beside_the_circuit(pair: Pair) -> None:
    pair.serve(pair.a)
    pair.serve(pair.b)
    await until(lambda: direct(pair.a, pair.b) and direct(pair.b, pair.a))
    (at_a, *_), (at_b, *_) = direct(pair.a, pair.b), direct(pair.b, pair.a)
    assert at_a.initiator
    assert not at_b.initiator
    for link in (at_a, pair.circuit_a):
        assert link.alive
        await stream_pair(link, pair.b)


async def test_both_sides_tell_of_a_hole_though_the_circuit_ends_at_once(pair: Pair) -> None:
    def up(link: Link) -> None:
        if link.path == DIRECT and link.peer_id == pair.b.peer_id:
            pair.circuit_a.close()

    pair.a.observe_links(up, lambda link, reason: None)
    pair.serve(pair.a)
    pair.serve(pair.b)
    await until(lambda: len(pair.events) == 2)
    assert {event.peer for event in pair.events if isinstance(event, HolePunched)} == {
        str(host.peer_id) for host in (pair.a, pair.b)
    }


async def test_a_direct_link_that_is_lost_while_there_is_a_circuit_is_replaced(pair: Pair) -> None:
    """The peer comes back on a circuit, and only then it is noticed that its former direct link is dead."""
    pair.serve(pair.a)
    former = await pair.b.dial(pair.a.peer_id, [pair.a.address])
    pair.serve(pair.b)
    await until(lambda: pair.b.mapped.addresses)
    assert direct(pair.b, pair.a) == [former]
    former.abort(LinkLost("silent"))
    await until(lambda: direct(pair.b, pair.a) and direct(pair.a, pair.b))
    assert pair.circuit_b.alive


async def test_who_can_be_dialled_is_dialled(pair: Pair) -> None:
    """B's first try needs no hole: then it is an ordinary dialer."""
    pair.circuit_b.statement = replace(pair.a.statement(pair.circuit_a), listen_addrs=(pair.a.address,))
    pair.serve(pair.b)  # A takes no part
    await until(lambda: direct(pair.b, pair.a) and direct(pair.a, pair.b))
    assert direct(pair.b, pair.a)[0].initiator
    assert not direct(pair.a, pair.b)[0].initiator


async def test_the_connect_of_a_go_peer_that_was_asked_for_reaches_our_listener(pair: Pair) -> None:
    """Go as B keeps to its role on what it dials: on the socket that we accept, the first word is ours."""
    pair.serve(pair.a)
    port = open_listening_socket("127.0.0.1", 0)
    mine = Multiaddr.tcp(*port.getsockname())
    pair.public_ports.add(mine.tcp_port or 0)
    negotiation = await ask(pair.circuit_b)
    await say(negotiation, connect([mine]))
    theirs = await hear(negotiation.reader, Kind.CONNECT)
    assert theirs.addresses == (pair.a.address,)
    await say(negotiation, SYNC)
    transport = await connect_beside(pair.a.loop, pair.a.address, port, 5.0)
    port.close()
    upgraded = await upgrader(B).accept(transport)
    assert not upgraded.initiator
    assert upgraded.session.peer_id == pair.a.peer_id
    await until(lambda: direct(pair.a, pair.b))
    assert direct(pair.a, pair.b)[0].initiator
    transport.abort()


async def test_others_at_the_same_address_are_served_meanwhile(pair: Pair) -> None:
    pair.serve(pair.a)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        pair.public_ports.add(deaf.getsockname()[1])
        negotiation = await ask(pair.circuit_b)
        await say(negotiation, connect([Multiaddr.tcp(*deaf.getsockname())]))
        await hear(negotiation.reader, Kind.CONNECT)
        await say(negotiation, SYNC)
        await until(lambda: pair.a.reversals.peer_at(Multiaddr.tcp(*deaf.getsockname())))
        other = Member("other")
        link = await other.dial(pair.a.peer_id, [pair.a.address])
        assert link.initiator
        await other.close()


class Answering:
    """A as a test has it: what B says and does is written down, what A does is up to the test."""

    def __init__(self, host: Host) -> None:
        self.rounds: asyncio.Queue[tuple[YamuxStream, ByteReader]] = asyncio.Queue()
        host.handle(PROTOCOL, self._take)

    def _take(self, _link: Link, stream: YamuxStream, surplus: bytes) -> None:
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self.rounds.put_nowait((stream, reader))

    async def agree(self, *addresses: Multiaddr) -> HolePunch:
        """One whole round of words."""
        stream, reader = await self.rounds.get()
        theirs = await hear(reader, Kind.CONNECT)
        stream.write(length_prefixed(connect(addresses).encode()))
        await hear(reader, Kind.SYNC)
        stream.close()
        return theirs


@contextlib.contextmanager
def silent_port(pair: Pair) -> Iterator[tuple[socket.socket, Multiaddr]]:
    """A port that accepts connections and says nothing on them."""
    with open_listening_socket("127.0.0.1", 0) as sock:
        address = Multiaddr.tcp(*sock.getsockname())
        pair.public_ports.add(address.tcp_port or 0)
        yield sock, address


def accepted(sock: socket.socket) -> socket.socket | None:
    try:
        connection, _ = sock.accept()
    except BlockingIOError:
        return None
    return connection


async def test_b_connects_half_a_round_trip_after_its_sync(pair: Pair, clock: Clock) -> None:
    seconds = iter((10.0, 14.0))
    answering = Answering(pair.a)
    with silent_port(pair) as (sock, address):
        pair.serve(pair.b, lambda: next(seconds))
        await answering.agree(address)
        await clock.forward(1.75)
        assert accepted(sock) is None
        await clock.forward(0.5)
        connection = accepted(sock)
        assert connection is not None
        connection.close()


async def test_b_makes_three_rounds_and_drops_its_own_connects(pair: Pair, clock: Clock) -> None:
    """Two servers on one connection wait for each other: what A's listener serves is given up in time."""
    answering = Answering(pair.a)
    with silent_port(pair) as (sock, address):
        service = pair.serve(pair.b)
        for _ in range(MAX_ROUNDS):
            theirs = await answering.agree(address)
            assert theirs.addresses == (pair.b.address,)
            await clock.forward(0.5)
            connection = accepted(sock)
            assert connection is not None
            assert await pair.b.loop.sock_recv(connection, 1024)  # its half of the handshake
            await clock.forward(punch.PUNCH_TIMEOUT)
            with contextlib.suppress(ConnectionResetError):
                assert await pair.b.loop.sock_recv(connection, 1024) == b""
            connection.close()
        await clock.forward(2.0)
        assert not len(service._tasks)
        assert answering.rounds.empty()
        (told,) = pair.events
        assert told == HolePunchFailed(
            str(pair.a.peer_id),
            str(address),
            MAX_ROUNDS,
            f"{address}: no connection came about",
            told.seconds,
        )
    assert pair.circuit_b.alive


async def test_b_serves_what_comes_in_while_its_own_connect_hangs(pair: Pair) -> None:
    answering = Answering(pair.a)
    with silent_port(pair) as (_, address):
        pair.serve(pair.b)
        theirs = await answering.agree(address)
        link = await pair.a.dial(pair.b.peer_id, theirs.addresses)
        assert link.initiator
        await until(lambda: direct(pair.b, pair.a))


async def test_somebody_else_on_the_punched_connection_gets_no_link(pair: Pair, clock: Clock) -> None:
    """Whoever sits where the peer said it is proves another identity: to A when it answers, to B when it speaks."""
    impostor = Member("impostor")
    pair.public_ports.add(impostor.port)
    service = pair.serve(pair.a)
    negotiation = await ask(pair.circuit_b)
    await say(negotiation, connect([impostor.address]))
    await hear(negotiation.reader, Kind.CONNECT)
    await say(negotiation, SYNC)
    await clock.forward(punch.LATE + 0.5)
    assert not len(service._tasks)
    assert not impostor.links
    assert not direct(pair.a, pair.b)

    answering = Answering(pair.a)
    with silent_port(pair) as (sock, address):
        pair.serve(pair.b)
        await answering.agree(address)
        await clock.forward(0.5)
        connection = accepted(sock)
        assert connection is not None
        transport, _ = await pair.b.loop.create_connection(ByteReader, sock=connection)
        upgraded = await upgrader("impostor").dial(transport, pair.b.peer_id)
        assert upgraded.session.peer_id == pair.b.peer_id
        await turns()
        assert not [link for links in pair.b.links.values() for link in links if link.path == DIRECT]
        transport.abort()
    await impostor.close()


@pytest.mark.parametrize(
    "says", ["nothing", "silence", "sync first", "garbage", "private", "too much", "half"]
)
async def test_a_answers_only_by_the_rules(pair: Pair, clock: Clock, says: str) -> None:
    pair.serve(pair.a)
    negotiation = await ask(pair.circuit_b)
    stream = negotiation.stream
    if says == "nothing":
        stream.write_eof()
    elif says == "sync first":
        await say(negotiation, SYNC)
    elif says == "garbage":
        stream.write(length_prefixed(b"\xff\xff\xff"))
    elif says == "private":
        await say(negotiation, connect([Multiaddr.tcp("127.0.0.1", 9)]))
    elif says == "too much":
        stream.write(b"\x81\x20")  # a length of 4,097
    elif says == "half":
        await say(negotiation, connect([Multiaddr.tcp("127.0.0.1", pair.b.port)]))
        await hear(negotiation.reader, Kind.CONNECT)
        await say(negotiation, connect([Multiaddr.tcp("127.0.0.1", pair.b.port)]))  # instead of SYNC
    reading = asyncio.ensure_future(negotiation.reader.read_some())
    await clock.forward(dcutr.CONVERSATION_TIMEOUT + 0.5 if says == "silence" else 0.25)
    with pytest.raises(StreamReset):
        await reading
    assert not direct(pair.a, pair.b)
    assert pair.circuit_a.alive


async def test_a_takes_part_in_three_rounds_of_a_circuit(pair: Pair, clock: Clock) -> None:
    pair.serve(pair.a)
    for _ in range(MAX_ROUNDS):
        negotiation = await ask(pair.circuit_b)
        negotiation.stream.abort()
        await clock.forward(0.25)
    with pytest.raises(StreamReset) as refusal:
        await ask(pair.circuit_b)
    assert refusal.value.code == RESOURCE_LIMIT


async def test_one_round_at_a_time(pair: Pair) -> None:
    pair.serve(pair.a)
    first = await ask(pair.circuit_b)
    with pytest.raises(StreamReset) as refusal:
        await ask(pair.circuit_b)
    assert refusal.value.code == RESOURCE_LIMIT
    first.stream.abort()


@pytest.mark.parametrize("path", [CIRCUIT, DIRECT])
async def test_only_who_made_a_circuit_is_asked(pair: Pair, path: str) -> None:
    """Not who accepted it, nor on a direct link: there is nothing to be gained."""
    pair.circuit_a.path = pair.circuit_b.path = path
    asking, asked = (pair.circuit_a, pair.b) if path == CIRCUIT else (pair.circuit_b, pair.a)
    pair.b.handle(PROTOCOL, lambda link, stream, surplus: stream.abort())
    pair.serve(asked)
    with pytest.raises(StreamReset) as refusal:
        await ask(asking)
    assert refusal.value.code == 0


async def test_a_peer_that_refuses_is_asked_once(pair: Pair, clock: Clock) -> None:
    service = pair.serve(pair.b)  # A answers `na`
    await clock.forward(1.0)
    assert not len(service._tasks)
    assert pair.circuit_b.alive
    (told,) = pair.events
    assert isinstance(told, HolePunchFailed)
    assert (told.address, told.rounds) == ("", 0)
    assert (
        told.reason
        == "the peer takes no part: nobody sees it at a public address, or its hole punching is off"
    )


@pytest.mark.parametrize("addresses", [[], [Multiaddr.tcp("127.0.0.1", 9)]])
async def test_a_peer_that_names_no_useful_address_may_come_all_the_same(
    pair: Pair, clock: Clock, addresses: list[Multiaddr]
) -> None:
    """js behind NAT names none, and connects to us when SYNC comes."""
    answering = Answering(pair.a)
    pair.serve(pair.b)
    stream, reader = await answering.rounds.get()
    await hear(reader, Kind.CONNECT)
    stream.write(length_prefixed(connect(addresses).encode()))
    await hear(reader, Kind.SYNC)
    await pair.a.dial(pair.b.peer_id, [pair.b.address])
    await until(lambda: pair.events)
    assert isinstance(pair.events[0], HolePunched)
    assert answering.rounds.empty()


async def test_a_peer_that_answers_nonsense_is_asked_once(pair: Pair, clock: Clock) -> None:
    answering = Answering(pair.a)
    service = pair.serve(pair.b)
    stream, reader = await answering.rounds.get()
    await hear(reader, Kind.CONNECT)
    stream.write(length_prefixed(SYNC.encode()))
    await clock.forward(1.0)
    assert not len(service._tasks)
    assert answering.rounds.empty()
    assert pair.circuit_b.alive


async def test_addresses_that_are_not_public_are_neither_told_nor_dialled(pair: Pair, clock: Clock) -> None:
    """By the rule that is used when none is given, all of this machine's are out."""
    services = [Dcutr(host, host.loop.time, pair.events.append) for host in (pair.a, pair.b)]
    assert [service.own_addresses for service in services] == [[], []]
    assert all(PROTOCOL not in host.statement(pair.circuit_a).protocols for host in (pair.a, pair.b))
    await clock.forward(1.0)
    assert not direct(pair.a, pair.b)
    pair.services += services


async def test_the_protocol_is_listed_while_there_is_an_address_to_tell(pair: Pair) -> None:
    nat = Multiaddr.parse("/ip4/5.5.1.1/tcp/4001")
    service = Dcutr(pair.a, pair.a.loop.time, pair.events.append)
    pair.services.append(service)
    assert PROTOCOL not in pair.a.statement(pair.circuit_a).protocols
    pair.a.mapped.note(pair.b.peer_id, nat)
    assert PROTOCOL in pair.a.statement(pair.circuit_a).protocols
    assert service.own_addresses == [nat]
    pair.a.mapped.forget(pair.b.peer_id)
    assert PROTOCOL not in pair.a.statement(pair.circuit_a).protocols
    pair.a.mapped.note(pair.b.peer_id, nat)
    await service.close()
    assert PROTOCOL not in pair.a.statement(pair.circuit_a).protocols


async def test_closing_ends_what_is_under_way(pair: Pair) -> None:
    answering = Answering(pair.a)
    service = pair.serve(pair.b)
    await answering.rounds.get()
    await service.close()
    assert not len(service._tasks)
    assert pair.circuit_b.alive
