"""Whom the roster gives out, against a plain list of what it was told."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bethrou.proxy.exit import DISCOVERED, Exit, ExitAddress
from bethrou.proxy.roster import MOST_VOID, Roster
from bethrou.wire.multiaddr import Multiaddr
from net.hosts import identity

NOWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")


def exit_called(name: str, preference: int = DISCOVERED, proven: bool = False) -> Exit:
    return Exit(ExitAddress(identity(name).peer_id, (NOWHERE,), preference=preference, proven=proven), 0.0)


NAMED, SECOND = exit_called("named", 0), exit_called("second", 1)
PROVEN, OTHER = exit_called("proven", proven=True), exit_called("other")
EXITS = [OTHER, PROVEN, SECOND, NAMED]


def rank(exit_: Exit) -> tuple[bool, int, bool]:
    """Its place among those that are due."""
    address = exit_.address
    return not address.preferred, address.preference, not address.proven


def test_the_configurations_order_then_what_worked_then_the_others() -> None:
    roster = Roster(random.Random(1))
    for exit_ in EXITS:
        roster.put(exit_, 1.0)
    assert roster.take(0.9) is None
    assert [roster.take(1.0) for _ in range(5)] == [NAMED, SECOND, PROVEN, OTHER, None]


def test_the_others_come_in_any_order() -> None:
    firsts = set()
    for seed in range(20):
        roster = Roster(random.Random(seed))
        for name in "abc":
            roster.put(exit_called(name), 0.0)
        taken = roster.take(0.0)
        assert taken is not None
        firsts.add(str(taken.peer))
    assert len(firsts) == 3


def test_what_is_said_of_one_exit_again_and_again_takes_no_more_room() -> None:
    roster = Roster(random.Random(1))
    for number in range(10_000):
        roster.put(OTHER, float(number))
        roster.next_due(float(number))
        assert len(roster._ready) + len(roster._later) <= 2 + MOST_VOID
    assert roster.take(10_000.0) is OTHER
    assert roster.take(10_000.0) is None


class AnyUse(RuleBasedStateMachine):
    """A roster of four exits beside a dictionary of when they are due."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster(random.Random(1))
        self.due: dict[Exit, float] = {}
        self.now = 0.0

    @rule(exit_=st.sampled_from(EXITS), delay=st.floats(0.0, 10.0), times=st.sampled_from([1, 1, 200]))
    def put(self, exit_: Exit, delay: float, times: int) -> None:
        for _ in range(times):
            self.roster.put(exit_, self.now + delay)
        self.due[exit_] = self.now + delay

    @rule(exit_=st.sampled_from(EXITS))
    def remove(self, exit_: Exit) -> None:
        self.roster.remove(exit_)
        self.due.pop(exit_, None)

    @rule(seconds=st.floats(0.0, 10.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(below=st.sampled_from([None, 0, 1, DISCOVERED]))
    def take(self, below: int | None) -> None:
        ready = [exit_ for exit_, due in self.due.items() if due <= self.now]
        best = min(ready, key=rank, default=None)
        if below is not None and best is not None and best.address.preference >= below:
            best = None
        assert self.roster.take(self.now, below) is best
        if best is not None:
            del self.due[best]

    @invariant()
    def knows_who_is_next(self) -> None:
        first = min(self.due.values(), default=None)
        assert self.roster.next_due(self.now) == (None if first is None else max(first, self.now))
        later = {exit_: due for exit_, due in self.due.items() if due > self.now}
        assert {exit_: due for due, exit_ in self.roster.waiting()} == later
        assert len(self.roster) == len(self.due)
        assert all((exit_ in self.roster) == (exit_ in self.due) for exit_ in EXITS)


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def exit_of(name: str, *, preference: int | None = None, proven: bool = False) -> Exit:
    peer = identity(name).peer_id
    if preference is not None:
        return Exit(ExitAddress(peer, (), name, preference=preference, proven=proven), 0.0)
    return Exit(ExitAddress(peer, (), name, proven=proven), 0.0)


def order(*exits: Exit) -> list[str]:
    """In which they are dialled when all are due."""
    roster = Roster(random.Random(1))
    for exit_ in exits:
        roster.put(exit_, 0.0)
    taken = []
    while (exit_ := roster.take(0.0)) is not None:
        taken.append(exit_.name)
    return taken


def failed(exit_: Exit, times: int) -> Exit:
    exit_.attempt = times
    return exit_


def worked(exit_: Exit) -> Exit:
    exit_.worked = True
    return exit_


def test_none_is_tried_twice_before_each_was_tried_once() -> None:
    fresh = [exit_of(f"fresh {n}") for n in range(20)]
    dead = [failed(exit_of(f"dead {n}"), 1) for n in range(20)]
    taken = order(*dead, *fresh)
    assert {name.split()[0] for name in taken[:20]} == {"fresh"}
    assert {name.split()[0] for name in taken[20:]} == {"dead"}


def test_what_worked_comes_before_what_was_never_tried_also_when_it_has_failed_once() -> None:
    lost = failed(worked(exit_of("lost")), 1)
    cached = exit_of("cached", proven=True)
    gone = failed(exit_of("gone", proven=True), 2)
    taken = order(gone, exit_of("fresh"), lost, cached)
    assert set(taken[:2]) == {"lost", "cached"}
    assert taken[2:] == ["fresh", "gone"]


def test_what_the_configuration_names_comes_first_in_its_order_however_often_it_failed() -> None:
    first, second = failed(exit_of("first", preference=0), 9), exit_of("second", preference=1)
    assert order(exit_of("fresh"), worked(exit_of("known")), second, first) == [
        "first",
        "second",
        "known",
        "fresh",
    ]
