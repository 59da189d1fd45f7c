"""Holes in real NATs, of the kernel's making: two homes, and a relay on the Internet that both can reach."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from bethrou.events import Event, HolePunched, HolePunchFailed
from bethrou.net import punch
from bethrou.net.dcutr import Dcutr
from bethrou.net.dialer import connect
from bethrou.net.link import CIRCUIT, DIRECT
from bethrou.net.reader import ByteReader
from bethrou.net.splice import Splice
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from live.namespaces import Internet, Namespace, Nat, an_internet_for_a_test
from live.waiting import until

from .hosts import Member, identity

internet = pytest.fixture(an_internet_for_a_test)

EVERYWHERE = Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")
RELAY = Multiaddr.parse("/ip4/5.5.0.1/tcp/4001")
MEETING = Multiaddr.parse("/ip4/5.5.0.1/tcp/4002")
"""Where the relay joins the first two connections: it stands for the circuit."""


class Arrival(ByteReader):
    """Keeps what comes on a new connection, and tells of it."""

    def __init__(self, tell: Callable[[ByteReader], None]) -> None:
        super().__init__()
        self._tell = tell

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._tell(self)


class Relay:
    """Tells members where it sees them, and joins two connections."""

    _server: asyncio.Server

    def __init__(self) -> None:
        self._member = Member("relay", at=EVERYWHERE)
        self._met: list[ByteReader] = []

    @classmethod
    async def start(cls) -> Relay:
        relay = cls()
        loop = relay._member.loop
        relay._server = await loop.create_server(lambda: Arrival(relay.join), "0.0.0.0", MEETING.tcp_port)
        return relay

    def join(self, reader: ByteReader) -> None:
        self._met.append(reader)
        if len(self._met) == 2:
            left, right = self._met
            Splice(
                self._member.loop,
                left.transport,
                right.transport,
                lambda end: None,
                from_left=left.detach(),
                from_right=right.detach(),
            )

    async def close(self) -> None:
        self._server.close()
        await self._member.close()


class Party:
    """A or B. B accepted the circuit."""

    def __init__(self, name: str, peer: PeerId) -> None:
        self.member = Member(name, at=EVERYWHERE, from_listening_port=True)
        self._peer = peer
        self._dcutr: Dcutr | None = None
        self.events: list[Event] = []

    @classmethod
    async def start(cls, name: str, peer: PeerId) -> Party:
        """Listen, and be seen by the relay."""
        party = cls(name, peer)
        link = await party.member.dial(identity("relay").peer_id, [RELAY])
        assert await party.member.statement_of(link)
        return party

    async def meet(self, initiator: bool) -> None:
        """Make this end of the circuit."""
        transport = await connect(self.member.loop, MEETING)
        circuit = await self.member.adopt(transport, MEETING, self._peer, initiator=initiator)
        circuit.path = CIRCUIT

    async def serve(self) -> None:
        """Have the circuit replaced."""
        self._dcutr = Dcutr(self.member, time.perf_counter, self.events.append)

    async def over(self, links: int = 1) -> list[tuple[str, bool]]:
        """Path and role of every link to the other, when nothing is tried any more and there are so many."""
        assert self._dcutr is not None
        await self._dcutr._tasks.wait()
        await until(lambda: len(self.member.links[self._peer]) >= links)
        return [(link.path, link.initiator) for link in self.member.links[self._peer]]

    async def close(self) -> None:
        if self._dcutr is not None:
            await self._dcutr.close()
        await self.member.close()


class Outcome(NamedTuple):
    """Path and role of each link, of A and of B, and what each has told."""

    links: tuple[list[tuple[str, bool]], list[tuple[str, bool]]]
    of_a: list[Event]
    of_b: list[Event]


@contextlib.asynccontextmanager
async def replaced(internet: Internet, a: Namespace, b: Namespace) -> AsyncIterator[Outcome]:
    """How it is when all is over. Everything is done on loops in there, and nothing out here."""
    places = (internet.host("5.5.0.1"), a, b)
    kind = type(asyncio.get_running_loop())
    with contextlib.ExitStack() as loops:
        at_relay, at_a, at_b = (loops.enter_context(place.loop(kind)) for place in places)
        async with contextlib.AsyncExitStack() as work:
            relay = await at_relay(Relay.start())
            work.push_async_callback(lambda: at_relay(relay.close()))
            party_a = await at_a(Party.start("a", identity("b").peer_id))
            work.push_async_callback(lambda: at_a(party_a.close()))
            party_b = await at_b(Party.start("b", identity("a").peer_id))
            work.push_async_callback(lambda: at_b(party_b.close()))
            await asyncio.gather(at_a(party_a.meet(True)), at_b(party_b.meet(False)))
            await at_a(party_a.serve())
            await at_b(party_b.serve())
            of_b = await at_b(party_b.over())
            of_a = await at_a(party_a.over(len(of_b)))
            yield Outcome((of_a, of_b), party_a.events, party_b.events)


AS_AGREED = [(CIRCUIT, True), (DIRECT, True)], [(CIRCUIT, False), (DIRECT, False)]
"""A has been the initiator on the new link, too."""
ALL_IN_VAIN = [(CIRCUIT, True)], [(CIRCUIT, False)]


async def test_a_hole_through_two_nats(internet: Internet) -> None:
    homes = [internet.home(f"5.5.{n}.1", Nat.PRESERVING) for n in (1, 2)]
    async with replaced(internet, homes[0].member(), homes[1].member()) as outcome:
        assert outcome.links == AS_AGREED
        for told, peer, there in ((outcome.of_a, "b", "5.5.2.1"), (outcome.of_b, "a", "5.5.1.1")):
            (punched,) = told
            assert isinstance(punched, HolePunched)
            assert (punched.peer, punched.address) == (str(identity(peer).peer_id), f"/ip4/{there}/tcp/4001")
            assert punched.rounds == 1
            assert 0 < punched.seconds < punch.PUNCH_TIMEOUT


async def test_no_hole_through_symmetric_nats(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The circuit stays. (The timeout is what a direct link would need a thousand times over.)"""
    monkeypatch.setattr(punch, "PUNCH_TIMEOUT", 0.5)
    homes = [internet.home(f"5.5.{n}.1", Nat.SYMMETRIC) for n in (1, 2)]
    async with replaced(internet, homes[0].member(), homes[1].member()) as outcome:
        assert outcome.links == ALL_IN_VAIN
        # where both give a round up in the same moment, A may refuse the next one as too early
        (failed,) = outcome.of_b
        assert isinstance(failed, HolePunchFailed)
        rounds = [each.rounds for each in outcome.of_a if isinstance(each, HolePunchFailed)]
        assert rounds == list(range(1, failed.rounds + 1))
        assert len(rounds) == len(outcome.of_a)
        assert rounds
        assert failed.address.startswith("/ip4/5.5.1.1/tcp/")
        assert failed.reason


@pytest.mark.parametrize("nat", Nat)
async def test_who_is_behind_nat_dials_who_is_not(internet: Internet, nat: Nat) -> None:
    """B needs no hole when A can be dialled: the roles are then as always."""
    home = internet.home("5.5.1.1", nat)
    async with replaced(internet, internet.host("5.5.2.1"), home.member()) as outcome:
        assert outcome.links == ([(CIRCUIT, True), (DIRECT, False)], [(CIRCUIT, False), (DIRECT, True)])
        (dialled,) = outcome.of_b
        assert isinstance(dialled, HolePunched)
        assert (dialled.address, dialled.rounds) == ("/ip4/5.5.2.1/tcp/4001", 0)


@pytest.mark.parametrize("nat", Nat)
async def test_a_dials_out_of_any_nat_where_b_is_open(internet: Internet, nat: Nat) -> None:
    home = internet.home("5.5.1.1", nat)
    async with replaced(internet, home.member(), internet.host("5.5.2.1")) as outcome:
        assert outcome.links == AS_AGREED
