"""Nodes that find out that nobody can reach them, and are reached through relays that they have heard of."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bethrou.discovery import redis_presence
from bethrou.events import ReachabilityChanged, RelayReserved
from bethrou.net import auto_relay, autonat_server, reachability, relay_keeper
from bethrou.net.reachability import Finding
from bethrou.wire.psk import NetworkKey
from live import redis_server
from live.behind_nat import LISTEN, ClientInThere, echo_at, on, relay_at
from live.members import Node, running_client, running_node
from live.namespaces import Call, Internet, Namespace, Nat, an_internet_for_a_test
from live.waiting import until

internet = pytest.fixture(an_internet_for_a_test)


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autonat_server, "DIAL_TIMEOUT", 1.0)
    monkeypatch.setattr(reachability, "CONFIRM", 0.2)
    monkeypatch.setattr(reachability, "SETTLE", 0.5)
    monkeypatch.setattr(auto_relay, "FIRST_CHECK", 0.5)
    monkeypatch.setattr(auto_relay, "PATIENCE", (2.0, 3.0))
    monkeypatch.setattr(relay_keeper, "REDIAL", (0.1, 0.3))


class NodeInThere:
    """A node of ours in a namespace."""

    def __init__(self, call: Call, node: Node) -> None:
        self._call = call
        self._node = node
        self.id = str(node.app.host.peer_id)

    async def believes(self, finding: Finding) -> None:
        """Wait until it has found out."""
        app = self._node.app
        await self._call(until(lambda: app.reachability is finding, what=lambda: self.happened))

    async def check_again(self) -> None:
        """Have it believe that its network has changed."""

        async def change() -> None:
            self._node.app.network_changed()

        await self._call(change())

    @property
    def told(self) -> list[bool]:
        return [event.reachable for event in self._node.events.of(ReachabilityChanged)]

    @property
    def relays(self) -> set[str]:
        """Those through which it says that it can be reached."""
        circuits = [each for each in self._node.app.host.listen_addresses if each.is_circuit]
        return {str(each.relay.peer_id) for each in circuits if each.relay is not None}

    async def is_behind(self, count: int, but: str = "") -> set[str]:
        """Wait until it is reached through so many relays, and not through `but`; which."""
        await self._call(
            until(lambda: len(self.relays) == count and but not in self.relays, what=lambda: self.happened)
        )
        return self.relays

    @property
    def happened(self) -> list[object]:
        return list(self._node.events.all)

    def ever_reserved(self) -> bool:
        return bool(self._node.events.of(RelayReserved))


@contextlib.asynccontextmanager
async def node_at(place: Namespace, key: NetworkKey, **options: Any) -> AsyncIterator[NodeInThere]:
    with place.loop() as call:
        async with on(call, running_node(key, listen=LISTEN, **options)) as node:
            yield NodeInThere(call, node)


@contextlib.asynccontextmanager
async def client_of(
    place: Namespace, key: NetworkKey, known: Sequence[str], **options: Any
) -> AsyncIterator[ClientInThere]:
    with place.loop() as call:
        async with on(call, running_client(key, known, wait=False, **options)) as client:
            yield ClientInThere(call, client)


@pytest.mark.parametrize("nat", [Nat.PRESERVING, Nat.SYMMETRIC], ids=lambda nat: nat.name.lower())
async def test_knowing_one_peer_is_enough(internet: Internet, key: NetworkKey, nat: Nat) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", nat).member() for n in (1, 2))
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        node_at(theirs, key, peers=[relay.address]) as node,
        echo_at(theirs) as port,
    ):
        await node.is_behind(1)
        assert node.told == [False]
        await relay.tells_of_circuits_to(node.id)
        async with client_of(ours, key, [relay.address]) as client:
            await client.reaches(node.id)
            await client.echoed("127.0.0.1", port)


async def test_another_relay_takes_the_place_of_one_that_is_gone(internet: Internet, key: NetworkKey) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.SYMMETRIC).member() for n in (1, 2))
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(relay_at(internet.host("5.5.0.1"), key))
        relays = {first.id: (first, stack)}
        for number in (2, 3):
            inner = await stack.enter_async_context(contextlib.AsyncExitStack())
            place = internet.host(f"5.5.0.{number}")
            relay = await inner.enter_async_context(relay_at(place, key, peers=[first.address]))
            relays[relay.id] = (relay, inner)
            await first.knows(relay.id)
        node = await stack.enter_async_context(node_at(theirs, key, peers=[first.address]))
        port = await stack.enter_async_context(echo_at(theirs))
        used = await node.is_behind(2)
        gone = next(each for each in used if each != first.id)
        await relays[gone][1].aclose()
        after = await node.is_behind(2, but=gone)
        assert after == relays.keys() - {gone}
        for each in after:
            assert node.id in await relays[each][0].reserved()
        await first.tells_of_circuits_to(node.id)
        client = await stack.enter_async_context(client_of(ours, key, [first.address]))
        await client.reaches(node.id)
        await client.echoed("127.0.0.1", port)


async def test_a_public_node_uses_no_relay(internet: Internet, key: NetworkKey) -> None:
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        node_at(internet.host("5.5.0.2"), key, peers=[relay.address]) as node,
    ):
        await node.believes(Finding.REACHABLE)
        assert node.told == [True]
        assert not node.ever_reserved()
        assert await relay.reserved() == set()


async def test_a_forwarded_port_ends_the_use_of_relays(internet: Internet, key: NetworkKey) -> None:
    home, ours = internet.home("5.5.1.1", Nat.PRESERVING), internet.home("5.5.2.1", Nat.SYMMETRIC).member()
    theirs = home.member()
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        node_at(theirs, key, peers=[relay.address]) as node,
        echo_at(theirs) as port,
    ):
        await node.is_behind(1)
        home.forward(4001, theirs)
        await node.check_again()
        await node.is_behind(0)
        assert node.told == [False, True]
        async with client_of(ours, key, [relay.address]) as client:
            await client.reaches(node.id)
            assert (await client.direct(node.id))[0] == "/ip4/5.5.1.1/tcp/4001"
            await client.echoed("127.0.0.1", port)


async def test_nobody_is_reached_through_relays_against_the_operators_will(
    internet: Internet, key: NetworkKey
) -> None:
    theirs = internet.home("5.5.1.1", Nat.SYMMETRIC)
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        node_at(theirs.member(), key, peers=[relay.address], auto_relay=False) as unwilling,
        node_at(theirs.member(), key, peers=[relay.address]) as willing,
    ):
        await willing.is_behind(1)
        assert await relay.reserved() == {willing.id}
        assert not unwilling.told


async def test_redis_is_enough(
    internet: Internet, key: NetworkKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has a link to the node, and it knows no peer: it dials relays that it hears of to ask them."""
    monkeypatch.setattr(redis_presence, "presence_interval", lambda known: 1.0)
    public = internet.host("5.5.0.1")
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.SYMMETRIC).member() for n in (1, 2))
    with redis_at(public, tmp_path) as url:
        discovery = {"enabled": True, "address": url}
        async with (
            relay_at(public, key, discovery=discovery) as relay,
            node_at(theirs, key, discovery=discovery) as node,
            echo_at(theirs) as port,
        ):
            await node.is_behind(1)
            async with client_of(ours, key, [], discovery=discovery) as client:
                await client.reaches(node.id)
                await client.echoed("127.0.0.1", port)
            assert await relay.reserved() == {node.id}


@contextlib.contextmanager
def redis_at(place: Namespace, folder: Path) -> Iterator[str]:
    """A Redis that everybody in the box can use; its address."""
    options = ["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", folder]
    command = place.command(redis_server.program(), *map(str, options))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("Ready to accept connections" in line for line in process.stdout)
            yield f"redis://{place.address}:6379"
        finally:
            process.kill()
