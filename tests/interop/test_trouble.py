"""Links that cannot be, and links that are lost: said clearly, and soon."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from bethrou.events import DialFailed, LinkClosed, LinkOpened, StrangerRefused
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from interop.peers import Peers, each_exit, each_go_peer, each_peer
from live.applications import application, refusal
from live.members import running_client, running_node
from live.targets import echo, target
from live.waiting import until


@each_peer
async def test_a_wrong_key_on_their_exit_is_named(peers: Peers, key: NetworkKey, name: str) -> None:
    other = peers.write_key(NetworkKey.generate(os.urandom))
    exit_ = await peers.exit(name, key_file=other)
    async with running_client(key, [exit_.address], wait=False) as client:
        failed = await client.events.wait(DialFailed, timeout=10.5)
        assert "network key" in failed.reason
        assert not exit_.events("identified")


@each_peer
async def test_a_wrong_key_on_their_client_is_named(peers: Peers, key: NetworkKey, name: str) -> None:
    other = peers.write_key(NetworkKey.generate(os.urandom))
    async with running_node(key) as node:
        peer = await peers.client(name, node.address, key_file=other)
        refused = await node.events.wait(StrangerRefused, timeout=10.5)
        assert "network key" in refused.reason
        await peer.event("failed")
        assert not node.events.of(LinkOpened)
        async with running_client(key, [node.address]):
            pass


@each_peer
async def test_somebody_else_at_an_exits_address_is_refused(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name)
    stranger = Identity.generate(os.urandom).peer_id
    address = exit_.address.replace(exit_.id, str(stranger))
    async with running_client(key, [address], wait=False) as client:
        failed = await client.events.wait(DialFailed)
        assert exit_.id in failed.reason
        assert "network key" not in failed.reason
        assert not client.events.of(LinkOpened)


@each_peer
async def test_our_node_is_not_taken_for_somebody_else(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node:
        stranger = Identity.generate(os.urandom).peer_id
        peer = await peers.client(name, node.address.replace(str(node.app.host.peer_id), str(stranger)))
        await peer.event("failed")
        await until(lambda: not node.links)


@each_go_peer
async def test_an_exit_with_tls_only_is_told_apart_from_a_wrong_key(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    exit_ = await peers.exit(name, "--security", "tls")
    async with running_client(key, [exit_.address], wait=False, security=["noise"]) as client:
        failed = await client.events.wait(DialFailed)
        assert "Noise" in failed.reason
        assert "network key" not in failed.reason


@each_go_peer
async def test_a_client_with_tls_only_is_told_apart_from_a_wrong_key(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    async with running_node(key, security=["noise"]) as node:
        peer = await peers.client(name, node.address, "--security", "tls")
        failed = await peer.event("failed")
        assert "protocol" in failed["error"]
        refused = await node.events.wait(StrangerRefused)
        assert "/tls/1.0.0" in refused.reason
        assert "network key" not in refused.reason


@each_go_peer
@pytest.mark.parametrize("security", ["default", "noise"])
async def test_noise_is_agreed_on(peers: Peers, key: NetworkKey, name: str, security: str) -> None:
    """A Go peer proposes TLS first, as it comes, and a node may speak Noise only."""
    async with running_node(key, security=["noise"]) as node:
        peer = await peers.connected_client(name, node.address, "--security", security)
        assert (await peer.event("connected"))["security"] == "/noise"
    exit_ = await peers.exit(name, "--security", security)
    async with running_client(key, [exit_.address]):
        assert (await exit_.event("identified"))["security"] == "/noise"


@each_exit
async def test_an_exit_that_comes_back_is_used_within_a_second(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    listen, _, _ = exit_.address.partition("/p2p/")
    async with running_client(key, [exit_.address]) as client, target(echo) as far:
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0
        await exit_.stop()
        await client.events.wait(LinkClosed)
        await client.events.wait(DialFailed)
        again = await peers.exit(name, "--mode", mode, listen=listen, like=exit_)
        back = time.monotonic()
        await client.connected()
        assert time.monotonic() - back < 1
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send([b"again"])
            assert await app.reader.readexactly(5) == b"again"
        assert again.id == exit_.id


@each_peer
async def test_a_request_during_the_absence_waits_for_the_return(
    peers: Peers, key: NetworkKey, name: str
) -> None:
    exit_ = await peers.exit(name)
    listen, _, _ = exit_.address.partition("/p2p/")
    async with running_client(key, [exit_.address]) as client, target(echo) as far:
        await exit_.stop()
        await client.events.wait(LinkClosed)
        asking = asyncio.create_task(refusal(client.proxy, "127.0.0.1", far.port))
        await client.events.wait(DialFailed)
        await peers.exit(name, listen=listen, like=exit_)
        assert await asking == 0


@each_peer
async def test_a_lost_exit_ends_its_connections(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name)
    async with (
        running_client(key, [exit_.address], routing={"wait": "300ms"}) as client,
        target(echo) as far,
    ):
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send([b"x"])
            assert await app.reader.readexactly(1) == b"x"
            await exit_.stop()
            with pytest.raises(ConnectionError):
                while await app.reader.read(1):
                    pass
                raise ConnectionError("ended in peace")
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0x01


@each_peer
async def test_a_stopped_node_ends_their_connections(peers: Peers, key: NetworkKey, name: str) -> None:
    async with running_node(key) as node:
        peer = await peers.connected_client(name, node.address)
    await peer.event("disconnected")
