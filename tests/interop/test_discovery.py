"""Finding exits through a real Redis: the Go peers among themselves, then each of them with our programs."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bethrou.wire.psk import NetworkKey
from interop.peers import Peer, Peers, each_go_peer
from live.applications import application
from live.payload import Payload
from live.processes import ClientProgram, NodeProgram, Programs, programs
from live.redis_server import RedisServer
from live.targets import Target, silent, source, target
from live.waiting import until, wait_until

TOPIC = "exits"
PAGE = Payload(300_000, seed=7)

FAITHFUL = ("--mode", "faithful", "--discover-timeout", "2")
"""A client like Bethrou in Go: it waits for the whole time (seconds), and one bad answer is its end."""

each_topic = pytest.mark.parametrize("topic", [None, TOPIC], ids=["topic: its peer ID", "topic: another"])


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    """Starts programs of ours, which end with the test."""
    with programs(tmp_path) as running:
        yield running


@pytest.fixture
def key(started: Programs, tmp_path: Path) -> NetworkKey:
    """The key of our programs is that of the peers, too."""
    return NetworkKey.parse((tmp_path / "network.key").read_bytes())


@pytest.fixture
async def page() -> AsyncIterator[Target]:
    """What is there to be fetched through an exit."""
    async with target(source(PAGE)) as web:
        yield web


def discoverable_node(
    started: Programs, redis: RedisServer, topic: str | None, *options: str, beside: int = 0
) -> NodeProgram:
    """A node of ours that is subscribed to `topic` (None: its peer ID), `beside` others."""
    topics = ("--discover-topic", topic) if topic else ()
    node: NodeProgram = started.node("--discover", "--discover-address", redis.url, *topics, *options)
    wait_until(lambda: redis.subscribers(topic or node.id) > beside)
    return node


def discovering_client(started: Programs, redis: RedisServer, topic: str, **discovery: Any) -> ClientProgram:
    """A client of ours that knows no exit but what it hears on `topic`."""
    discovery = {"enabled": True, "address": redis.url, "topic": topic, **discovery}
    client: ClientProgram = started.client_of([], discovery=discovery)
    return client


async def fetch_by_go(client: Peer, page: Target, exit_: str | None = None) -> None:
    """Have a Go client fetch the page, through `exit_` if it knows several."""
    chosen = {"peer": exit_} if exit_ else {}
    answer = await client.command("request", address=page.address, read_until_eof=True, **chosen)
    assert (answer["status"], answer["received_sha256"]) == ("ok", PAGE.sha256), answer


async def fetch(client: ClientProgram, page: Target, exit_: str) -> None:
    """Fetch the page through our client and `exit_`."""
    async with application(client.proxy, page.host, page.port, user=(f"exit={exit_}", "any")) as app:
        assert await app.receive(PAGE.size) == (PAGE.size, PAGE.sha256)


def ids_of_answers(client: Peer) -> list[str]:
    """Who has answered a Go client."""
    return [json.loads(line["payload"])["id"] for line in client.events("answered")]


@each_go_peer
@each_topic
async def test_a_go_client_finds_a_go_exit(
    peers: Peers, redis: RedisServer, page: Target, name: str, topic: str | None
) -> None:
    exit_ = await peers.discoverable_exit(name, redis.url, "--mode", "faithful", topic=topic)
    client = await peers.discovering_client(name, redis.url, topic or exit_.id, *FAITHFUL)
    assert (await client.event("connected"))["peer"] == exit_.id
    await fetch_by_go(client, page)


@each_go_peer
async def test_a_go_client_fails_where_no_exit_is(peers: Peers, redis: RedisServer, name: str) -> None:
    """And so, in other tests, a client that has found an exit was answered."""
    await peers.discoverable_exit(name, redis.url, topic="elsewhere")
    client = await peers.discovering_client(name, redis.url, TOPIC, "--discover-timeout", "0.1")
    assert "no exit has answered" in (await client.event("failed"))["error"]


@each_go_peer
@each_topic
async def test_a_go_client_finds_our_node(
    peers: Peers, started: Programs, redis: RedisServer, page: Target, name: str, topic: str | None
) -> None:
    node = discoverable_node(started, redis, topic)
    client = await peers.discovering_client(name, redis.url, topic or node.id, *FAITHFUL)
    assert (await client.event("connected"))["peer"] == node.id
    await fetch_by_go(client, page)


@each_go_peer
@each_topic
async def test_our_client_finds_a_go_exit(
    peers: Peers, started: Programs, redis: RedisServer, page: Target, name: str, topic: str | None
) -> None:
    exit_ = await peers.discoverable_exit(name, redis.url, "--mode", "faithful", topic=topic)
    client = discovering_client(started, redis, topic or exit_.id)
    await client.connected()
    await fetch(client, page, exit_.id)
    assert (await exit_.event("served"))["status"] == "ok"


@each_go_peer
async def test_our_nodes_and_go_exits_share_a_topic(
    peers: Peers, started: Programs, redis: RedisServer, page: Target, name: str
) -> None:
    exit_ = await peers.discoverable_exit(name, redis.url, "--mode", "faithful", topic=TOPIC)
    node = discoverable_node(started, redis, TOPIC, beside=1)
    theirs = await peers.discovering_client(name, redis.url, TOPIC, *FAITHFUL)
    ours = discovering_client(started, redis, TOPIC)
    await ours.connected(2)
    await until(lambda: len(theirs.events("connected")) == 2)
    for peer in (exit_.id, node.id):
        await fetch_by_go(theirs, page, peer)
        await fetch(ours, page, peer)
    assert sorted(ids_of_answers(theirs)) == sorted([exit_.id, node.id])


@each_go_peer
async def test_a_go_exit_passes_over_what_our_node_tells_unasked(
    peers: Peers, started: Programs, redis: RedisServer, name: str
) -> None:
    exit_ = await peers.discoverable_exit(name, redis.url, topic=TOPIC)
    node = discoverable_node(started, redis, TOPIC, beside=1)
    told = await exit_.event("asked", lambda line: json.loads(line["payload"]).get("action") == "presence")
    assert json.loads(told["payload"])["id"] == node.id
    assert "answer" not in told


@each_go_peer
async def test_a_sealed_node_tells_go_nothing(
    peers: Peers, started: Programs, redis: RedisServer, name: str
) -> None:
    exit_ = await peers.discoverable_exit(name, redis.url, topic=TOPIC)
    async with redis.wiretap() as tap:
        node = discoverable_node(started, redis, TOPIC, "--discover-sealed", beside=1)
        theirs = await peers.discovering_client(name, redis.url, TOPIC, *FAITHFUL)
        assert (await theirs.event("connected"))["peer"] == exit_.id
        assert ids_of_answers(theirs) == [exit_.id]
        ours = discovering_client(started, redis, TOPIC, sealed=True)
        await ours.logged("exit up", exit=node.short)
        await tap.publish("end", b"")
        await tap.next("end")
        assert not any(node.id.encode() in data for _, data in tap.heard)


@each_go_peer
async def test_a_node_that_takes_no_more_links_ends_no_discovery(
    peers: Peers, started: Programs, redis: RedisServer, name: str
) -> None:
    """A node that is being stopped has no address to tell, and an answer without one would end a Go client."""
    exit_ = await peers.discoverable_exit(name, redis.url, topic=TOPIC)
    node = discoverable_node(started, redis, TOPIC, beside=1)
    async with target(silent) as far:
        user = await peers.connected_client(name, node.address)
        asking = asyncio.create_task(user.command("request", address=far.address, read_until_eof=True))
        await until(lambda: far.visits)
        node.signal(signal.SIGTERM)
        await node.logged("stopping")
        client = await peers.discovering_client(name, redis.url, TOPIC, *FAITHFUL)
        assert (await client.event("connected"))["peer"] == exit_.id
        assert ids_of_answers(client) == [exit_.id]
    await asking
