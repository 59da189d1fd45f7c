"""WebSockets between ours and theirs, in both roles: the private network runs inside them (spec: libp2p websockets)."""

from __future__ import annotations

import asyncio

import pytest

from bethrou.events import CircuitEnded
from bethrou.net.link import CIRCUIT
from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, each_go_peer, each_peer
from live.applications import application
from live.members import running_client, running_node
from live.payload import MIB, Payload
from live.targets import answers_after_fin, echo, hashes, source, target

WS = "/ip4/127.0.0.1/tcp/0/ws"
BULK = 16 * MIB


@each_peer
async def test_our_client_at_their_exit(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name, listen=WS)
    assert "/ws/p2p/" in exit_.address
    payload = Payload(BULK, seed=1)
    async with running_client(key, [exit_.address]) as client:
        link = client.link_to(exit_.id)
        assert f"{link.remote}/p2p/{exit_.id}" == exit_.address
        statement = client.app.core.pool.exits[exit_.id].statement
        assert statement is not None
        assert statement.observed_addr is not None
        assert exit_.address in [f"{address}/p2p/{exit_.id}" for address in statement.listen_addrs]
        assert 0 < link.round_trip < 5
        async with target(source(payload)) as far, application(client.proxy, "127.0.0.1", far.port) as app:
            assert await app.receive() == (BULK, payload.sha256)
        async with target(hashes(BULK)) as far, application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send(payload)
            assert (await app.reader.readexactly(64)).decode() == payload.sha256
        assert client.link_to(exit_.id) is link


@each_peer
async def test_their_client_at_our_node(peers: Peers, key: NetworkKey, name: str) -> None:
    payload = Payload(BULK, seed=2)
    async with running_node(key, listen=WS) as node:
        assert "/ws/p2p/" in node.address
        peer = await peers.connected_client(name, node.address)
        seen = await peer.event("connected")
        assert seen["observed_addr"].endswith("/ws")
        pinged = await peer.command("ping")
        assert "error" not in pinged, pinged
        async with target(source(payload)) as far:
            answer = await peer.command("request", address=far.address, read_until_eof=True)
            assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256)
        async with target(hashes(BULK)) as far:
            answer = await peer.command(
                "request", address=far.address, send_random={"bytes": BULK, "seed": "up"}, read_bytes=64
            )
            assert bytes.fromhex(answer["received_head"]).decode() == answer["sent_sha256"]


@each_peer
async def test_each_direction_ends_by_itself(peers: Peers, key: NetworkKey, name: str) -> None:
    payload = Payload(BULK, seed=4)
    async with running_node(key, listen=WS) as node, target(answers_after_fin(payload)) as far:
        peer = await peers.connected_client(name, node.address)
        answer = await peer.command(
            "request", address=far.address, send_hex="00", half_close=True, read_until_eof=True
        )
        assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256), answer
        assert answer["end"] == "eof"


@each_peer
async def test_one_port_for_both(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as first:
        port = first.app.host.bound_addresses[0].tcp_port
    plain = f"/ip4/127.0.0.1/tcp/{port}"
    async with running_node(key, listen=[plain, f"{plain}/ws"]) as node, target(echo) as far:
        addresses = [str(address) for address in node.app.reachable_at]
        assert [address.split("/p2p/")[0] for address in addresses] == [plain, f"{plain}/ws"]
        for address in addresses:
            peer = await peers.connected_client(name, address)
            answer = await peer.command(
                "request", address=far.address, send_random={"bytes": 1000, "seed": "x"}, read_bytes=1000
            )
            assert answer["received_sha256"] == answer["sent_sha256"]
            await peer.stop()


@each_go_peer
async def test_a_circuit_through_a_relay_reached_by_websocket(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    payload = Payload(BULK, seed=3)
    async with running_node(key, listen=WS, relay_mode=True, no_exit=True) as relay:
        exit_ = await peers.exit(name, "--connect-relay", relay.address)
        await exit_.event("reserved")
        async with running_client(key, [f"{relay.address}/p2p-circuit/p2p/{exit_.id}"]) as client:
            assert client.link_to(exit_.id).path == CIRCUIT
            async with (
                target(source(payload)) as far,
                application(client.proxy, "127.0.0.1", far.port) as app,
            ):
                assert await app.receive() == (BULK, payload.sha256)
        ended = await relay.events.wait(CircuitEnded)
        assert ended.target == exit_.id


@pytest.mark.parametrize("name", ["go-v0.42"])
async def test_another_network_key_is_told(peers: Peers, key: NetworkKey, name: str) -> None:
    other = peers.write_key(NetworkKey(b"o" * 32))
    async with running_node(key, listen=WS) as node:
        peer = await peers.client(name, node.address, key_file=other)
        await peer.event("failed")
        async with asyncio.timeout(15):
            while not (told := [event for event in node.events.all if "network keys" in str(event)]):
                await asyncio.sleep(0.01)
        assert "/ws" in str(told[0])
