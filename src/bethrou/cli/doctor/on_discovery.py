"""How exits are found: Redis, members, and the clock by which what they say is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from bethrou.cli.doctor.facts import Facts
from bethrou.cli.doctor.finding import Finding, ok, problem, unknown, warning
from bethrou.cli.doctor.words import apart, peer_name
from bethrou.quantities import counted, delay
from bethrou.snapshots import SourceSnapshot

CLOSE = 60.0
"""Seconds by which clocks may differ before it is said: logs of two members cannot be compared then."""

REFUSED = 1800.0
"""Seconds by which they may differ before what nodes say of themselves is refused as expired: a node signs that anew
when half of its hour is over (discovery/own_record.py)."""


def redis(facts: Facts) -> Iterator[Finding]:
    """Whether Redis can be used from here."""
    fact = facts.redis
    if fact is None:
        return
    if fact.error:
        fix = (
            "see that it runs and that discovery.address, user and pass are right; links that are there go on"
        )
        yield problem("redis", fact.error, fix, fact.where)
    else:
        yield ok("redis", f"{fact.where} lets us in, within {delay(fact.seconds)}", fact.where)


def sources(facts: Facts) -> Iterator[Finding]:
    """How the sources of exits do, as the running program sees them."""
    if facts.status is None:
        return
    for source in facts.status.sources:
        yield _source(source)


def _source(source: SourceSnapshot) -> Finding:
    if not source.ok:
        fix = "nothing, if other sources do; else see what it says"
        return warning("discovery", f"{source.name} is of no use now: {source.detail}", fix, source.name)
    return ok("discovery", f"{source.name}: {counted(source.known, 'exit')}, {source.detail}", source.name)


def clock(facts: Facts) -> Iterator[Finding]:
    """Whether this machine's clock is that of others: what members sign holds for an hour by their clocks."""
    offsets = (
        {peer_name(each.peer): each.offset for each in facts.reach.clocks} if facts.reach is not None else {}
    )
    if facts.redis is not None and facts.redis.clock_offset is not None:
        offsets["Redis"] = facts.redis.clock_offset
    if not offsets and facts.status is None:
        return
    if not offsets:
        yield unknown("clock", "nobody who tells the time could be asked: nodes of this program, or Redis")
        return
    near = {who: offset for who, offset in offsets.items() if abs(offset) <= CLOSE}
    if near:
        yield _agreed(near, {who: offset for who, offset in offsets.items() if who not in near})
        return
    offset, whose = median(offsets.values()), ", ".join(sorted(offsets))
    text = f"this machine's clock is {apart(offset)} {_side(offset)} that of {whose}"
    fix = "set it by NTP (timedatectl set-ntp true)" + (
        "" if len(offsets) > 1 else "; or theirs, if that is the wrong one: one alone does not tell"
    )
    if abs(offset) < REFUSED:
        yield warning("clock", text, fix)
    else:
        yield problem("clock", f"{text}: announcements of nodes are refused as expired, here or there", fix)


def _agreed(near: Mapping[str, float], far: Mapping[str, float]) -> Finding:
    """Ours is that of some others, so it is right; those that are `far` are not."""
    text = f"within {apart(max(1.0, *map(abs, near.values())))} of {', '.join(sorted(near))}"
    if not far:
        return ok("clock", text)
    others = ", ".join(f"{who} ({apart(offset)} {_side(-offset)})" for who, offset in sorted(far.items()))
    return warning(
        "clock", f"{text}, but not of {others}", "set the clocks there by NTP (timedatectl set-ntp true)"
    )


def _side(offset: float) -> str:
    """Where a clock is whose difference to another one is `offset`."""
    return "behind" if offset > 0 else "before"
