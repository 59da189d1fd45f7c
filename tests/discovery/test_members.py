"""Members tell members: whoever knows one node learns of the others."""

from __future__ import annotations

import asyncio

import pytest

from bethrou.discovery import members_service, members_source
from bethrou.discovery.members_source import FIRST_RETRY, INTERVAL
from bethrou.discovery.own_record import LIFETIME
from bethrou.net.negotiation import propose
from bethrou.wire.members_message import MAX_RECORDS, PROTOCOL, RecordReader, encode_record
from live.waiting import until
from net.clock import Clock
from net.hosts import Member, identity

from .network import NOW, PUBLIC, link_between, network, sealed


async def answers(member: Member, peer: Member, introduction: bytes = b"") -> list[bytes]:
    """What a member is told when it asks by hand."""
    negotiation = propose(
        await link_between(member, peer).open_stream(), [PROTOCOL], encode_record(introduction)
    )
    await negotiation.agreed()
    records, told = RecordReader(100_000), []
    while data := await negotiation.reader.read_some():
        while (envelope := records.receive(data)) is not None:
            data = b""
            told.append(envelope)
    records.eof()
    negotiation.stream.close()
    return told


async def test_whoever_knows_one_node_learns_of_the_others() -> None:
    async with network(["a", "b", "c"], ["client"]) as (_, [a, b, c], [client]):
        await b.join(a)
        await c.join(a)
        await a.knows(b, c)
        await client.join(a)
        await client.knows(a, b, c)
        said = client.notebook.latest[b.peer_id]
        assert said.addresses == (b.address,)
        assert (said.source, said.name, said.agent, said.roles) == ("members", "a-node", "test", ("exit",))
        assert said.record is not None
        assert said.expires == NOW + LIFETIME
        assert said.seq == b.calendar.time_ns()


async def test_a_node_becomes_known_to_whom_it_asks_and_both_learn_of_each_other() -> None:
    async with network(["a", "b"]) as (_, [a, b], _clients):
        await b.join(a)
        await a.knows(b)
        await b.knows(a)


async def test_who_is_elsewhere_now_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (members_service, members_source):
        monkeypatch.setattr(module, "MIN_INTERVAL", 0.0)
    way = PUBLIC.with_peer(identity("relay").peer_id).circuit()
    async with network(["a", "b"]) as (calendar, [a, b], _clients):
        await b.join(a)
        await a.knows(b)
        await b.asks(1)
        b.source.tell()
        heard = len(a.notebook.all)
        calendar.seconds += 1
        b.reachable_through(identity("relay").peer_id, [way])
        b.source.tell()
        await until(lambda: way in a.notebook.latest[b.peer_id].addresses, what=lambda: a.notebook.latest)
        assert heard <= len(a.notebook.all) - 1 <= heard + 1
        for _ in range(20):
            b.source.tell()  # nothing new
        assert not b.source._news.done()


async def test_nodes_that_dial_each_other_at_once_have_two_links_and_ask_over_one() -> None:
    async with network(["a", "b"], ["client"]) as (_, [a, b], [client]):
        await asyncio.gather(a.join(b), b.join(a))
        await until(lambda: len(a.links[b.peer_id]) == len(b.links[a.peer_id]) == 2)
        await a.knows(b)
        await b.knows(a)
        await a.asks(1)
        await b.asks(1)
        await client.join(a)
        await client.knows(a, b)


async def test_a_client_tells_nothing_of_itself_and_is_not_asked() -> None:
    async with network(["a"], ["one", "two"]) as (_, [a], [one, two]):
        await one.join(a)
        await one.knows(a)
        await two.join(a)
        await two.knows(a)
        await one.join(two)
        await until(lambda: not link_between(one, two).stream_count)
        await a.knows()
        await one.asks(1)
        await two.asks(1)


async def test_when_one_of_two_links_ends_the_other_is_asked_over(clock: Clock) -> None:
    async with network(["a"], ["client"]) as (_, [a], [client]):
        await client.join(a, a)
        await client.knows(a)
        a.more = [sealed("x")]
        client.links[a.peer_id][0].close()
        await clock.forward(FIRST_RETRY * 1.3)
        assert len(client.links[a.peer_id]) == 1
        assert identity("x").peer_id in client.notebook.latest


