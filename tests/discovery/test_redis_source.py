"""A client's exits from a real Redis: what it asks, what it believes, and what it passes over."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import time
from collections.abc import Callable

from bethrou.discovery.announced_exits import ANSWER_TTL
from bethrou.discovery.redis_source import ASK_SELDOM
from bethrou.wire.announcement import encode_gone, encode_presence
from bethrou.wire.announcement_keys import AnnouncementKeys
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey
from discovery.redis_network import (
    KEY,
    KEYS,
    TOPIC,
    Statement,
    client,
    node,
    pass_time,
    presence_of,
    statement,
)
from live.redis_server import RedisServer, Wiretap
from live.waiting import until
from net.clock import Clock

GO_PEER = "12D3KooWGRUVh7gWqbGbCPfPTZ4qRk5XoFVdKFxjDQXrbmJVvUFa"


def goodbye(said: Statement, seq: int | None = None) -> bytes:
    return encode_gone(said.peer, said.seq + 1 if seq is None else seq, 0, said.envelope, KEYS)


def go_answer(peer: str, *addresses: str) -> bytes:
    """An answer as the Go program writes it."""
    addrs = ",".join(f'"{address}/p2p/{peer}"' for address in addresses)
    return f'{{"id":"{peer}","addrs":[{addrs}]}}'.encode()


async def reply_channel(others: Wiretap) -> str:
    """Where the client that has just asked wants its answers."""
    channel: str = (await others.next_object(TOPIC))["reply"]
    return channel


async def test_it_asks_as_the_go_program_does_and_understands_its_answer(server: RedisServer) -> None:
    said = statement()
    async with server.wiretap() as others, client(server, time_ns=lambda: 1_800_000_000_000_000_042) as ours:
        _, request = await others.next(TOPIC)
        assert request == b'{"action":"discover","reply":"client-reply-1800000000000000042"}'
        heard_by = await others.publish(
            "client-reply-1800000000000000042", go_answer(str(said.peer), "/ip4/8.8.8.8/tcp/4000")
        )
        assert heard_by == 2
        sighting = await ours.notes.sighting()
        assert (sighting.source, sighting.peer) == ("redis", said.peer)
        assert sighting.addresses == (Multiaddr.parse("/ip4/8.8.8.8/tcp/4000"),)
        assert sighting.expires == 1_800_000_000 + ANSWER_TTL
        assert (sighting.seq, sighting.record) == (0, None)
        await ours.counted(1, 0)
        assert ours.snapshot.known == 1
        assert ours.snapshot.ok


async def test_without_a_topic_it_is_the_networks_own(server: RedisServer) -> None:
    async with server.wiretap() as others, client(server, topic=None):
        assert (await others.next())[0] == f"bethrou/{KEY.fingerprint}"


async def test_a_node_that_starts_is_seen_within_a_second_and_one_that_stops_is_gone(
    server: RedisServer,
) -> None:
    async with client(server) as ours:
        await ours.up()
        began = time.monotonic()
        async with node(server, statement("/ip4/8.8.8.8/tcp/4000", "/ip4/10.0.0.1/tcp/4000")) as theirs:
            sighting = await ours.notes.sighting()
            assert time.monotonic() - began < 1
            assert sighting.peer == theirs.says.peer
            assert [str(address) for address in sighting.addresses] == [
                "/ip4/8.8.8.8/tcp/4000",
                "/ip4/10.0.0.1/tcp/4000",
            ]
            assert (sighting.name, sighting.tags, sighting.agent) == ("alpha", ("eu",), "test/1")
            assert (sighting.seq, sighting.record) == (theirs.says.seq, theirs.says.envelope)
            assert sighting.expires is not None
            assert 40 < sighting.expires - time.time() <= 45
            assert not ours.notes.gone_all
        await until(lambda: ours.notes.gone_all == [theirs.says.peer])
        assert ours.snapshot.known == 0
        assert ours.snapshot.skipped == 0


async def test_a_client_that_comes_later_is_answered_at_once(server: RedisServer) -> None:
    async with node(server) as theirs:
        await theirs.up()
        async with server.wiretap(), client(server) as ours:
            sighting = await ours.notes.sighting()
            assert (sighting.peer, sighting.record) == (theirs.says.peer, theirs.says.envelope)
            await ours.counted(1, 0)


async def test_it_asks_again_within_five_seconds_of_redis_return(server: RedisServer, clock: Clock) -> None:
    async with client(server) as ours:
        await ours.up()
        server.kill()
        await until(lambda: not ours.snapshot.ok)
        await clock.forward(60)
        server.start()
        async with server.wiretap() as others:
            asked = asyncio.create_task(others.next(TOPIC))
            # at most 4 s until it is subscribed, and 5 s over which all clients spread
            await clock.forward(4)
            await until(lambda: ours.snapshot.ok)
            await clock.forward(5)
            assert json.loads((await asked)[1])["action"] == "discover"


def _hostile(genuine: Statement) -> list[bytes]:
    """Messages of which none may be believed."""
    other = statement()
    stranger = AnnouncementKeys(NetworkKey.generate(bytes))
    many = ",".join(f'"/ip4/8.8.8.8/tcp/{port}"' for port in range(1, 10_001))
    return [
        b"",
        b"\x00\xff not JSON",
        b'"text"',
        b"[" * 30_000,
        b"{" + b" " * (8 << 20) + b"}",
        b'{"id":5,"addrs":[]}',
        f'{{"id":"{other.peer}","addrs":"/ip4/8.8.8.8/tcp/1"}}'.encode(),
        f'{{"id":"{other.peer}","addrs":[]}}'.encode(),
        f'{{"id":"{other.peer}","addrs":["/ip4/8.8.8.8/tcp/1/p2p/{genuine.peer}"]}}'.encode(),
        f'{{"id":"{other.peer}","addrs":[{many}]}}'.encode(),
        b'{"id":"nobody","addrs":["/ip4/8.8.8.8/tcp/1"]}',
        b'{"action":"discover"}',
        b'{"action":"presence","v":1,"id":1,"seq":"x","ttl":[],"record":{},"mac":null}',
        b'{"action":"sealed","v":1,"box":"AAAA"}',
        presence_of(other, keys=stranger),
        re.sub(rb'"seq":\d+', b'"seq":9', presence_of(other)),
        # a member that speaks for somebody else
        encode_presence(other.peer, other.seq, 45, genuine.envelope, KEYS),
        encode_gone(genuine.peer, genuine.seq + 7, 0, other.envelope, KEYS),
        f'{{"id":"{other.peer}","addrs":[],"record":"{_base64(genuine.envelope)}"}}'.encode(),
        f'{{"id":"{other.peer}","addrs":[],"record":"{_base64(other.envelope[:-1] + b"x")}"}}'.encode(),
        presence_of(other, ttl=0),
    ]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_what_makes_no_sense_is_counted_and_hides_nothing_else(server: RedisServer) -> None:
    genuine = statement()
    hostile = _hostile(genuine)
    async with server.wiretap() as others, client(server) as ours:
        reply = await reply_channel(others)
        await others.publish(TOPIC, presence_of(genuine))
        await ours.notes.sighting()
        for message in hostile:
            await others.publish(reply, message)
        await others.publish(TOPIC, presence_of(genuine, genuine.seq + 1))
        await ours.counted(2, len(hostile))
        assert {sighting.peer for sighting in ours.notes.seen_all} == {genuine.peer}
        assert not ours.notes.gone_all
        assert ours.snapshot.ok


async def test_old_messages_sent_again_change_nothing(server: RedisServer) -> None:
    said = statement("/ip4/8.8.8.8/tcp/1")
    first = presence_of(said)
    said.say("/ip4/8.8.8.8/tcp/2")
    second, farewell = presence_of(said), goodbye(said)
    async with server.wiretap() as others, client(server) as ours:
        await ours.up()
        for message in (first, second, first, second):
            await others.publish(TOPIC, message)
        await ours.counted(2, 2)
        assert str(ours.notes.seen_all[-1].addresses[0]).endswith("/2")
        for message in (farewell, second, farewell):
            await others.publish(TOPIC, message)
        await ours.counted(3, 4)
        assert (len(ours.notes.seen_all), ours.notes.gone_all) == (2, [said.peer])


async def test_what_is_not_said_again_is_forgotten_in_its_time(server: RedisServer) -> None:
    now = time.time_ns()
    times = [now]
    async with server.wiretap() as others, client(server, time_ns=lambda: times[-1]) as ours:
        await ours.up()
        await others.publish(TOPIC, presence_of(statement(), ttl=45))
        sighting = await ours.notes.sighting()
        assert sighting.expires == now / 1e9 + 45
        times.append(now + 44_900_000_000)
        assert ours.snapshot.known == 1
        times.append(now + 45_000_000_000)
        assert ours.snapshot.known == 0


async def test_it_asks_every_minute_while_exits_only_answer(server: RedisServer, clock: Clock) -> None:
    async with server.wiretap() as others, client(server, time_ns=unix_time(clock)) as ours:
        reply, asked_at = await reply_channel(others), [clock.now]
        await others.publish(reply, go_answer(GO_PEER, "/ip4/8.8.8.8/tcp/4000"))
        await ours.counted(1, 0)
        for _ in range(2):
            await _next_request(others)
            asked_at.append(clock.now)
        pauses = [later - sooner for sooner, later in itertools.pairwise(asked_at)]
        assert all(47 < pause < 74 for pause in pauses), pauses


async def test_it_asks_seldom_where_exits_speak_unasked(server: RedisServer, clock: Clock) -> None:
    async with server.wiretap() as others, client(server, time_ns=unix_time(clock)) as ours:
        await reply_channel(others)
        asked_at = clock.now
        await others.publish(TOPIC, presence_of(statement(), ttl=3600))
        await others.next(TOPIC)
        await ours.counted(1, 0)
        await _next_request(others)
        assert ASK_SELDOM <= clock.now - asked_at < ASK_SELDOM + 74


def unix_time(clock: Clock) -> Callable[[], int]:
    """Unix time in nanoseconds that passes with the test's clock."""
    offset = time.time() - clock.now
    return lambda: int((clock.now + offset) * 1e9)


