"""Whom to dial next, among exits of which most may be dead."""

from __future__ import annotations

import random

from bethrou.proxy.exit import Exit, ExitAddress
from bethrou.proxy.roster import Roster
from net.hosts import identity


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