async def test_news_are_learnt_within_about_a_minute(clock: Clock) -> None:
    async with network(["a"], ["client"]) as (_, [a], [client]):
        await client.join(a)
        await client.knows(a)
        a.more = [sealed("late")]
        await clock.forward(INTERVAL * 0.8 - 1)
        await client.knows(a)
        await clock.forward(INTERVAL * 0.4 + 1)
        assert set(client.notebook.latest) == {a.peer_id, identity("late").peer_id}


async def test_long_answers_of_several_members_take_no_more_together_than_those_of_one(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(["a", "b"], ["client"]) as (_, [a, b], [client]):
        own = a.own.current() if a.own is not None else None
        assert own is not None
        monkeypatch.setattr(members_source, "ANSWER_RATE", len(encode_record(own[1])) / INTERVAL)
        await client.join(a, b)
        await client.asks(2)
        await clock.forward(INTERVAL * 1.3)
        before = client.taken.heard
        await clock.forward(INTERVAL * 20)
        assert 15 <= client.taken.heard - before <= 25  # it is one record each time


async def test_a_record_of_a_node_is_made_anew_and_replaces_the_one_before(clock: Clock) -> None:
    async with network(["a", "b"], ["client"]) as (calendar, [a, b], [client]):
        await b.join(a)
        await a.knows(b)
        await client.join(a)
        await client.knows(a, b)
        first = client.notebook.latest[b.peer_id]
        calendar.seconds += LIFETIME // 2
        for _ in range(2):  # first a learns from b, then the client from a
            await clock.forward(INTERVAL * 1.3)
        second = client.notebook.latest[b.peer_id]
        assert second.seq > first.seq
        assert second.expires == NOW + LIFETIME // 2 + LIFETIME


async def test_records_that_have_expired_are_neither_told_nor_taken() -> None:
    async with network(["a"], ["client"]) as (calendar, [a], [client]):
        a.more = [sealed("gone", expires=NOW), sealed("here", expires=NOW + 1)]
        await client.join(a)
        await until(lambda: identity("here").peer_id in client.notebook.latest)
        assert identity("gone").peer_id not in client.notebook.latest
        assert client.source.snapshot().known == 2
        calendar.seconds += 1
        assert client.source.snapshot().known == 1


async def test_our_own_record_comes_first_and_then_those_that_last_longest() -> None:
    async with network(["a"]) as (_, [a], _clients):
        asker = Member("asker")
        a.more = [sealed(f"n{hours}", expires=NOW + hours * 3600) for hours in (2, 5, 3, 4)]
        a.more.append(sealed("asker"))  # it knows itself
        await asker.dial(a.peer_id, [a.address])
        told = [a.cache.open(envelope) for envelope in await answers(asker, a)]
        assert [each.peer_id for each in told] == [
            identity(name).peer_id for name in ("a", "n5", "n4", "n3", "n2")
        ]
        await asker.close()


async def test_as_many_as_may_be_known_are_told_and_taken_and_no_more() -> None:
    async with network(["a"], ["client"]) as (_, [a], [client]):
        a.more = [sealed(f"node {number}", expires=NOW + 3600 + number) for number in range(5000)]
        await client.join(a)
        await until(lambda: len(client.notebook.latest) == MAX_RECORDS)
        await until(lambda: not link_between(client, a).stream_count)
        snapshot = client.source.snapshot()
        assert (snapshot.ok, snapshot.known, snapshot.heard) == (True, MAX_RECORDS, MAX_RECORDS)
        assert identity("node 4999").peer_id in client.notebook.latest
        assert identity("node 904").peer_id not in client.notebook.latest


async def test_an_answer_has_a_bound_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_service, "MAX_ANSWER", 10_000)
    async with network(["a"]) as (_, [a], _clients):
        asker = Member("asker")
        a.more = [sealed(f"n{number}") for number in range(100)]
        await asker.dial(a.peer_id, [a.address])
        told = await answers(asker, a)
        assert 10_000 - 400 < sum(len(encode_record(each)) for each in told) <= 10_000
        await asker.close()


async def test_whoever_asks_again_at_once_is_refused_and_ours_ask_again_later(clock: Clock) -> None:
    async with network(["a"], ["client"]) as (_, [a], [client]):
        await client.join(a)
        await client.knows(a)
        a.more = [sealed("b")]
        client.links[a.peer_id][0].close()
        await until(lambda: not client.links and not a.links)
        await client.join(a)
        await until(lambda: not client.source.snapshot().ok)
        assert "reset" in client.source.snapshot().detail
        await clock.forward(FIRST_RETRY * 1.3)
        assert identity("b").peer_id in client.notebook.latest
        assert client.source.snapshot().ok
