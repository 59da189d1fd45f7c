"""The recorded messages of discovery: Go still says and judges them so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from interop.peers import Peers, each_go_peer
from live.redis_server import RedisServer
from live.waiting import until

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "discovery_messages.json").read_text()
)


def without_numbers(text: bytes) -> bytes:
    """Ports and the time in the name of a channel are others each time."""
    return re.sub(rb"(?<=/tcp/)\d+|(?<=client-reply-)\d+", b"N", text)


@each_go_peer
async def test_a_client_and_an_exit_publish_what_was_recorded(
    peers: Peers, redis: RedisServer, name: str
) -> None:
    recorded = VECTORS["published"]
    exit_ = await peers.discoverable_exit(name, redis.url, listen="/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0")
    assert exit_.id == recorded["peer_id"]
    async with redis.wiretap() as tap:
        await peers.discovering_client(name, redis.url, exit_.id)
        for said in (recorded["request"], recorded["answer"]):
            channel, data = await tap.next()
            assert without_numbers(channel.encode()) == without_numbers(said["channel"].encode())
            assert without_numbers(data) == without_numbers(bytes.fromhex(said["hex"]))


@each_go_peer
async def test_an_exit_answers_the_requests_that_were_answered(
    peers: Peers, redis: RedisServer, name: str
) -> None:
    exit_ = await peers.discoverable_exit(name, redis.url, topic="topic")
    async with redis.wiretap() as tap:
        for count, case in enumerate(VECTORS["requests"], start=1):
            await tap.publish("topic", bytes.fromhex(case["hex"]))
            await until(lambda: len(exit_.events("asked")) == count)  # noqa: B023
            await tap.publish("end", b"")
            await tap.next("end")
            answered_on = [channel for channel, _ in tap.heard if channel not in ("topic", "end")]
            assert answered_on == ([] if case["reply"] is None else [case["reply"]]), case["name"]
            tap.heard.clear()


@each_go_peer
async def test_a_client_takes_the_answers_that_were_taken(
    peers: Peers, redis: RedisServer, name: str
) -> None:
    async with redis.wiretap() as tap:
        for case in VECTORS["answers"]:
            client = await peers.discovering_client(name, redis.url, "topic", "--mode", "faithful")
            reply = (await tap.next_object("topic"))["reply"]
            await tap.publish(reply, bytes.fromhex(case["hex"]))
            # is heard only where the first did not end it
            await tap.publish(reply, b'{"id":"another","addrs":["somewhere"]}')
            await until(lambda: client.events("failed") or len(client.events("answered")) == 2)  # noqa: B023
            assert bool(client.events("failed")) != case["taken"], case["name"]
            await client.stop()
