"""Client and exit behind NATs of their own, with a relay to meet: the relay is needed for a moment only."""

from __future__ import annotations

import pytest

from bethrou.wire.psk import NetworkKey
from live.behind_nat import client_at, echo_at, exit_at, relay_at
from live.namespaces import Internet, Nat, an_internet_for_a_test

internet = pytest.fixture(an_internet_for_a_test)


async def test_requests_go_through_a_hole(internet: Internet, key: NetworkKey) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        exit_at(theirs, key, relay) as exit_,
        echo_at(theirs) as port,
        client_at(ours, key, relay, exit_) as client,
    ):
        address, initiator = await client.direct(exit_)
        assert address == "/ip4/5.5.1.1/tcp/4001"
        assert initiator
        await client.echoed("127.0.0.1", port)


async def test_requests_go_through_the_relay_where_there_is_no_hole(
    internet: Internet, key: NetworkKey
) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.SYMMETRIC).member() for n in (1, 2))
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        exit_at(theirs, key, relay) as exit_,
        echo_at(theirs) as port,
        client_at(ours, key, relay, exit_) as client,
    ):
        await client.echoed("127.0.0.1", port)
