"""How far this machine's clock is from those of peers, by the time in the records that they sign.

A node of ours signs its peer record anew for whoever asks (identify), and the record's number is the time in Unix
nanoseconds at that moment. Other programs keep a record for long or number it otherwise: they tell no time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from bethrou.errors import BethrouError, DecodeError
from bethrou.net import identify
from bethrou.net.link import Link
from bethrou.snapshots import ClockSnapshot
from bethrou.wire.identify import Identify
from bethrou.wire.peer_id import PeerId
from bethrou.wire.peer_record import PeerRecord

MAX_PEERS = 3
"""Peers that are asked: two that agree are enough."""

_SECOND = 1e9


async def clock_offsets(
    links: Mapping[PeerId, Sequence[Link]], agent: str, time_ns: Callable[[], int]
) -> tuple[ClockSnapshot, ...]:
    """Ask the nearest peers whose agent version begins with `agent` and that sign records for the time."""
    able = [next((link for link in several if _tells_time(link, agent)), None) for several in links.values()]
    nearest = sorted((link for link in able if link is not None), key=lambda link: link.round_trip)
    found = await asyncio.gather(*(_ask(link, time_ns) for link in nearest[:MAX_PEERS]))
    return tuple(each for each in found if each is not None)


def _tells_time(link: Link, agent: str) -> bool:
    said = link.statement
    return said is not None and said.agent_version.startswith(agent) and said.signed_peer_record is not None


async def _ask(link: Link, time_ns: Callable[[], int]) -> ClockSnapshot | None:
    before = time_ns()
    try:
        statement = await identify.ask(link)
    except BethrouError:
        return None  # the link is gone
    after = time_ns()
    theirs = _time_in(statement, link.peer_id)
    if theirs is None:
        return None
    return ClockSnapshot(
        peer=str(link.peer_id),
        offset=(theirs - (before + after) / 2) / _SECOND,
        uncertainty=max(0.0, (after - before) / 2 / _SECOND),
    )


def _time_in(statement: Identify | None, peer: PeerId) -> int | None:
    if statement is None or statement.signed_peer_record is None:
        return None
    try:
        record = PeerRecord.open(statement.signed_peer_record)
    except DecodeError:
        return None
    return record.seq if record.peer_id == peer else None
