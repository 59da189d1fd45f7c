"""A node's place in a real Redis: what it announces and when, and whom it answers."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from typing import Any

from bethrou.discovery.redis_presence import ANSWERS_PER_SECOND, MAX_ASKED
from bethrou.wire.announcement import Answer, Gone, Presence, decode, encode_request
from bethrou.wire.announcement_keys import NONCE_SIZE
from bethrou.wire.peer_id import PeerId
from discovery.redis_network import KEY, KEYS, TOPIC, Node, client, node, pass_time, presence_of, statement
from live.redis_server import RedisServer, Wiretap
from live.waiting import until
from net.clock import Clock, turns


def go_request(reply: str) -> bytes:
    """A request as the Go program writes it."""
    return f'{{"action":"discover","reply":"{reply}"}}'.encode()


async def announcement(others: Wiretap, topic: str = TOPIC) -> Presence | Gone:
    """What a node says next, unasked."""
    message = decode((await others.next(topic))[1], KEYS)
    assert isinstance(message, Presence | Gone)
    return message


async def test_it_answers_the_go_programs_request_as_the_go_program_expects(server: RedisServer) -> None:
    says = statement("/ip4/8.8.8.8/tcp/4000", "/ip6/2001:db8::1/tcp/4000")
    async with server.wiretap() as others, node(server, says):
        await others.next(TOPIC)
        assert await others.publish(TOPIC, go_request("client-reply-1800000000000000042")) == 2
        _, data = await others.next("client-reply-1800000000000000042")
        expected = {
            "id": str(says.peer),
            "addrs": [
                f"/ip4/8.8.8.8/tcp/4000/p2p/{says.peer}",
                f"/ip6/2001:db8::1/tcp/4000/p2p/{says.peer}",
            ],
            "record": base64.b64encode(says.envelope).decode(),
        }
        assert data == json.dumps(expected, separators=(",", ":")).encode()


async def test_it_announces_itself_at_once_and_says_goodbye(server: RedisServer) -> None:
    async with server.wiretap() as others:
        began = time.monotonic()
        async with node(server) as ours:
            first = await announcement(others)
            assert time.monotonic() - began < 1
            assert isinstance(first, Presence)
            assert (first.peer, first.record) == (ours.says.peer, ours.says.envelope)
            assert (first.seq, first.ttl) == (ours.says.seq, 45)
        last = await announcement(others)
        assert isinstance(last, Gone)
        assert (last.peer, last.record) == (ours.says.peer, ours.says.envelope)
        assert last.seq > first.seq


async def test_a_go_program_passes_over_what_is_not_for_it(server: RedisServer) -> None:
    """It reads `action` and `reply`, and answers whoever has a reply."""
    async with server.wiretap() as others:
        async with node(server):
            await announcement(others)
        await announcement(others)
        objects: list[dict[str, Any]] = [json.loads(data) for _, data in others.heard]
        assert [said["action"] for said in objects] == ["presence", "gone"]
        assert not any("reply" in said for said in objects)


async def test_it_announces_itself_again_and_again_with_rising_numbers(
    server: RedisServer, clock: Clock
) -> None:
    async with server.wiretap() as others, node(server):
        numbers, times = [(await announcement(others)).seq], [clock.now]
        for _ in range(3):
            heard = asyncio.create_task(announcement(others))
            while not heard.done():
                await pass_time(0.5, others)
            numbers.append((await heard).seq)
            times.append(clock.now)
        assert numbers == sorted(set(numbers))
        # 15 s +-20 %, and up to a second until it looks
        assert all(12 <= later - sooner < 20 for sooner, later in itertools.pairwise(times))


async def test_what_has_changed_is_told_within_a_second_or_so(server: RedisServer, clock: Clock) -> None:
    async with server.wiretap() as others, node(server) as ours:
        await announcement(others)
        for port in (1, 2):
            ours.says.say(f"/ip4/8.8.4.4/tcp/{port}")
            heard = asyncio.create_task(announcement(others))
            await pass_time(1.1, others)
            assert (await heard).record == ours.says.envelope


async def test_a_node_that_has_nothing_to_say_any_more_takes_back_what_it_said(
    server: RedisServer, clock: Clock
) -> None:
    async with server.wiretap() as others, node(server) as ours:
        await announcement(others)
        ours.says.say_nothing()
        heard = asyncio.create_task(announcement(others))
        await pass_time(1.1, others)
        assert isinstance(await heard, Gone)
        heard = asyncio.create_task(announcement(others))
        await pass_time(30, others)
        assert not heard.done()
        ours.says.say("/ip4/8.8.8.8/tcp/4000")
        await pass_time(1.1, others)
        assert isinstance(await heard, Presence)


async def test_it_announces_itself_within_ten_seconds_of_redis_return(
    server: RedisServer, clock: Clock
) -> None:
    async with node(server) as ours:
        await ours.up()
        server.kill()
        await until(lambda: not ours.presence.snapshot().ok)
        await clock.forward(30)
        server.start()
        async with server.wiretap() as others:
            heard = asyncio.create_task(announcement(others))
            await pass_time(4, others)
            await ours.up()
            await pass_time(5, others)
            assert isinstance(await heard, Presence)


async def test_stopping_waits_no_longer_than_a_second_for_a_frozen_server(server: RedisServer) -> None:
    async with node(server) as ours:
        await ours.up()
        server.freeze()
        began = time.monotonic()
        await ours.presence.close()
        assert time.monotonic() - began < 1.5


async def test_nothing_is_begun_anew_while_it_stops(server: RedisServer) -> None:
    async with node(server) as ours, client(server) as theirs:
        await ours.up()
        await theirs.up()
        ends = [asyncio.create_task(end.close()) for end in (ours.presence, theirs.source)]
        await turns(1)
        announcements = [ours.presence._announcements, theirs.source._announcements]
        for each in announcements:
            each.subscribed(True)  # Redis may be back in just this moment
        await asyncio.gather(*ends)
        assert [len(each._tasks) for each in announcements] == [0, 0]


async def test_a_node_without_a_topic_listens_on_its_own_peer_id_too(server: RedisServer) -> None:
    async with server.wiretap() as others, node(server, topic=None) as ours:
        await announcement(others, f"bethrou/{KEY.fingerprint}")
        await others.publish(str(ours.says.peer), go_request("one"))
        assert json.loads((await others.next("one"))[1])["id"] == str(ours.says.peer)


async def test_a_node_with_a_topic_listens_on_nothing_else(server: RedisServer) -> None:
    async with node(server) as ours:
        await ours.up()
        channels = server.do("PUBSUB", "CHANNELS")
        assert channels == [TOPIC.encode()]


async def test_nobody_is_answered_who_could_not_use_the_answer(server: RedisServer) -> None:
    async with server.wiretap() as others, node(server) as ours:
        await announcement(others)
        ours.says.say()  # no address at all: a Go client would give up on such an answer
        await others.publish(TOPIC, go_request("one"))
        await _has_read(ours, others)
        ours.says.say("/ip4/8.8.8.8/tcp/4000")
        await others.publish(TOPIC, go_request(TOPIC))  # everybody would be answered by everybody
        await others.publish(TOPIC, b'{"action":"other","reply":"two"}')
        await others.publish(TOPIC, b'{"reply":"three","ACTION":"discover"}')
        await others.next("three")
        assert {channel for channel, _ in others.heard} == {TOPIC, "three"}


async def _has_read(ours: Node, others: Wiretap) -> None:
    """Wait until the node is through with all that was said before."""
    number = len(ours.notes.seen_all)
    await others.publish(TOPIC, presence_of(statement()))
    await ours.notes.sighting(number + 1)
    await until(lambda: not ours.presence._waiting)


async def test_whoever_asks_in_the_open_is_not_answered_where_discovery_is_sealed(
    server: RedisServer,
) -> None:
    async with server.wiretap() as others, node(server, sealed=True) as ours:
        await announcement(others)
        await others.publish(TOPIC, go_request("in-the-open"))
        nonce = bytes(NONCE_SIZE)
        await others.publish(TOPIC, encode_request("sealed", KEYS, sealed=True, nonce=nonce))
        answer = decode((await others.next("sealed"))[1], KEYS)
        assert isinstance(answer, Answer)
        assert (answer.peer, answer.sealed) == (ours.says.peer, True)
        assert "in-the-open" not in {channel for channel, _ in others.heard}


async def test_it_answers_twenty_times_a_second_and_has_a_bound_on_those_who_wait(
    server: RedisServer, clock: Clock
) -> None:
    async with server.wiretap() as others, node(server) as ours:
        await announcement(others)
        began = clock.now
        for number in range(MAX_ASKED + 50):
            await others.publish(TOPIC, go_request(f"reply-{number}"))
        await others.publish(TOPIC, presence_of(statement()))
        await ours.notes.sighting()
        while ours.presence._waiting:
            await pass_time(1 / ANSWERS_PER_SECOND, others)
        seconds = clock.now - began
        await others.publish("end", b"")
        await others.next("end")
        answers = [channel for channel, _ in others.heard if channel.startswith("reply-")]
        assert MAX_ASKED <= len(answers) == len(set(answers)) < MAX_ASKED + 50
        assert len(answers) <= ANSWERS_PER_SECOND * seconds + 1


async def test_nodes_hear_of_each_other(server: RedisServer) -> None:
    async with node(server) as one:
        await one.up()
        async with node(server, topic=None) as elsewhere:
            await elsewhere.up()
            async with node(server) as two:
                assert (await one.notes.sighting()).peer == two.says.peer
                assert one.presence.snapshot().known == 1
            await until(lambda: one.notes.gone_all == [two.says.peer])
            assert [sighting.peer for sighting in one.notes.seen_all] == [two.says.peer]
            assert elsewhere.notes.seen_all == []
            assert one.presence.snapshot().skipped == 0


async def test_the_larger_the_network_the_rarer_are_presences(server: RedisServer, clock: Clock) -> None:
    async with server.wiretap() as others, node(server) as ours:
        first = await announcement(others)
        for _ in range(600):
            await others.publish(TOPIC, presence_of(statement()))
        await until(lambda: ours.presence.snapshot().known == 600)
        ours.says.say("/ip4/8.8.8.8/tcp/1")
        heard = asyncio.create_task(_next_of(others, ours.says.peer))
        await pass_time(1.1, others)
        assert first.ttl == 3 * 15
        assert (await heard).ttl == 3 * 18


async def _next_of(others: Wiretap, peer: PeerId) -> Presence | Gone:
    while (said := await announcement(others)).peer != peer:
        pass
    return said
