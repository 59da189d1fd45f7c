"""What is asked of peers for whoever wants to know, how often, and what of it stays."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from bethrou.assembly import diagnosis
from bethrou.assembly.diagnosis import Diagnosis
from bethrou.events import HolePunched, HolePunchFailed, RelayLost, RelayReserved
from bethrou.net.autonat import Autonat
from bethrou.ops.event_feed import EventFeed
from bethrou.snapshots import AddressReachability
from live.waiting import until
from net.hosts import Member, identity

RELAY = identity("relay").peer_id


class CountedAutonat(Autonat):
    """Counts its checks; each lasts until it is let go."""

    def __init__(self, member: Member) -> None:
        super().__init__(member, bytes, random.Random(1))
        self.checks = 0
        self.may_end = asyncio.Event()

    async def check(self) -> tuple[AddressReachability, ...]:
        self.checks += 1
        await self.may_end.wait()
        return await super().check()


class Stand:
    """One member, its diagnosis, and the feed of its events."""

    def __init__(self) -> None:
        self.member = Member("me")
        self.autonat = CountedAutonat(self.member)
        self.feed = EventFeed(lambda event: None)
        self.diagnosis = Diagnosis(self.member, self.autonat, None, self.feed.subscribe, time.time_ns)

    async def close(self) -> None:
        await self.diagnosis.close()
        await self.autonat.close()
        await self.member.close()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand = Stand()
    yield stand
    await stand.close()


async def test_whoever_asks_meanwhile_waits_for_the_same_check(stand: Stand) -> None:
    asking = [asyncio.ensure_future(stand.diagnosis.look()) for _ in range(50)]
    await until(lambda: stand.autonat.checks)
    gone = asking.pop()
    gone.cancel()
    stand.autonat.may_end.set()
    answers = await asyncio.gather(*asking)
    assert all(answer.checked is not None for answer in answers)
    with pytest.raises(asyncio.CancelledError):
        await gone
    await stand.diagnosis.look()
    assert stand.autonat.checks == 1


async def test_peers_are_asked_again_after_a_pause(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.autonat.may_end.set()
    await stand.diagnosis.look()
    monkeypatch.setattr(diagnosis, "PAUSE", 0.0)
    await stand.diagnosis.look()
    assert stand.autonat.checks == 2


async def test_closing_ends_a_check(stand: Stand) -> None:
    asking = asyncio.ensure_future(stand.diagnosis.look())
    await until(lambda: stand.autonat.checks)
    await stand.diagnosis.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_came_of_hole_punching_is_remembered(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "MAX_REMEMBERED", 2)
    stand.autonat.may_end.set()
    for event in (
        HolePunchFailed("a", "", 1, "refused", 1.0),
        HolePunched("b", "/ip4/192.0.2.1/tcp/1", 2, 1.0),
        HolePunched("c", "/ip4/192.0.2.2/tcp/1", 1, 1.0),
        HolePunchFailed("b", "", 3, "too late", 1.0),
    ):
        stand.feed(event)
    found = (await stand.diagnosis.look()).punches
    assert [(each.peer, each.ok, each.rounds, each.reason) for each in found] == [
        ("c", True, 1, ""),
        ("b", False, 3, "too late"),
    ]


async def test_relays(stand: Stand) -> None:
    wanted = (RELAY, stand.member.peer_id)
    (waiting,) = stand.diagnosis.relays(wanted)
    assert (waiting.id, waiting.reserved, waiting.reason, waiting.retry_in) == (str(RELAY), False, "", None)
    stand.feed(RelayLost(str(RELAY), "Connection refused", 30.0))
    (lost,) = stand.diagnosis.relays(wanted)
    assert lost.reason == "Connection refused"
    assert lost.retry_in is not None
    assert 0 < lost.retry_in <= 30
    way = stand.member.address.with_peer(RELAY).circuit()
    stand.member.reachable_through(RELAY, [way])
    stand.feed(RelayReserved(str(RELAY), (str(way),)))
    (reserved,) = stand.diagnosis.relays()
    assert (reserved.reserved, reserved.reason, reserved.addresses) == (True, "", (str(way),))
