"""The strategy `fastest` finds the exit with the shortest round trip, and stays with it."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from bethrou.proxy.candidates import ANY_EXIT, Candidate
from bethrou.proxy.favourite import FASTER_FOR, SETTLING
from bethrou.proxy.health import State
from bethrou.proxy.pace import Pace
from bethrou.proxy.plans import Wanted
from proxy.exits import Requests, but

HOURS = 4
PING = 5  # seconds between two pings, as links do


def apart(*milliseconds: float) -> list[Candidate]:
    """Exits with these round trips."""
    return [Candidate(f"exit {place}", trip / 1000) for place, trip in enumerate(milliseconds)]


def settled(*milliseconds: float) -> Requests:
    """Requests that have a favourite since long ago."""
    requests = Requests("fastest")
    requests.now = 1000.0
    requests.send(apart(*milliseconds))
    requests.now += 600.0
    return requests


def switches(choices: list[str]) -> int:
    return sum(one != other for one, other in pairwise(choices))


@pytest.mark.parametrize("seed", range(5))
def test_two_exits_that_are_about_as_far_are_not_taken_in_turns(seed: int) -> None:
    """Round trips of 37 to 43 ms that cross every 7.5 minutes, queues of 10 ms on average, one ping in ten late."""
    rng = random.Random(seed)
    requests = Requests("fastest")
    paces = {peer: Pace().restarted(0.0, 0.04) for peer in ("exit 0", "exit 1")}
    chosen, naive = [], []
    for second in range(1, HOURS * 3600):
        requests.now = float(second)
        if second % PING == 0:
            wave = 0.003 * math.sin(second / 900 * 2 * math.pi)
            for peer, sign in (("exit 0", 1), ("exit 1", -1)):
                late = rng.uniform(0.05, 0.3) if rng.random() < 0.1 else 0.0
                trip = 0.04 + sign * wave + rng.expovariate(1 / 0.01) + late
                paces[peer] = paces[peer].measured(requests.now, trip)
        among = [Candidate(peer, pace.round_trip) for peer, pace in paces.items()]
        chosen.append(requests.send(among))
        naive.append(min(among, key=lambda candidate: candidate.round_trip).peer)
    assert switches(naive) >= 60 * HOURS
    assert switches(chosen) < 2 * HOURS


def test_the_first_one_is_the_fastest() -> None:
    assert Requests("fastest").send(apart(50, 20, 30)) == "exit 1"


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ((40, 50), (40, 31), False),  # 9 ms
        ((40, 50), (40, 29), True),
        ((100, 150), (100, 81), False),  # 19 %
        ((100, 150), (100, 79), True),
        ((100, 150), (300, 150), True),
    ],
)
def test_another_one_must_be_faster_by_enough(
    before: tuple[float, float], after: tuple[float, float], moves: bool
) -> None:
    requests = settled(*before)
    for _ in range(100):
        assert requests.send(apart(*before)) == "exit 0"
        requests.now += 1.0
    requests.send(apart(*after))
    requests.now += FASTER_FOR
    assert requests.send(apart(*after)) == ("exit 1" if moves else "exit 0")


def test_and_for_long_enough_without_a_break() -> None:
    requests = settled(40, 50)
    assert requests.send(apart(40, 20)) == "exit 0"
    requests.now += FASTER_FOR - 0.1
    assert requests.send(apart(40, 20)) == "exit 0"
    assert requests.send(apart(40, 35)) == "exit 0"
    requests.now += 0.2
    assert requests.send(apart(40, 20)) == "exit 0"
    requests.now += FASTER_FOR
    assert requests.send(apart(40, 20)) == "exit 1"


def test_it_may_be_beaten_by_several_in_turn() -> None:
    requests = settled(40, 50, 60)
    for second in range(int(FASTER_FOR)):
        assert requests.send(apart(40, 20, 25) if second % 2 else apart(40, 25, 20)) == "exit 0"
        requests.now += 1.0
    assert requests.send(apart(40, 25, 20)) == "exit 2"


@pytest.mark.parametrize("state", [State.SLOW, State.SUSPECT, None])
def test_a_favourite_that_is_not_healthy_is_left_at_once(state: State | None) -> None:
    requests = settled(20, 40, 60)
    among = apart(20, 40, 60)
    assert requests.send(among[1:] if state is None else but(among, 0, state=state)) == "exit 1"


def test_one_that_is_back_soon_and_much_faster_is_used_at_once() -> None:
    requests = settled(20, 40)
    assert requests.send(apart(20, 40)[1:]) == "exit 1"
    requests.now += 0.5
    assert requests.send(apart(20, 40)) == "exit 0"


def test_one_that_is_back_later_has_to_prove_itself() -> None:
    requests = settled(20, 40)
    assert requests.send(apart(20, 40)[1:]) == "exit 1"
    requests.now += SETTLING
    assert requests.send(apart(20, 40)) == "exit 1"
    requests.now += FASTER_FOR
    assert requests.send(apart(20, 40)) == "exit 0"


def test_when_a_client_starts_the_first_exit_up_is_not_kept_for_that() -> None:
    requests = Requests("fastest")
    assert requests.send(apart(90, 40, 20)[:1]) == "exit 0"
    requests.now += 0.2
    assert requests.send(apart(90, 40, 20)[:2]) == "exit 1"
    requests.now += 0.2
    assert requests.send(apart(90, 40, 20)) == "exit 2"


def test_an_exit_on_probation_is_tried_where_it_would_be_the_better_one() -> None:
    requests = settled(40, 60)
    better = [*apart(40, 60), Candidate("exit 2", 0.02, State.SUSPECT, trial=True)]
    worse = [*apart(40, 60), Candidate("exit 2", 0.05, State.SUSPECT, trial=True)]
    assert requests.send(better) == "exit 2"
    assert requests.send(worse) == "exit 0"
    favourite = requests.memory.favourite(ANY_EXIT)
    assert favourite is not None
    assert favourite.peer == "exit 0"


def test_an_exit_on_probation_goes_before_a_slow_favourite() -> None:
    among = [Candidate("exit 0", 0.02, State.SLOW), Candidate("exit 1", 0.09, State.SUSPECT, trial=True)]
    assert settled(20, 90).send(among) == "exit 1"


def test_each_scope_has_a_favourite_of_its_own() -> None:
    requests = settled(20, 40, 60)
    eu = Wanted("h", scope=ANY_EXIT.narrowed(None, "eu"))
    assert requests.send(apart(20, 40, 60)[1:], eu) == "exit 1"
    for _ in range(10):
        requests.now += 10.0
        assert requests.send(apart(20, 40, 29)[1:], eu) == "exit 1" or requests.now > 1600 + FASTER_FOR
        assert requests.send(apart(20, 40, 29)) == "exit 0"
    assert requests.send(apart(20, 40, 29)[1:], eu) == "exit 2"


def test_a_plan_that_grew_old_does_not_bring_its_favourite_back() -> None:
    requests = settled(20, 40)
    old = requests.plan(apart(20, 40))
    requests.memory.asked(old, "exit 0")
    assert requests.send(but(apart(20, 40), 0, state=State.SUSPECT)) == "exit 1"
    requests.memory.asked(old, "exit 1")  # its second attempt
    favourite = requests.memory.favourite(ANY_EXIT)
    assert favourite is not None
    assert favourite.peer == "exit 1"


def test_it_says_how_the_favourite_stands() -> None:
    requests = settled(40, 60)
    requests.send(apart(40, 20))
    requests.now += 7.0
    planned = requests.plan(apart(40, 20))
    assert [planned.describe(candidate) for candidate in planned.ranked] == [
        "round trip 40.0 ms, the favourite, but beaten for 7 s",
        "round trip 20.0 ms",
    ]
