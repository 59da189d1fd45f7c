"""AutoNAT v2 with Go, which dials public addresses only: each asks the other whether it can be reached."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from bethrou.net.autonat import Autonat
from bethrou.net.autonat_server import AutonatServer
from bethrou.snapshots import AddressReachability
from bethrou.wire.autonat import DIAL_REQUEST, DialStatus
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, each_go_peer
from live.behind_nat import LISTEN
from live.namespaces import Internet, an_internet_for_a_test
from net.autonat_stand import nameless
from net.hosts import Member

internet = pytest.fixture(an_internet_for_a_test)

GO = Multiaddr.parse("/ip4/5.5.0.1/tcp/4001")
OURS = "/ip4/5.5.1.1/tcp/4001"


async def ask(key: NetworkKey, peer: PeerId) -> tuple[AddressReachability, ...]:
    member = Member("client", key, at=Multiaddr.parse(LISTEN))
    autonat = Autonat(member, os.urandom, random.Random(1))
    try:
        link = await member.dial(peer, [GO])
        statement = await member.statement_of(link)
        assert statement is not None
        assert DIAL_REQUEST in statement.protocols
        return await autonat.check()
    finally:
        await autonat.close()
        await member.close()


@each_go_peer
@pytest.mark.parametrize("shut", [False, True])
async def test_go_tells_us_whether_we_can_be_reached(
    peers: Peers, key: NetworkKey, internet: Internet, name: str, shut: bool
) -> None:
    theirs, ours = internet.host("5.5.0.1"), internet.host("5.5.1.1")
    if shut:
        ours.shut()
    go = await peers.exit(name, listen=LISTEN, within=theirs)
    with ours.loop() as call:
        found = await call(ask(key, go.identity.peer_id))
    word = "unreachable" if shut else "reachable"
    assert nameless(found) == (AddressReachability(OURS, word, int(not shut), int(shut), 1),)


class Watched(AutonatServer):
    """A server that writes down what became of its dials."""

    def __init__(self, member: Member) -> None:
        super().__init__(member, random.Random(2), time.perf_counter)
        self.outcomes: asyncio.Queue[tuple[str, DialStatus]] = asyncio.Queue()

    async def _dial(self, peer: PeerId, address: Multiaddr, nonce: int) -> DialStatus:
        outcome = await super()._dial(peer, address, nonce)
        self.outcomes.put_nowait((str(address), outcome))
        return outcome


async def serve(key: NetworkKey, peer: PeerId) -> tuple[str, DialStatus]:
    """The first dial that Go asks for."""
    member = Member("server", key, at=Multiaddr.parse(LISTEN))
    server = Watched(member)
    try:
        await member.dial(peer, [GO])
        return await server.outcomes.get()
    finally:
        await server.close()
        await member.close()


@each_go_peer
async def test_we_tell_go_that_it_can_be_reached(
    peers: Peers, key: NetworkKey, internet: Internet, name: str
) -> None:
    theirs, ours = internet.host("5.5.0.1"), internet.host("5.5.1.1")
    go = await peers.exit(name, listen=LISTEN, within=theirs)
    with ours.loop() as call:
        assert await call(serve(key, go.identity.peer_id)) == (str(GO), DialStatus.OK)
