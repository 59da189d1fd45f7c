"""Clients of other implementations at our node."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest

from bethrou.events import RequestEnded
from bethrou.net import link as link_module
from bethrou.wire.psk import NetworkKey
from interop.peers import Line, Peers, each_go_peer
from live.members import running_node
from live.payload import MIB, Payload
from live.targets import (
    answers_after_fin,
    banner,
    echo,
    endless,
    fingerprint,
    hashes,
    request_then_slow_answer,
    silent,
    source,
    target,
)
from live.waiting import until
from proxy.dns_server import DnsServerForTests

BULK = 100 * MIB

each_client = pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("go-v0.42", "proper"),
        ("go-v0.42", "faithful"),
        ("go-newest", "proper"),
        ("go-newest", "faithful"),
        ("js", "proper"),
        ("rust", "proper"),
    ],
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def succeeded(answer: Line) -> bool:
    return answer["status"] == "ok" and "error" not in answer and "send_error" not in answer


@each_client
async def test_100_mib_arrive_downwards(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    payload = Payload(BULK, seed=1)
    async with running_node(key) as node, target(source(payload)) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command("request", address=far.address, read_until_eof=True)
        assert succeeded(answer), answer
        assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256)
        assert answer["end"] == "eof"
        await until(lambda: node.streams == peer.standing)


@each_client
async def test_100_mib_arrive_upwards(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    async with running_node(key) as node, target(hashes(BULK)) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command(
            "request", address=far.address, send_random={"bytes": BULK, "seed": "up"}, read_bytes=64
        )
        assert succeeded(answer), answer
        assert answer["sent"] == far.visits[0].received == BULK
        assert bytes.fromhex(answer["received_head"]).decode() == answer["sent_sha256"]
        await until(lambda: node.streams == peer.standing and far.open_visits == 0)
        ended = await node.events.wait(RequestEnded)
        assert (ended.peer, ended.destination, ended.sent, ended.received) == (
            peer.id,
            far.address,
            BULK,
            64,
        )


@each_client
async def test_half_closed_connections_are_kept(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    """The client ends its direction, and only then the destination answers."""
    async with running_node(key) as node, target(fingerprint) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command(
            "request",
            address=far.address,
            send_random={"bytes": 300_000, "seed": "half"},
            half_close=True,
            read_until_eof=True,
        )
        assert succeeded(answer), answer
        assert bytes.fromhex(answer["received_head"]).decode() == answer["sent_sha256"]
        await until(lambda: node.streams == peer.standing)


@each_client
async def test_a_large_answer_follows_the_end(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    payload = Payload(5 * MIB, seed=2)
    async with running_node(key) as node, target(answers_after_fin(payload)) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command(
            "request", address=far.address, send_hex="00", half_close=True, read_until_eof=True
        )
        assert (answer["received"], answer["received_sha256"]) == (payload.size, payload.sha256)
        assert answer["end"] == "eof"


@each_client
async def test_both_directions_flow_at_once(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    async with running_node(key) as node, target(echo) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command(
            "request",
            address=far.address,
            send_random={"bytes": 8 * MIB, "seed": "both"},
            half_close=True,
            read_until_eof=True,
        )
        assert succeeded(answer), answer
        assert answer["received_sha256"] == answer["sent_sha256"]


@each_client
async def test_failures_are_told(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    """In the words by which Go clients tell failures apart."""
    async with target(echo) as gone:
        pass
    server = await DnsServerForTests.start()
    with contextlib.closing(server.transport):
        await failures_are_told(peers, key, name, mode, gone.address, str(server.address))


async def failures_are_told(
    peers: Peers, key: NetworkKey, name: str, mode: str, closed: str, resolver: str
) -> None:
    """Nobody listens at `closed`."""
    async with running_node(key, resolver=[resolver]) as node:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        for address, words in (
            (closed, "connection refused"),
            ("nobody.test:80", "no such host"),
            ("10.0.0.1:80", "not globally routable"),
            ("nonsense", "no port"),
            ("127.0.0.1:0", "port"),
            ("[::1:80", ""),
        ):
            answer = await peer.command("request", address=address)
            assert answer["status"] == "error", (address, answer)
            assert words in answer["message"]
        assert (await peer.command("ping"))["ok"]
        await until(lambda: node.streams == peer.standing)


@each_client
async def test_bytes_in_the_write_of_the_request_arrive_once(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    payload = bytes(Payload(3000))
    async with running_node(key) as node, target(hashes(len(payload))) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command(
            "request", address=far.address, send_hex=payload.hex(), early=True, read_bytes=64
        )
        assert succeeded(answer), answer
        assert bytes.fromhex(answer["received_head"]).decode() == sha256(payload)
        await until(lambda: far.open_visits == 0)
        assert [visit.received for visit in far.visits] == [len(payload)]


@each_client
async def test_a_server_may_speak_first(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    """A faithful client loses what shares a frame with the answer: the answer must travel alone."""
    words = bytes(Payload(600, seed=4))
    async with running_node(key) as node, target(banner(words)) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        for _ in range(20):
            answer = await peer.command("request", address=far.address, read_bytes=len(words))
            assert bytes.fromhex(answer["received_head"]) == words


@each_client
async def test_an_answer_that_takes_its_time_arrives(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    payload = Payload(MIB, seed=5)
    async with (
        running_node(key) as node,
        target(request_then_slow_answer(1, payload, pieces=5, pause=0.05)) as far,
    ):
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command(
            "request", address=far.address, send_hex="00", half_close=True, read_until_eof=True
        )
        assert (answer["received"], answer["received_sha256"]) == (payload.size, payload.sha256)


@each_client
async def test_a_reset_ends_the_destination(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    async with running_node(key) as node, target(endless()) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        await peer.command("abort", address=far.address, after_bytes=2 * MIB, how="reset")
        await until(lambda: node.streams == peer.standing and far.open_visits == 0)
        ended = await node.events.wait(RequestEnded)
        assert ended.result == "aborted"


@each_go_peer
async def test_a_client_that_reads_no_more_is_noticed(
    peers: Peers, key: NetworkKey, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bethrou in Go tells an exit of an application's end by FIN alone, then gives no more credit."""
    monkeypatch.setattr(link_module, "_STALL_LIMIT", 0.5)
    monkeypatch.setattr(link_module, "PING_INTERVAL", 0.2)
    async with running_node(key) as node, target(endless()) as far:
        peer = await peers.connected_client(name, node.address, "--mode", "faithful")
        await peer.command("abort", address=far.address, after_bytes=2 * MIB, how="close")
        await until(lambda: node.streams == peer.standing and far.open_visits == 0)
        assert (await peer.command("ping"))["ok"]


@each_client
async def test_a_destination_that_resets_at_once_is_told(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    async with running_node(key) as node, target(silent) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        asking = [
            asyncio.create_task(peer.command("request", address=far.address, read_until_eof=True, timeout=10))
            for _ in range(5)
        ]
        await until(lambda: len(far.visits) == 5)
        await far.close()
        for answer in await asyncio.gather(*asking):
            assert answer["end"] in ("eof", "reset"), answer
        await until(lambda: node.streams == peer.standing)


@each_client
async def test_200_streams_at_once(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    async with running_node(key) as node, target(echo) as far:
        options = ("--limits", "none") if name.startswith("go") else ()
        peer = await peers.connected_client(name, node.address, "--mode", mode, *options)
        answer = await peer.command("parallel", address=far.address, count=200, bytes=20_000)
        assert (answer["ok"], answer["matched"]) == (200, 200), answer
        await until(lambda: node.streams == peer.standing)
