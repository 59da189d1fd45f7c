"""Which exits fit what an application wishes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from bethrou.config import RoutingConfig
from bethrou.errors import Failure, RequestError
from bethrou.proxy.exit import ExitAddress
from bethrou.proxy.plans import Plan
from bethrou.proxy.pool import Pool
from bethrou.proxy.router import Router
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.proxy_request import ProxyRequest
from bethrou.wire.state_message import StateMessage
from bethrou.wire.user_name import UserName
from net.hosts import Member, identity

NOWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
REQUEST = ProxyRequest("x.example", 80)
A, B, C = (identity(name).peer_id for name in "abc")


class Scene:
    """A router among three exits that are up, as far as it can tell."""

    def __init__(self, host: Member) -> None:
        loop = asyncio.get_running_loop()
        rng = random.Random(1)
        self.pool = Pool(loop, host, print, rng)
        self.pool.know(ExitAddress(peer, (NOWHERE,)) for peer in (A, B, C))
        self.router = Router(loop, self.pool, RoutingConfig(), (), rng)
        for peer, exit_ in self.pool.exits.items():
            exit_.link = link()
            self.pool.linked[peer] = exit_
            exit_.health = exit_.health.link_up(loop.time(), 0.01)

    def says(self, peer: object, **state: Any) -> None:
        exit_ = self.pool.exits[str(peer)]
        said = StateMessage(**state)
        exit_.hears(said)
        exit_.health = exit_.health.says(0.0, said.draining)

    def planned(self, **wishes: str) -> Plan:
        name = UserName(**wishes)  # type: ignore[arg-type]
        return self.router.plan(REQUEST, name, self.router.rule(REQUEST, name))

    def fitting(self, **wishes: str) -> set[str]:
        return {candidate.peer for candidate in self.planned(**wishes).order}


def link() -> Any:
    return SimpleNamespace(alive=True, round_trip=0.01, statement=None)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    host = Member("client")
    yield Scene(host)
    await host.close()


async def test_without_a_wish_all_that_serve_fit(scene: Scene) -> None:
    assert scene.fitting() == {str(A), str(B), str(C)}
    scene.says(B, draining=True)
    assert scene.fitting() == {str(A), str(C)}


async def test_an_exit_can_be_wished_for_by_name_and_by_peer_id(scene: Scene) -> None:
    scene.says(A, name="alpha", tags=("eu",))
    scene.says(B, name="beta", tags=("eu", "fast"))
    assert scene.fitting(exit="beta") == {str(B)}
    assert scene.fitting(exit=str(C)) == {str(C)}
    assert scene.fitting(tag="eu") == {str(A), str(B)}
    assert scene.fitting(exit="alpha", tag="fast") == set()


async def test_a_wish_that_nothing_fits_is_refused_at_once(scene: Scene) -> None:
    with pytest.raises(RequestError) as caught:
        name = UserName(exit="gamma")
        await asyncio.wait_for(scene.router.route(REQUEST, name, scene.router.rule(REQUEST, name)), 1.0)
    assert caught.value.failure is Failure.NO_EXIT