async def _next_request(others: Wiretap) -> None:
    """Let time pass until the client asks."""
    asked = asyncio.create_task(others.next(TOPIC))
    while not asked.done():
        await pass_time(1, others)
    assert json.loads((await asked)[1])["action"] == "discover"


async def test_a_claim_changes_nothing_of_what_an_exit_has_signed(server: RedisServer) -> None:
    said = statement("/ip4/8.8.8.8/tcp/1")
    async with server.wiretap() as others, client(server) as ours:
        reply = await reply_channel(others)
        await others.publish(TOPIC, presence_of(said))
        await others.publish(reply, go_answer(str(said.peer), "/ip4/6.6.6.6/tcp/666"))
        await ours.counted(2, 0)
        assert len(ours.notes.seen_all) == 1
        assert ours.snapshot.known == 1


async def test_sealed_discovery_shows_nothing_to_whoever_runs_redis(server: RedisServer) -> None:
    said = statement("/ip4/8.8.8.8/tcp/4000", name="very-secret-name")
    async with server.wiretap() as others:
        async with client(server, sealed=True, topic=None) as ours:
            await ours.up()
            async with node(server, said, sealed=True, topic=None) as theirs:
                await theirs.up()
                await ours.notes.sighting()
                async with client(server, sealed=True, topic=None) as later:
                    assert (await later.notes.sighting()).peer == said.peer
                await others.publish(
                    f"bethrou/{KEY.fingerprint}", b'{"action":"discover","reply":"in-the-open"}'
                )
                await others.publish("end", b"")
            await until(lambda: ours.notes.gone_all == [said.peer])
        await others.publish("end", b"")
        await others.next("end")
        await others.next("end")
        assert (
            len(others.heard) >= 2 + 6
        )  # the ends; two requests, presence, answer, goodbye, and the one in the open
        visible = [str(said.peer).encode(), b"8.8.8.8", b"4000", b"very-secret", b"test/1", b"client-reply"]
        visible += [said.envelope, base64.b64encode(said.envelope)]
        for channel, data in others.heard:
            assert channel != "in-the-open"
            assert not any(text in channel.encode() for text in visible[:-3])
            if channel != "end" and b"in-the-open" not in data:
                assert json.loads(data).keys() == {"action", "v", "box"}
                assert not any(text in data for text in visible)
