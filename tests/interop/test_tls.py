"""TLS 1.3 with real peers, in both roles: first contact, requests, bulk data, half-closed connections, circuits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, each_go_peer, each_peer
from live.applications import application
from live.members import running_client, running_node
from live.payload import MIB, Payload
from live.targets import echo, fingerprint, hashes, source, target
from live.waiting import until

from .test_relays import reserved, through

TLS = "/tls/1.0.0"
NOISE = "/noise"
BULK = 32 * MIB


@each_peer
async def test_a_client_dials_our_node(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node:
        peer = await peers.connected_client(name, node.address, "--security", "tls")
        seen = await peer.event("connected")
        assert (seen["security"], seen["muxer"]) == (TLS, "/yamux/1.0.0")
        assert seen["agent"].startswith("bethrou-py/")
        assert seen["signed_record"] == (name != "rust")  # rust-libp2p takes records of its own kind only
        (link,) = node.links
        assert (str(link.peer_id), link.security) == (peer.id, "tls")
        assert await node.app.host.statement_of(link) is not None
        assert len((await peer.command("ping", count=5))["rtts_ms"]) == 5
        assert (await peer.command("bethrou-ping"))["ok"]


@each_peer
async def test_our_client_dials_an_exit(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name, "--security", "tls")
    async with running_client(key, [exit_.address], security=["tls"]) as client, target(echo) as far:
        seen = await exit_.event("identified")
        assert (seen["security"], seen["muxer"]) == (TLS, "/yamux/1.0.0")
        link = client.link_to(exit_.id)
        assert link.security == "tls"
        await until(lambda: link._pongs >= 3)
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send([b"hello"])
            assert await app.reader.readexactly(5) == b"hello"


@each_peer
@pytest.mark.parametrize("role", ["exit", "client"])
async def test_the_muxer_can_be_chosen_by_multistream_select(
    peers: Peers, key: NetworkKey, name: str, role: str
) -> None:
    options = ("--security", "tls", "--early-muxer=false")
    if role == "exit":
        exit_ = await peers.exit(name, *options)
        async with running_client(key, [exit_.address], security=["tls"]):
            seen = await exit_.event("identified")
    else:
        async with running_node(key) as node:
            peer = await peers.connected_client(name, node.address, *options)
            seen = await peer.event("connected")
            assert (await peer.command("ping"))["ok"]
    assert (seen["security"], seen["muxer"]) == (TLS, "/yamux/1.0.0")
    assert not seen.get("early_muxer")


@each_go_peer
@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        ("default", ["noise", "tls"], TLS),  # Go proposes TLS first
        ("default", ["tls"], TLS),
        ("default", ["noise"], NOISE),
        ("noise", ["tls", "noise"], NOISE),
        ("tls", ["noise", "tls"], TLS),
    ],
)
async def test_what_a_client_and_our_node_agree_on(
    peers: Peers, key: NetworkKey, name: str, theirs: str, ours: Sequence[str], agreed: str
) -> None:
    async with running_node(key, security=ours) as node:
        peer = await peers.connected_client(name, node.address, "--security", theirs)
        assert (await peer.event("connected"))["security"] == agreed
        assert (await peer.command("ping"))["ok"]


@each_go_peer
@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        ("default", ["noise", "tls"], NOISE),
        ("default", ["tls", "noise"], TLS),
        ("noise", ["tls", "noise"], NOISE),
        ("tls", ["noise", "tls"], TLS),
    ],
)
async def test_what_our_client_and_an_exit_agree_on(
    peers: Peers, key: NetworkKey, name: str, theirs: str, ours: Sequence[str], agreed: str
) -> None:
    """Also where the first proposal, with the first message behind it, is refused."""
    exit_ = await peers.exit(name, "--security", theirs)
    async with running_client(key, [exit_.address], security=ours) as client:
        assert (await exit_.event("identified"))["security"] == agreed
        assert client.link_to(exit_.id).alive


@each_peer
async def test_bulk_data_through_our_node(peers: Peers, key: NetworkKey, name: str) -> None:
    payload = Payload(BULK, seed=1)
    async with running_node(key) as node, target(source(payload)) as down, target(hashes(BULK)) as up:
        peer = await peers.connected_client(name, node.address, "--security", "tls")
        answer = await peer.command("request", address=down.address, read_until_eof=True)
        assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256)
        assert answer["end"] == "eof"
        answer = await peer.command(
            "request", address=up.address, send_random={"bytes": BULK, "seed": "up"}, read_bytes=64
        )
        assert bytes.fromhex(answer["received_head"]).decode() == answer["sent_sha256"]
        await until(lambda: node.streams == peer.standing)


@each_peer
async def test_bulk_data_through_an_exit(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name, "--security", "tls")
    payload = Payload(BULK, seed=2)
    async with (
        running_client(key, [exit_.address], security=["tls"]) as client,
        target(source(payload)) as down,
        target(hashes(BULK)) as up,
    ):
        async with application(client.proxy, "127.0.0.1", down.port) as app:
            assert await app.receive() == (BULK, payload.sha256)
        async with application(client.proxy, "127.0.0.1", up.port) as app:
            await app.send(payload)
            assert (await app.reader.readexactly(64)).decode() == payload.sha256


@each_peer
async def test_half_closed_connections_are_kept(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node, target(fingerprint) as far:
        peer = await peers.connected_client(name, node.address, "--security", "tls")
        answer = await peer.command(
            "request",
            address=far.address,
            send_random={"bytes": 300_000, "seed": "half"},
            half_close=True,
            read_until_eof=True,
        )
        assert bytes.fromhex(answer["received_head"]).decode() == answer["sent_sha256"]
        await until(lambda: node.streams == peer.standing)


@each_peer
async def test_both_directions_flow_at_once(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name, "--security", "tls")
    payload = Payload(8 * MIB, seed=3)
    async with (
        running_client(key, [exit_.address], security=["tls"]) as client,
        target(echo) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        sending = asyncio.create_task(app.send(payload))
        assert await app.receive(payload.size) == (payload.size, payload.sha256)
        await sending


@each_go_peer
async def test_their_client_reaches_our_node_through_our_relay(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    """TLS to the relay, and TLS once more inside the circuit."""
    async with (
        running_node(key, relay_mode=True, no_exit=True) as relay,
        running_node(key, connect_relay=[relay.address], security=["tls"]) as node,
        target(source(payload := Payload(BULK, seed=4))) as far,
    ):
        await reserved(node)
        ours = str(node.app.host.peer_id)
        peer = await peers.connected_client(name, through(relay.address, ours), "--security", "tls")
        await peer.event("connected")
        assert {(link.path, link.security) for link in node.links if str(link.peer_id) == peer.id} == {
            ("circuit", "tls")
        }
        assert {link.security for link in relay.links} == {"tls"}
        answer = await peer.command("request", address=far.address, read_until_eof=True)
        assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256)


@each_go_peer
async def test_our_client_reaches_their_exit_through_their_relay(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    relay = await peers.exit(name, "--relay", "unlimited", "--security", "tls")
    exit_ = await peers.exit(name, "--connect-relay", relay.address, "--security", "tls")
    await exit_.event("reserved")
    payload = Payload(BULK, seed=5)
    async with (
        running_client(
            key, [through(relay.address, exit_.id)], security=["noise", "tls"], punch=False
        ) as client,
        target(hashes(BULK)) as far,
    ):
        link = client.link_to(exit_.id)
        assert (link.path, link.security) == (
            "circuit",
            "tls",
        )  # after Noise was refused, in a circuit of its own
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send(payload)
            assert (await app.reader.readexactly(64)).decode() == payload.sha256
