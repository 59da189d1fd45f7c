"""The recorded messages of discovery: Go still says and judges them so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from interop.peers import Peers, each_go_peer
from interop.redis_bystander import Bystander
from live.waiting import until

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "discovery_messages.json").read_text()
)


def without_numbers(text: bytes) -> bytes:
    """Ports and the time in the name of a channel are others each time."""
    return re.sub(rb"(?<=/tcp/)\d+|(?<=client-reply-)\d+", b"N", text)


@each_go_peer
async def test_a_client_and_an_exit_publish_what_was_recorded(
    peers: Peers, bystander: Bystander, name: str
) -> None:
    recorded = VECTORS["published"]
    two = "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0"
    exit_ = await peers.discoverable_exit(name, bystander.url, listen=two)
    assert exit_.id == recorded["peer_id"]
    client = await peers.discovering_client(name, bystander.url, exit_.id)
    await client.event("connected")
    published = [(channel.encode(), payload) for channel, payload in bystander.hear()]
    expected = [
        (recorded[which]["channel"].encode(), bytes.fromhex(recorded[which]["hex"]))
        for which in ("request", "answer")
    ]
    assert [tuple(map(without_numbers, message)) for message in published] == [
        tuple(map(without_numbers, message)) for message in expected
    ]


@each_go_peer
async def test_an_exit_answers_the_requests_that_were_answered(
    peers: Peers, bystander: Bystander, name: str
) -> None:
    exit_ = await peers.discoverable_exit(name, bystander.url, topic="all")
    for count, case in enumerate(VECTORS["requests"]):
        bystander.publish("all", bytes.fromhex(case["hex"]))
        await until(lambda: len(exit_.events("asked")) > count)  # noqa: B023
        answered_on = [channel for channel, _ in bystander.hear() if channel != "all"]
        assert answered_on == ([] if case["reply"] is None else [case["reply"]]), case["name"]


@each_go_peer
async def test_a_client_takes_the_answers_that_were_taken(
    peers: Peers, bystander: Bystander, name: str
) -> None:
    for case in VECTORS["answers"]:
        client = await peers.discovering_client(name, bystander.url, "none", "--mode", "faithful")
        reply = json.loads((await client.event("asking"))["payload"])["reply"]
        bystander.publish(reply, bytes.fromhex(case["hex"]))
        bystander.publish(
            reply, b'{"id":"another","addrs":["somewhere"]}'
        )  # is heard if the first ended nothing
        await until(lambda: client.events("failed") or len(client.events("answered")) == 2)  # noqa: B023
        assert bool(client.events("failed")) != case["taken"], case["name"]
        await client.stop()
