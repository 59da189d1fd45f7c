"""Circuits with Go in each of the three places: client, relay, exit."""

from __future__ import annotations

import time

import pytest

from bethrou.events import CircuitEnded, LinkClosed, RelayReserved, RequestEnded
from bethrou.net.link import CIRCUIT
from bethrou.wire.psk import NetworkKey
from interop.peers import Peer, Peers, each_go_peer, each_peer
from live.applications import application
from live.members import Client, Node, running_client, running_node
from live.payload import MIB, Payload
from live.targets import Habit, answers_after_fin, echo, hashes, source, target
from live.waiting import until

BULK = 20 * MIB


def through(relay: str, exit_: str) -> str:
    """The address of an exit behind a relay."""
    return f"{relay}/p2p-circuit/p2p/{exit_}"


async def reserved(node: Node) -> tuple[str, ...]:
    """Where a node of ours is reachable through its relay, once it is."""
    return (await node.events.wait(RelayReserved)).addresses


async def bulk_passes(client: Client) -> None:
    """Both ways, hashed."""
    payload = Payload(BULK, seed=1)
    async with target(source(payload)) as far, application(client.proxy, "127.0.0.1", far.port) as app:
        assert await app.receive() == (BULK, payload.sha256)
    async with target(hashes(BULK)) as far, application(client.proxy, "127.0.0.1", far.port) as app:
        await app.send(payload)
        assert (await app.reader.readexactly(64)).decode() == payload.sha256


async def fetched(peer: Peer, habit: Habit, size: int) -> dict[str, object]:
    async with target(habit) as far:
        return await peer.command("request", address=far.address, read_bytes=size)


# -- our client ------------------------------------------------------------------------------------------------------


@each_go_peer
async def test_our_client_and_their_exit_behind_their_relay(peers: Peers, key: NetworkKey, name: str) -> None:
    relay = await peers.exit(name, "--relay", "unlimited")
    exit_ = await peers.exit(name, "--connect-relay", relay.address)
    await exit_.event("reserved")
    async with running_client(key, [through(relay.address, exit_.id)]) as client:
        link = client.link_to(exit_.id)
        assert link.path == CIRCUIT
        await bulk_passes(client)
        assert client.link_to(exit_.id) is link


@each_go_peer
async def test_our_client_and_their_exit_behind_our_relay(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key, relay_mode=True, no_exit=True) as relay:
        exit_ = await peers.exit(name, "--connect-relay", relay.address)
        granted = await exit_.event("reserved")
        assert granted["voucher"]
        assert 3590 < granted["expires_in"] <= 3600
        assert (granted["limit_seconds"], granted["limit_bytes"]) == (0, 0)
        assert relay.address in granted["addrs"]
        async with running_client(key, [through(relay.address, exit_.id)]) as client:
            assert client.link_to(exit_.id).path == CIRCUIT
            await bulk_passes(client)
        ended = await relay.events.wait(CircuitEnded)
        assert ended.target == exit_.id
        assert min(ended.sent, ended.received) > BULK


@each_go_peer
async def test_our_client_and_our_exit_behind_their_relay(peers: Peers, key: NetworkKey, name: str) -> None:
    relay = await peers.exit(name, "--relay", "unlimited")
    async with running_node(key, connect_relay=[relay.address]) as node:
        addresses = await reserved(node)
        async with running_client(
            key, [[f"{each}/p2p/{node.app.host.peer_id}" for each in addresses]]
        ) as client:
            assert client.link_to(str(node.app.host.peer_id)).path == CIRCUIT
            await bulk_passes(client)


async def half_close_passes(client: Client) -> None:
    """What comes behind our FIN, and because of it."""
    answer = Payload(MIB, seed=4)
    async with (
        target(answers_after_fin(answer)) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        await app.send([b"question"], end=True)
        assert await app.receive() == (MIB, answer.sha256)


async def echoes_until_the_end(peer: Peer) -> None:
    """20 MiB each way at once; our FIN, then theirs."""
    async with target(echo) as far:
        answer = await peer.command(
            "request",
            address=far.address,
            send_random={"bytes": BULK, "seed": "both"},
            half_close=True,
            read_until_eof=True,
        )
    assert (answer["sent"], answer["received_sha256"]) == (BULK, answer["sent_sha256"]), answer


# -- their client ----------------------------------------------------------------------------------------------------


@each_peer
async def test_their_client_and_our_exit_behind_their_relay(peers: Peers, key: NetworkKey, name: str) -> None:
    relay = await peers.exit(name, "--relay", "unlimited")
    async with running_node(key, connect_relay=[relay.address]) as node:
        await reserved(node)
        await their_client_works(peers, name, relay.address, node)


@each_go_peer
async def test_their_client_and_our_exit_behind_our_relay(peers: Peers, key: NetworkKey, name: str) -> None:
    async with (
        running_node(key, relay_mode=True) as relay,
        running_node(key, connect_relay=[relay.address]) as node,
    ):
        await reserved(node)
        await their_client_works(peers, name, relay.address, node)


async def their_client_works(peers: Peers, name: str, relay: str, node: Node) -> None:
    ours = str(node.app.host.peer_id)
    peer = await peers.connected_client(name, through(relay, ours))
    said = await peer.event("connected")
    assert said["limited"] is False
    assert f"{relay}/p2p-circuit" in said["listen_addrs"]
    assert (await peer.command("ping", count=2))["ok"]
    assert (await peer.command("bethrou-ping"))["ok"]
    payload = Payload(BULK, seed=3)
    answer = await fetched(peer, source(payload), BULK)
    assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256), answer
    await echoes_until_the_end(peer)
    await node.events.wait(RequestEnded, lambda event: event.peer == peer.id)


