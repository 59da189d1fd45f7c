"""Whether others can reach us at all: what checks come to, and when the next one is due. Pure: time is passed in.

One check may be wrong: a peer was busy, the network had just changed. So a belief is changed by two in a row that say
the same, and one from which nothing follows changes nothing. As long as checks agree with what is believed, they are
rare: each of them has peers dial us.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from bethrou.net.interfaces import Address
from bethrou.snapshots import AddressReachability

# Implementation constants, in seconds; chance spreads each of them by 20 % to either side.
CONFIRMATIONS = 2
"""Checks in a row that must say the same before it is believed."""

CONFIRM = 5.0
"""From a check that says something new to the next."""

RETRY = 30.0
"""From a check from which nothing follows to the next; doubled each time, up to `REST`."""

REST = 15 * 60.0
"""From a check that says what is believed to the next."""

SETTLE = 2.0
"""From great news to the check."""

SPREAD = (5.0, 30.0)
"""From small news to the check, by chance in between: nodes that lost the same peer do not all ask the next at once."""

APART = 60.0
"""Between two checks that small news may bring about: behind some NATs each connection is seen at another port."""


class Finding(Enum):
    """What a check says, and what is believed."""

    UNKNOWN = "unknown"
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is believed of our reachability."""

    due: float
    """When the next check is."""
    believed: Finding = Finding.UNKNOWN
    suspected: Finding = Finding.UNKNOWN
    """What the last checks say, where that is something else."""
    agreeing: int = 0
    """How many checks in a row have said what is suspected."""
    fruitless: int = 0
    """Checks in a row from which nothing followed."""
    checked: float | None = None
    """When the last check ended."""


def what_follows(
    found: Sequence[AddressReachability], seen_at: Collection[Address], own: Collection[Address]
) -> Finding:
    """What the verdicts on all our public addresses come to.

    One at which others get in is enough. Where we have no public address at all, but peers see us at one (`seen_at`)
    that is not ours (`own`), we are behind a NAT that lets nobody in. In a network without the Internet, nothing
    follows.
    """
    verdicts = {each.verdict for each in found}
    if "reachable" in verdicts:
        return Finding.REACHABLE
    behind_nat = not found and any(address.is_global and address not in own for address in seen_at)
    return Finding.UNREACHABLE if "unreachable" in verdicts or behind_nat else Finding.UNKNOWN


def after_check(standing: Standing, finding: Finding, now: float, rng: random.Random) -> Standing:
    """What is believed after a check that ended at `now`."""
    if finding is Finding.UNKNOWN:
        wait = min(REST, RETRY * 2.0 ** min(standing.fruitless, 16))
        return replace(standing, due=_later(now, wait, rng), fruitless=standing.fruitless + 1, checked=now)
    if finding is standing.believed:
        return Standing(_later(now, REST, rng), finding, checked=now)
    agreeing = standing.agreeing + 1 if finding is standing.suspected else 1
    if agreeing >= CONFIRMATIONS:
        return Standing(_later(now, REST, rng), finding, checked=now)
    return Standing(_later(now, CONFIRM, rng), standing.believed, finding, agreeing, checked=now)


def after_asking_nobody(standing: Standing, now: float, rng: random.Random) -> Standing:
    """There was nobody to ask."""
    return replace(standing, due=_later(now, RETRY, rng))


def after_news(standing: Standing, now: float, rng: random.Random, *, great: bool) -> Standing:
    """Something has changed: check soon. `great` are news after which the last check means nothing."""
    if great:
        soon = _later(now, SETTLE, rng)
    else:
        soon = max(now + rng.uniform(*SPREAD), (standing.checked or now - APART) + APART)
    return replace(standing, due=min(standing.due, soon), fruitless=0)


def _later(now: float, seconds: float, rng: random.Random) -> float:
    return now + seconds * rng.uniform(0.8, 1.2)
