"""Whom to dial next."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bethrou.proxy.exit import DISCOVERED, Exit, ExitAddress
from bethrou.proxy.roster import Roster
from net.hosts import identity

PEERS = [identity(f"exit {number}").peer_id for number in range(12)]


def exit_(number: int, preference: int = DISCOVERED, proven: bool = False) -> Exit:
    return Exit(ExitAddress(PEERS[number], (), preference=preference, proven=proven), 0.0)


def drained(roster: Roster, now: float) -> list[Exit]:
    taken = []
    while (one := roster.take(now)) is not None:
        taken.append(one)
    return taken


def test_named_ones_in_their_order_then_proven_ones_then_the_others() -> None:
    named = [exit_(0, 0), exit_(1, 1), exit_(2, 2)]
    proven, other = exit_(3, proven=True), exit_(4)
    roster = Roster(random.Random(1))
    for one in (other, named[2], proven, named[0], named[1]):
        roster.put(one, 0.0)
    assert drained(roster, 0.0) == [*named, proven, other]
    assert len(roster) == 0


def test_the_others_come_by_chance() -> None:
    firsts = Counter[int]()
    others = [exit_(number) for number in range(4)]
    for seed in range(400):
        roster = Roster(random.Random(seed))
        for other in others:
            roster.put(other, 0.0)
        first = roster.take(0.0)
        assert first is not None
        firsts[others.index(first)] += 1
    assert len(firsts) == 4
    assert min(firsts.values()) > 60


def test_none_before_it_is_due() -> None:
    roster, late, soon = Roster(random.Random(1)), exit_(0, 0), exit_(1, 1)
    roster.put(late, 5.0)
    roster.put(soon, 2.0)
    assert roster.take(1.0) is None
    assert roster.next_due(1.0) == 2.0
    assert roster.take(2.0) is soon
    assert roster.next_due(2.0) == 5.0
    assert roster.waiting() == [(5.0, late)]


def test_what_is_said_last_counts() -> None:
    roster, one = Roster(random.Random(1)), exit_(0)
    roster.put(one, 1.0)
    roster.put(one, 9.0)
    assert roster.take(5.0) is None
    roster.put(one, 3.0)
    assert drained(roster, 9.0) == [one]
    roster.put(one, 9.0)
    roster.remove(one)
    assert roster.next_due(9.0) is None
    assert roster.take(9.0) is None


def test_only_one_with_a_better_place_than_that() -> None:
    roster, named, other = Roster(random.Random(1)), exit_(0, 3), exit_(1)
    roster.put(named, 0.0)
    roster.put(other, 0.0)
    assert roster.take(0.0, below=3) is None
    assert roster.take(0.0, below=4) is named
    assert roster.take(0.0, below=DISCOVERED) is None
    assert roster.take(0.0) is other


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from(["put", "remove", "take"]), st.floats(0, 10)),
        max_size=60,
    )
)
def test_each_is_there_once_or_not_at_all(steps: list[tuple[int, str, float]]) -> None:
    roster, exits = Roster(random.Random(1)), [exit_(number) for number in range(12)]
    due: dict[Exit, float] = {}
    now = 0.0
    for number, step, time in steps:
        if step == "put":
            roster.put(exits[number], now + time)
            due[exits[number]] = now + time
        elif step == "remove":
            roster.remove(exits[number])
            due.pop(exits[number], None)
        else:
            now += time
            taken = roster.take(now)
            if taken is None:
                assert all(when > now for when in due.values())
            else:
                assert due.pop(taken) <= now
        assert len(roster) == len(due)
        assert all((one in roster) == (one in due) for one in exits)