@each_go_peer
async def test_their_client_and_their_exit_behind_our_relay(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key, relay_mode=True, no_exit=True) as relay:
        exit_ = await peers.exit(name, "--connect-relay", relay.address)
        await exit_.event("reserved")
        peer = await peers.connected_client(name, through(relay.address, exit_.id))
        payload = Payload(BULK, seed=3)
        answer = await fetched(peer, source(payload), BULK)
        assert (answer["received"], answer["received_sha256"]) == (BULK, payload.sha256), answer
        await echoes_until_the_end(peer)
        assert (await peer.command("ping", count=2))["ok"]


# -- relays that come and go -----------------------------------------------------------------------------------------


@each_peer
async def test_our_exit_and_our_client_are_back_when_their_relay_is(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    relay = await peers.exit(name, "--relay", "unlimited")
    async with running_node(key, connect_relay=[relay.address]) as node:
        addresses = await reserved(node)
        ours = str(node.app.host.peer_id)
        async with running_client(key, [[f"{each}/p2p/{ours}" for each in addresses]]) as client:
            await relay.stop()
            await client.events.wait(LinkClosed, lambda event: event.peer == ours)
            listen, _, _ = relay.address.partition("/p2p/")
            again = await peers.exit(name, "--relay", "unlimited", listen=listen, like=relay)
            back = time.monotonic()
            assert again.address == relay.address
            await until(lambda: len(node.events.of(RelayReserved)) == 2)
            took = time.monotonic() - back
            print(f"{name}: reserved again {took:.2f} s after the relay's return")
            assert took < 5 + 1  # a busy machine
            await client.connected()
            assert client.link_to(ours).path == CIRCUIT
            await bulk_passes(client)
            await half_close_passes(client)


# -- what limits and losses do ---------------------------------------------------------------------------------------


@each_go_peer
async def test_a_relay_with_gos_default_limits_ends_a_circuit_and_there_is_a_new_one(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    relay = await peers.exit(name, "--relay", "default")
    async with running_node(key, connect_relay=[relay.address]) as node:
        await reserved(node)
        address = through(relay.address, str(node.app.host.peer_id))
        async with running_client(key, [address]) as client, target(source(Payload(MIB))) as far:
            first = client.link_to(str(node.app.host.peer_id))
            async with application(client.proxy, "127.0.0.1", far.port) as app:
                with pytest.raises(ConnectionResetError):  # what is cut off does not look finished
                    await app.receive()
            assert not first.alive
            await until(lambda: client.app.core.pool.exits[str(node.app.host.peer_id)].usable)


@each_go_peer
async def test_their_client_dials_the_circuit_again(peers: Peers, key: NetworkKey, name: str) -> None:
    """Go keeps only the addresses that identify lists: the circuit's must be among them."""
    async with (
        running_node(key, relay_mode=True, no_exit=True) as relay,
        running_node(key, connect_relay=[relay.address]) as node,
    ):
        await reserved(node)
        ours = str(node.app.host.peer_id)
        peer = await peers.connected_client(name, through(relay.address, ours))
        node.app.host.stop_listening()
        for link in list(node.links):
            if link.path == CIRCUIT:
                link.close()
        await peer.event("disconnected", lambda line: line["peer"] == ours)
        payload = Payload(MIB, seed=3)
        answer = await fetched(peer, source(payload), MIB)
        assert (answer["received"], answer["received_sha256"]) == (MIB, payload.sha256), answer


# -- js --------------------------------------------------------------------------------------------------------------


async def test_our_client_and_a_js_exit_behind_our_relay(peers: Peers, key: NetworkKey) -> None:
    async with running_node(key, relay_mode=True, no_exit=True) as relay:
        exit_ = await peers.exit("js", "--connect-relay", relay.address)
        await until(lambda: exit_.identity.peer_id in relay.app.host.links)
        async with running_client(key, [through(relay.address, exit_.id)]) as client:
            assert client.link_to(exit_.id).path == CIRCUIT
            await bulk_passes(client)


async def test_a_js_client_and_our_exit_behind_our_relay(peers: Peers, key: NetworkKey) -> None:
    async with (
        running_node(key, relay_mode=True) as relay,
        running_node(key, connect_relay=[relay.address]) as node,
    ):
        await reserved(node)
        await their_client_works(peers, "js", relay.address, node)


async def test_our_client_and_our_exit_behind_a_js_relay(peers: Peers, key: NetworkKey) -> None:
    relay = await peers.exit("js", "--relay", "unlimited")
    async with running_node(key, connect_relay=[relay.address]) as node:
        addresses = await reserved(node)
        async with running_client(
            key, [[f"{each}/p2p/{node.app.host.peer_id}" for each in addresses]]
        ) as client:
            assert client.link_to(str(node.app.host.peer_id)).path == CIRCUIT
            await bulk_passes(client)
