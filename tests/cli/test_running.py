"""A client and a node put together, changed while they run, and taken apart: nothing of them is left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from bethrou.assembly.running_client import RunningClient
from bethrou.assembly.running_node import RunningNode
from bethrou.config import ClientConfig, NodeConfig
from bethrou.events import Event
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from live.applications import application, echoed
from live.targets import echo, target
from live.waiting import until
from net.leftovers import nothing_left

REDIS = {"enabled": True, "address": "127.0.0.1:1"}
SEALED = {**REDIS, "sealed": True}


class World:
    """A client of one node."""

    def __init__(self, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        key = NetworkKey.generate(os.urandom)
        self.events: list[Event] = []
        for name in ("node", "client"):
            (folder / name).mkdir(exist_ok=True)
        self.node = RunningNode(
            loop, self.node_config(), key, Identity.generate(os.urandom), self.events.append, folder / "node"
        )
        self.client = RunningClient(
            loop,
            self.client_config(),
            key,
            Identity.generate(os.urandom),
            self.events.append,
            folder / "client",
        )

    def node_config(self, **changed: Any) -> NodeConfig:
        # c-ares closes its descriptors in a thread of its own, some time later
        usual = {"listen": ["/ip4/127.0.0.1/tcp/0"], "allow": ["127.0.0.0/8"], "resolver": ["system"]}
        return NodeConfig.model_validate({**usual, **changed})

    def client_config(self, **changed: Any) -> ClientConfig:
        nodes = [{"addrs": [str(address) for address in self.node.reachable_at]}]
        return ClientConfig.model_validate({"server": {"listen": "127.0.0.1:0"}, "nodes": nodes, **changed})

    async def close(self) -> None:
        await self.client.close()
        await self.node.close()


async def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    async with nothing_left():
        it = World(tmp_path)
        await it.client.core.pool.wait_for_exit(5.0)
        async with (
            target(echo) as far,
            application(it.client.socks_address, far.host, far.port) as app,
        ):
            assert await echoed(app, b"hello") == b"hello"
            await it.close()


async def test_nothing_is_left_of_what_was_started_before_anything_was_up(tmp_path: Path) -> None:
    async with nothing_left():
        it = World(tmp_path)
        await it.close()


async def test_sources_come_and_go_without_a_trace_and_no_connection_notices(tmp_path: Path) -> None:
    async with nothing_left():
        it = World(tmp_path)
        await it.client.core.pool.wait_for_exit(5.0)
        async with (
            target(echo) as far,
            application(it.client.socks_address, far.host, far.port) as app,
        ):
            for discovery in (REDIS, {"members": False}, SEALED, REDIS, {}, {"members": False}, {}):
                it.client.reload(it.client_config(discovery=discovery))
                it.node.reload(it.node_config(discovery=discovery))
                assert await echoed(app, b"still here") == b"still here"
            peer = f"/ip4/127.0.0.1/tcp/1/p2p/{it.client.core.host.peer_id}"
            for peers in ([peer], [], [peer]):
                it.node.reload(it.node_config(peers=peers))
                await asyncio.sleep(0)
            rules = [{"domain": ["localhost"], "use": "direct"}]
            it.client.reload(it.client_config(rules=rules, routing={"timeout": "3s", "pool": 1}))
            async with application(it.client.socks_address, "localhost", far.port) as other:
                assert await echoed(other, b"direct") == b"direct"
            it.client.reload(it.client_config())
            assert await echoed(app, b"still here") == b"still here"
        names = [snapshot.name for snapshot in it.client.core.discovery.snapshots()]
        await until(lambda: not it.client.core.discovery._closing and not it.node.discovery._closing)
        assert names == ["static", "members", "cache"]
        await it.close()
