"""A Go exit behind NAT asks for a hole as soon as somebody comes through its relay; our client is behind another."""

from __future__ import annotations

import pytest

from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, each_go_peer
from live.behind_nat import LISTEN, client_at, echo_at, relay_at
from live.namespaces import Internet, Nat, an_internet_for_a_test

internet = pytest.fixture(an_internet_for_a_test)


@each_go_peer
async def test_our_client_and_their_exit_meet_without_the_relay(
    peers: Peers, key: NetworkKey, internet: Internet, name: str
) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    async with relay_at(internet.host("5.5.0.1"), key) as relay, echo_at(theirs) as port:
        exit_ = await peers.exit(name, "--connect-relay", relay, listen=LISTEN, within=theirs)
        await exit_.event("reserved")
        async with client_at(ours, key, relay, exit_.id) as client:
            address, initiator = await client.direct(exit_.id)
            assert address == "/ip4/5.5.1.1/tcp/4001"
            assert initiator
            await client.echoed("127.0.0.1", port)
