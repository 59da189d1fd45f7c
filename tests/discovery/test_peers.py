"""A node keeps a link to each of the nodes that it was told of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bethrou.discovery.peers import FIRST_REDIAL, RAREST_REDIAL, SETTLED, Peers
from bethrou.events import DialFailed, Event
from bethrou.net.link import Link
from bethrou.wire.multiaddr import Multiaddr
from live.waiting import until
from net.clock import Clock, turns
from net.hosts import Member, identity
from net.leftovers import nothing_left


@asynccontextmanager
async def members(*names: str) -> AsyncIterator[list[Member]]:
    """Members for the length of a block."""
    async with nothing_left():
        running = [Member(name) for name in names]
        try:
            yield running
        finally:
            for member in running:
                await member.close()


@asynccontextmanager
async def keeping(host: Member, *addresses: Multiaddr) -> AsyncIterator[list[Event]]:
    """Links kept for the length of a block; what is told meanwhile."""
    told: list[Event] = []
    peers = Peers(asyncio.get_running_loop(), host, addresses, told.append, random.Random(1))
    peers.start()
    try:
        yield told
    finally:
        await peers.close()


def whole(member: Member) -> Multiaddr:
    """Where a member is and who it is."""
    return member.address.with_peer(member.peer_id)


async def test_there_is_a_link_to_each_and_none_to_ourselves() -> None:
    async with members("a", "b", "c") as (a, b, c), keeping(a, whole(a), whole(b), whole(c)) as told:
        await until(lambda: set(a.links) == {b.peer_id, c.peer_id})
        assert told == []


async def test_a_lost_link_is_dialled_again() -> None:
    async with members("a", "b") as (a, b), keeping(a, whole(b)):
        await until(lambda: b.peer_id in a.links)
        first = a.links[b.peer_id][0]
        first.close()
        await until(lambda: b.peer_id in a.links and a.links[b.peer_id][0] is not first)


async def test_of_several_addresses_of_a_node_one_that_works_will_do() -> None:
    async with members("a", "b", "gone") as (a, b, gone):
        dead = gone.address.with_peer(b.peer_id)
        gone.stop_listening()
        async with keeping(a, dead, whole(b)) as told:
            await until(lambda: b.peer_id in a.links)
            assert told == []


async def test_a_link_that_the_other_side_dialled_counts(clock: Clock) -> None:
    async with members("a", "b") as (a, b):
        await b.dial(a.peer_id, [a.address])
        await until(lambda: b.peer_id in a.links)
        async with keeping(a, whole(b)):
            await clock.forward(2)
            assert len(a.links[b.peer_id]) == 1


async def test_two_that_keep_each_other_settle(clock: Clock) -> None:
    async with members("a", "b") as (a, b), keeping(a, whole(b)), keeping(b, whole(a)):
        await until(lambda: a.links and b.links)
        await clock.forward(SETTLED)
        count = len(a.links[b.peer_id])
        assert count in (1, 2)
        a.links[b.peer_id][0].close()
        await clock.forward(SETTLED)
        assert 1 <= len(a.links[b.peer_id]) <= 2
        assert len(a.happenings.up) <= 2 * count + 1


async def test_one_that_is_away_is_dialled_for_ever_ever_more_rarely(clock: Clock) -> None:
    async with members("a", "gone") as (a, gone):
        gone.stop_listening()
        async with keeping(a, whole(gone)) as told:
            await turns()
            await clock.forward(600)
            delays = [event.retry_in for event in told if isinstance(event, DialFailed)]
            assert len(delays) == len(told)
            assert FIRST_REDIAL * 0.8 <= delays[0] <= FIRST_REDIAL * 1.2
            assert all(RAREST_REDIAL * 0.8 <= delay <= RAREST_REDIAL * 1.2 for delay in delays[7:])
            assert 12 <= len(delays) <= 22
            assert "refused" in told[0].reason  # type: ignore[union-attr]


async def test_one_whose_links_end_at_once_is_dialled_ever_more_rarely(clock: Clock) -> None:
    async with members("a", "b") as (a, b):

        def close_soon(link: Link) -> None:
            b.loop.call_soon(link.close)

        b.observe_links(close_soon, lambda link, reason: None)
        async with keeping(a, whole(b)):
            await clock.forward(120)
            assert 6 <= len(a.happenings.up) <= 10


async def test_somebody_else_at_the_address_is_no_link() -> None:
    async with members("a", "b") as (a, b), keeping(a, b.address.with_peer(identity("x").peer_id)) as told:
        await until(lambda: told)
        assert not a.links


async def test_an_address_has_to_say_whose_it_is() -> None:
    async with members("a") as (a,):
        with pytest.raises(ValueError, match="whose address"):
            Peers(a.loop, a, [Multiaddr.parse("/ip4/127.0.0.1/tcp/1")], lambda event: None, random.Random(1))
