"""Which exits a client uses of those that its sources tell of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from bethrou.assembly import discovery_timer
from bethrou.assembly.client_discovery import ClientDiscovery
from bethrou.config import ClientConfig
from bethrou.discovery.source import Sighting
from bethrou.events import Event, SourceChanged
from bethrou.proxy.pool import Pool
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.multiaddr import Multiaddr
from live.waiting import until
from net.hosts import KEY, Member, identity

NOWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
NAMED, FOUND = identity("named").peer_id, identity("found").peer_id


def config(**discovery: object) -> ClientConfig:
    nodes = [{"id": str(NAMED), "addrs": [str(NOWHERE)]}]
    return ClientConfig.model_validate({"nodes": nodes, "discovery": discovery})


class Scene:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.host = Member("client")
        self.events: list[Event] = []
        rng = random.Random(1)
        self.pool = Pool(loop, self.host, self.events.append, rng)
        self.discovery = ClientDiscovery(
            loop, self.host, KEY, self.pool, rng, self.events.append, None, lambda text: None
        )

    @property
    def used(self) -> set[str]:
        return set(self.pool.exits)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.discovery.close()
    await made.host.close()


async def test_without_discovery_only_what_the_configuration_names_is_used(scene: Scene) -> None:
    scene.discovery.start(config(members=True))
    scene.discovery.directory.seen(Sighting("members", FOUND, (NOWHERE,)))
    assert scene.used == {str(NAMED), str(FOUND)}
    scene.discovery.configure(config(members=False))
    await until(lambda: scene.used == {str(NAMED)})


async def test_a_source_is_told_of_when_it_is_ill_for_a_while_and_when_it_is_well_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery_timer, "LOOK", 0.01)
    ill = [False]

    def snapshots() -> list[SourceSnapshot]:
        detail = "nobody there" if ill[0] else "listening"
        return [SourceSnapshot("redis", not ill[0], detail, 0, 0, 0, None)]

    told: list[Event] = []
    loop = asyncio.get_running_loop()
    timer = discovery_timer.DiscoveryTimer(loop, scene.discovery.directory, snapshots, told.append)
    ill[0] = True
    await until(lambda: told == [SourceChanged("redis", False, "nobody there")])
    ill[0] = False
    await until(lambda: told[1:] == [SourceChanged("redis", True, "listening")])
    timer.close()
