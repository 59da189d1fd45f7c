"""What peers' clocks say, over real links: the oracle is the offset that the peer was given."""

from __future__ import annotations

import time
from dataclasses import replace

from bethrou.net.clock_check import MAX_PEERS, clock_offsets
from bethrou.net.link import Link
from bethrou.wire.identify import Identify

from .hosts import Member

SECOND = 1_000_000_000


class Fast(Member):
    """A member whose clock is 90 s before everybody's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._config.time_ns = lambda: time.time_ns() + 90 * SECOND


class Old(Member):
    """A member of another kind, which numbers its records otherwise."""

    def statement(self, link: Link) -> Identify:
        return replace(super().statement(link), agent_version="other/1")


async def test_clocks_of_peers() -> None:
    me, fast, old = Member("me"), Fast("fast"), Old("old")
    try:
        for each in (fast, old):
            link = await me.dial(each.peer_id, [each.address])
            await me.statement_of(link)
        agent = me.links[fast.peer_id][0].statement
        assert agent is not None
        (found,) = await clock_offsets(me.links, agent.agent_version, time.time_ns)
        assert found.peer == str(fast.peer_id)
        assert abs(found.offset - 90) <= found.uncertainty + 0.001
        assert found.uncertainty < 5
        assert await clock_offsets(me.links, "nobody/", time.time_ns) == ()
    finally:
        for each in (me, fast, old):
            await each.close()


async def test_a_few_are_asked() -> None:
    me = Member("me")
    others = [Member(f"other {number}") for number in range(MAX_PEERS + 2)]
    try:
        for each in others:
            await me.statement_of(await me.dial(each.peer_id, [each.address]))
        found = await clock_offsets(me.links, "", time.time_ns)
        assert len(found) == MAX_PEERS
        assert all(abs(each.offset) <= each.uncertainty + 0.001 for each in found)
    finally:
        for each in (me, *others):
            await each.close()
