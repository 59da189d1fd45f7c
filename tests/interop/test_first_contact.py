"""Getting to know each other: dialling, identify in both directions, ping, unknown protocols."""

from __future__ import annotations

import pytest

from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, each_exit, each_peer
from live.members import running_client, running_node
from live.waiting import until


@each_exit
async def test_our_client_learns_who_the_exit_is(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client:
        statement = client.app.core.pool.exits[exit_.id].statement
        assert statement is not None
        assert statement.agent_version.startswith("bethrou-interop-")
        assert {"/bethrou/proxy/1.0.0", "/bethrou/ping/1.0.0", "/ipfs/ping/1.0.0"} <= set(statement.protocols)
        assert exit_.address in [f"{address}/p2p/{exit_.id}" for address in statement.listen_addrs]


@each_exit
async def test_the_exit_learns_who_our_client_is(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client:
        seen = await exit_.event("identified")
        assert seen["peer"] == str(client.app.core.host.peer_id)
        assert seen["agent"].startswith("bethrou-py/")
        assert {"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"} <= set(seen["protocols"])
        assert seen["listen_addrs"] == []
        assert "/bethrou/proxy/1.0.0" not in seen["protocols"]
        assert not seen["limited"]


@each_peer
async def test_a_client_learns_who_our_node_is(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node:
        peer = await peers.connected_client(name, node.address)
        seen = await peer.event("connected")
        assert seen["peer"] == str(node.app.host.peer_id)
        assert seen["agent"].startswith("bethrou-py/")
        offered = {
            "/bethrou/members/1.0.0",
            "/bethrou/ping/1.0.0",
            "/bethrou/proxy/1.0.0",
            "/bethrou/proxy/1.1.0",
            "/bethrou/state/1.0.0",
            "/ipfs/id/1.0.0",
            "/ipfs/id/push/1.0.0",
            "/ipfs/ping/1.0.0",
            "/libp2p/autonat/2/dial-back",
            "/libp2p/autonat/2/dial-request",
        }
        assert set(seen["protocols"]) == offered
        assert seen["signed_record"] == (name != "rust")  # rust-libp2p takes records of its own kind only
        assert [f"{address}/p2p/{seen['peer']}" for address in seen["listen_addrs"]] == [node.address]
        assert seen["observed_addr"].startswith("/ip4/127.0.0.1/tcp/")


@each_peer
async def test_our_node_learns_who_a_client_is(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node:
        peer = await peers.connected_client(name, node.address)
        (link,) = node.links
        assert str(link.peer_id) == peer.id
        statement = await node.app.host.statement_of(link)
        assert statement is not None
        assert statement.agent_version.startswith("bethrou-interop-")
        assert "/ipfs/ping/1.0.0" in statement.protocols


@each_exit
async def test_round_trips_to_an_exit_are_measured(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client:
        link = client.link_to(exit_.id)
        await until(lambda: link._pongs >= 3)
        assert 0 < link.round_trip < 1


@each_peer
async def test_pings_are_answered(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node:
        peer = await peers.connected_client(name, node.address)
        pinged = await peer.command("ping", count=5)
        assert pinged["ok"], pinged
        assert len(pinged["rtts_ms"]) == 5
        for _ in range(3):
            assert (await peer.command("bethrou-ping"))["ok"]


@each_peer
async def test_an_unknown_protocol_is_refused_and_the_link_goes_on(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    async with running_node(key) as node:
        peer = await peers.connected_client(name, node.address)
        asked = await peer.command("protocol", name="/nobody/speaks/this/1.0.0")
        assert not asked["ok"]
        assert "protocol" in asked["error"].lower(), asked
        assert (await peer.command("protocol", name="/bethrou/proxy/1.0.0"))["ok"]
        await until(lambda: node.streams == peer.standing)
        assert (await peer.command("ping"))["ok"]


@each_peer
@pytest.mark.parametrize("role", ["exit", "client"])
async def test_the_muxer_can_be_chosen_by_multistream_select(
    peers: Peers, key: NetworkKey, name: str, role: str
) -> None:
    if role == "exit":
        exit_ = await peers.exit(name, "--early-muxer=false")
        async with running_client(key, [exit_.address]):
            seen = await exit_.event("identified")
    else:
        async with running_node(key) as node:
            peer = await peers.connected_client(name, node.address, "--early-muxer=false")
            seen = await peer.event("connected")
            assert (await peer.command("ping"))["ok"]
    assert seen["muxer"] == "/yamux/1.0.0"
    assert not seen.get("early_muxer")
