"""Who is asked whether a node can be reached, and what becomes of the links that were made for that."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence

import pytest

from bethrou.events import Event, ReachabilityChanged, RelayReserved
from bethrou.net import auto_relay, circuits, reachability, relay_keeper
from bethrou.net.auto_relay import AutoRelay
from bethrou.net.autonat import Autonat
from bethrou.net.autonat_server import AutonatServer
from bethrou.net.reachability import Finding
from bethrou.net.relay_choice import Candidate
from bethrou.net.relay_keeper import RelayKeeper
from bethrou.net.relay_limits import RelayLimits
from bethrou.wire.multiaddr import Multiaddr
from live.waiting import until

from .hosts import Member
from .leftovers import nothing_left
from .relays import Relay

NOWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
"""Where nobody gets in: it refuses connections."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_relay, "FIRST_CHECK", 0.0)
    monkeypatch.setattr(auto_relay, "PATIENCE", (0.2, 0.3))
    monkeypatch.setattr(auto_relay, "LOOK", 0.1)
    monkeypatch.setattr(auto_relay, "MIN_LOOK", 0.01)
    monkeypatch.setattr(auto_relay, "DIAL_AGAIN", 0.05)
    monkeypatch.setattr(reachability, "CONFIRM", 0.05)
    monkeypatch.setattr(reachability, "RETRY", 0.05)
    monkeypatch.setattr(reachability, "SETTLE", 0.05)
    monkeypatch.setattr(relay_keeper, "REDIAL", (0.02, 0.05))
    monkeypatch.setattr(circuits, "IDLE", 0.1)


class AskingRelay(Relay):
    """A relay that dials peers back, wherever they say that they are."""

    def __init__(self, name: str, limits: RelayLimits | None = None) -> None:
        super().__init__(name, limits)
        self.server = AutonatServer(self, random.Random(name), time.perf_counter, lambda address: True)

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.peer_id, (self.address,))

    async def close(self) -> None:
        await self.server.close()
        await super().close()


class Home(Member):
    """A member that takes its own address for a public one, and may be seen at another, `at`, all the same."""

    def __init__(self, candidates: Sequence[Candidate], at: Multiaddr | None = None) -> None:
        super().__init__("home")
        self.events: list[Event] = []
        self.candidates = list(candidates)
        self.public = at or self.address
        if at is not None:
            self.mapped.note(self.peer_id, at)
        rng = random.Random(1)
        self.keeper = RelayKeeper(self.loop, self, [], self.events.append, rng, time.time)
        self.keeper.start()
        self.autonat = Autonat(self, os.urandom, rng, lambda address: address == self.public)
        self.auto = AutoRelay(
            self, self.autonat, self.keeper, lambda: self.candidates, self.events.append, rng
        )
        self.keeper.on_change = self.auto.relays_changed

    @property
    def relays(self) -> set[str]:
        relays = [each.relay for each in self.listen_addresses if each.is_circuit]
        return {str(each.peer_id) for each in relays if each is not None}

    @property
    def told(self) -> list[bool]:
        return [event.reachable for event in self.events if isinstance(event, ReachabilityChanged)]

    async def close(self) -> None:
        await self.auto.close()
        await self.keeper.close()
        await self.autonat.close()
        await super().close()


async def test_a_relay_is_dialled_to_be_asked_and_let_go() -> None:
    async with nothing_left():
        relay = AskingRelay("relay")
        home = Home([relay.candidate])
        await until(lambda: home.auto.standing.believed is Finding.REACHABLE, what=lambda: home.events)
        assert home.told == [True]
        assert home.relays == set()
        await until(lambda: relay.peer_id not in home.links)
        assert not any(isinstance(event, RelayReserved) for event in home.events)
        for host in (home, relay):
            await host.close()


async def test_a_relay_that_was_asked_is_used_on_the_same_link() -> None:
    async with nothing_left():
        relay = AskingRelay("relay")
        home = Home([relay.candidate], at=NOWHERE)
        await until(lambda: home.relays == {str(relay.peer_id)}, what=lambda: home.events)
        assert home.told == [False]
        assert len(home.links[relay.peer_id]) == 1
        for host in (home, relay):
            await host.close()


async def test_whoever_answers_no_questions_is_not_kept() -> None:
    async with nothing_left():
        mute, relay = Relay("mute"), AskingRelay("relay")
        home = Home([Candidate(mute.peer_id, (mute.address,))], at=NOWHERE)
        await until(lambda: any(link.peer_id == home.peer_id for link in mute.happenings.up))
        await until(lambda: any(link.peer_id == home.peer_id for link, _ in mute.happenings.down))
        assert home.auto.standing.believed is Finding.UNKNOWN
        home.candidates.append(relay.candidate)
        home.auto.somebody_came()
        await until(lambda: len(home.relays) == 2, what=lambda: home.events)
        for host in (home, mute, relay):
            await host.close()


async def test_relays_that_cannot_be_reached_or_have_no_place_are_replaced() -> None:
    async with nothing_left():
        full, gone, good, better = (
            AskingRelay("full", RelayLimits(reservations=1)),
            AskingRelay("gone"),
            AskingRelay("good"),
            AskingRelay("better"),
        )
        await gone.close()
        taken = Member("taken")
        keeper = RelayKeeper(
            taken.loop, taken, [full.full_address], lambda event: None, random.Random(1), time.time
        )
        keeper.start()
        await until(lambda: full.service.reservations)
        home = Home([full.candidate, gone.candidate], at=NOWHERE)
        await until(lambda: home.told == [False], what=lambda: home.events)
        assert home.relays == set()
        home.candidates += [good.candidate, better.candidate]
        home.auto.somebody_came()
        wanted = {str(each.peer_id) for each in (good, better)}
        await until(lambda: home.relays == wanted, what=lambda: home.events)
        await until(lambda: set(map(str, home.keeper.wanted)) == wanted)
        await keeper.close()
        for host in (home, taken, full, good, better):
            await host.close()


async def test_a_relay_of_which_nobody_tells_any_more_is_kept_while_it_serves() -> None:
    async with nothing_left():
        relay = AskingRelay("relay")
        home = Home([relay.candidate], at=NOWHERE)
        await until(lambda: home.relays)
        home.candidates.clear()
        home.auto.somebody_came()
        looks = 0

        def count() -> int:
            nonlocal looks
            looks += 1
            return looks

        await until(lambda: count() > 30)
        assert home.relays == {str(relay.peer_id)}
        for host in (home, relay):
            await host.close()


async def test_what_was_believed_changes_with_the_network() -> None:
    async with nothing_left():
        relay = AskingRelay("relay")
        home = Home([relay.candidate], at=NOWHERE)
        await until(lambda: home.relays)
        home.public = home.address  # somebody has opened the port
        home.auto.network_changed()
        await until(lambda: home.told == [False, True], what=lambda: home.events)
        assert home.relays == set()
        await until(lambda: relay.peer_id not in home.links)
        for host in (home, relay):
            await host.close()
