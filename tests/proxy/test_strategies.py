"""Which exit each strategy asks, how fair it is, and that it does not flap."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.config import StickyBy, Strategy
from bethrou.proxy.candidates import Candidate
from bethrou.proxy.health import State
from bethrou.proxy.plans import MAX_ATTEMPTS, Memory, Wanted
from bethrou.proxy.strategies import HEAVIEST, STABLE, STRATEGIES, plan
from bethrou.snapshots import LoadSnapshot
from proxy.exits import ANYTHING, Requests, but, exits, peers

REQUESTS = 10_000
IDLE = LoadSnapshot(0, 0.0, None)
FULL = LoadSnapshot(1000, 1.0, 1000)

candidates = st.lists(
    st.builds(
        Candidate,
        peer=st.text("abcdef", min_size=1, max_size=3),
        round_trip=st.floats(0.0, 3.0),
        state=st.sampled_from([State.HEALTHY, State.SLOW, State.SUSPECT]),
        trial=st.booleans(),
        preference=st.integers(0, 4),
        load=st.none()
        | st.builds(LoadSnapshot, st.integers(0, 99), st.floats(0, 1), st.none() | st.integers(0, 9)),
        streams=st.integers(0, 50),
        stable_for=st.floats(0.0, 100.0),
    ).filter(lambda candidate: candidate.state is State.SUSPECT or not candidate.trial),
    max_size=8,
    unique_by=lambda candidate: candidate.peer,
)
strategy_names = st.sampled_from(sorted(STRATEGIES))


# -- what holds for all of them ---------------------------------------------------------------------------------------


def test_every_strategy_that_can_be_configured_is_there() -> None:
    assert {strategy.value for strategy in Strategy} | {"latency"} == set(STRATEGIES)


@given(strategy_names, candidates, st.none() | st.just("7"), st.integers(0, 99))
def test_nobody_is_dropped_and_suspects_are_last(
    strategy: str, among: list[Candidate], session: str | None, seed: int
) -> None:
    planned = plan(strategy, among, Wanted("h", session=session), Memory(), 5.0, random.Random(seed))
    assert sorted(peers(planned)) == sorted(candidate.peer for candidate in among)
    assert planned.order == planned.ranked[:MAX_ATTEMPTS]
    suspect = [candidate.rank == State.SUSPECT.rank for candidate in planned.ranked]
    assert suspect == sorted(suspect)
    if strategy != "sticky":
        ranks = [candidate.rank for candidate in planned.ranked]
        assert ranks == sorted(ranks)
    assert all(planned.describe(candidate) for candidate in planned.ranked)


@given(strategy_names, candidates, st.integers(0, 99))
def test_looking_changes_nothing(strategy: str, among: list[Candidate], seed: int) -> None:
    memory = Memory()
    first = plan(strategy, among, ANYTHING, memory, 5.0, random.Random(seed))
    for _ in range(3):
        plan(strategy, among, ANYTHING, memory, 50.0, random.Random(seed + 1))
    assert peers(plan(strategy, among, ANYTHING, memory, 5.0, random.Random(seed))) == peers(first)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_last_hope_is_tried(strategy: str) -> None:
    suspect = but(exits(1), 0, state=State.SUSPECT)
    assert Requests(strategy).send(suspect) == "exit 0"
    assert Requests(strategy).plan([]).order == ()


@pytest.mark.parametrize("strategy", ["random", "round-robin", "least-loaded"])
def test_a_suspect_on_probation_is_tried_in_its_place(strategy: str) -> None:
    requests = Requests(strategy)
    on_probation = but(exits(3), 1, state=State.SUSPECT, trial=True)
    assert "exit 1" in [requests.send(on_probation) for _ in range(20)]
    while_it_is_tried = but(exits(3), 1, state=State.SUSPECT)
    assert "exit 1" not in [requests.send(while_it_is_tried) for _ in range(20)]


def test_the_reason_names_the_state() -> None:
    among = but(but(exits(3), 1, state=State.SLOW), 2, state=State.SUSPECT)
    planned = Requests("random").plan(among)
    assert [planned.describe(candidate) for candidate in planned.ranked] == [
        "drawn by chance",
        "drawn by chance; slow, so asked after healthy ones",
        "drawn by chance; suspect, so asked last",
    ]
    trial = but(exits(1), 0, state=State.SUSPECT, trial=True)
    assert Requests("random").plan(trial).describe(trial[0]) == (
        "the only one that can be asked; on probation: one request tries it"
    )


# -- random and round-robin -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "round-robin"])
def test_each_of_five_exits_gets_a_fifth(strategy: str) -> None:
    requests = Requests(strategy, seed=2)  # chance strays by 2 %, and once in fifteen seeds by more than 5 %
    for _ in range(REQUESTS):
        requests.send(exits(5))
    assert all(abs(count - REQUESTS / 5) <= 0.05 * REQUESTS / 5 for count in requests.counts.values())
    assert len(requests.counts) == 5


def test_random_strays_from_a_fifth_as_chance_does_and_no_more() -> None:
    def strayed(seed: int) -> float:
        requests = Requests("random", seed)
        for _ in range(1000):
            requests.send(exits(5))
        return sum((requests.counts[exit_.peer] - 200) ** 2 / 200 for exit_ in exits(5))

    # chi-square with 4 degrees of freedom: 4 on average
    assert 3.0 < sum(strayed(seed) for seed in range(40)) / 40 < 5.0


def test_round_robin_stays_fair_when_some_requests_may_use_only_some_exits() -> None:
    requests = Requests("round-robin")
    for number in range(REQUESTS):
        among = exits(5)[4:] if number % 10 == 0 else exits(5)[:2] if number % 5 == 1 else exits(5)
        requests.send(among)
    assert all(abs(count - REQUESTS / 5) <= 0.05 * REQUESTS / 5 for count in requests.counts.values())


def test_round_robin_is_not_thrown_out_of_step_by_requests_that_alternate() -> None:
    requests, ours = Requests("round-robin"), Counter[str]()
    for _ in range(REQUESTS):
        requests.send(exits(2)[:1])  # for exit 0 alone, between any two that may use both
        ours[requests.send(exits(2))] += 1
    assert ours == {"exit 1": REQUESTS}  # which evens out what the others do


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_round_robin_stays_fair_while_exits_come_and_go(seed: int) -> None:
    rng, requests = random.Random(seed), Requests("round-robin")
    here = set(range(5))
    served: Counter[str] = Counter()
    due: Counter[str] = Counter()
    for _ in range(1000):
        if rng.random() < 0.05:
            here ^= {rng.randrange(5)}
            here = here or {0}
        present = [candidate for candidate in exits(5) if candidate.preference in here]
        served[requests.send(present)] += 1
        for candidate in present:
            due[candidate.peer] += 1 / len(present)  # type: ignore[assignment]
    for peer, fair in due.items():
        assert abs(served[peer] - fair) <= 0.05 * fair + 5


@given(st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=60))
def test_round_robin_asks_nobody_twice_while_another_waits(presences: list[set[int]]) -> None:
    requests, last_asked = Requests("round-robin"), {}
    for number, present in enumerate(presences):
        asked = requests.send([candidate for candidate in exits(5) if candidate.preference in present])
        waiting = [last_asked.get(f"exit {place}", -1) for place in present]
        assert last_asked.get(asked, -1) == min(waiting)
        last_asked[asked] = number


def test_round_robin_counts_every_attempt_as_a_turn() -> None:
    requests = Requests("round-robin")
    planned = requests.plan(exits(3))
    for candidate in planned.order[:2]:  # the first one failed
        requests.memory.asked(planned, candidate.peer)
    assert requests.send(exits(3)) == "exit 2"


def test_round_robin_says_when_an_exit_was_asked() -> None:
    requests = Requests("round-robin")
    requests.send(exits(2))
    requests.send(exits(2))
    planned = requests.plan(exits(3))
    assert [planned.describe(candidate) for candidate in planned.ranked] == [
        "never asked yet",
        "last asked 2 requests ago",
        "last asked 1 requests ago",
    ]


# -- ordered ----------------------------------------------------------------------------------------------------------


def test_ordered_asks_the_first_healthy_one() -> None:
    assert peers(Requests("ordered").plan(exits(3)[::-1])) == ["exit 0", "exit 1", "exit 2"]
    assert Requests("ordered").send(but(exits(3), 0, state=State.SLOW)) == "exit 1"


def test_ordered_goes_back_when_the_preferred_one_has_been_stable() -> None:
    requests = Requests("ordered")
    assert requests.send(but(exits(2), 0, stable_for=STABLE - 0.1)) == "exit 1"
    assert requests.send(but(exits(2), 0, stable_for=STABLE)) == "exit 0"


def test_ordered_starts_with_the_preferred_one_though_it_is_up_a_little_later() -> None:
    among = but(but(exits(2), 0, stable_for=0.1), 1, stable_for=5.0)
    assert Requests("ordered").send(among) == "exit 0"


def test_ordered_tries_a_preferred_one_that_is_on_probation() -> None:
    assert Requests("ordered").send(but(exits(2), 0, state=State.SUSPECT, trial=True, stable_for=0.0)) == (
        "exit 0"
    )
    assert Requests("ordered").send(but(exits(2), 1, state=State.SUSPECT, trial=True, stable_for=0.0)) == (
        "exit 0"
    )


@given(st.lists(st.floats(0, 200), min_size=1, max_size=5), st.floats(1.0, 20.0))
def test_ordered_changes_only_when_an_exit_becomes_stable(ages: list[float], step: float) -> None:
    """While nothing fails, later exits never take over from earlier ones."""
    requests, chosen = Requests("ordered"), []
    for number in range(60):
        among = [
            Candidate(f"exit {place}", preference=place, stable_for=age + number * step)
            for place, age in enumerate(ages)
        ]
        chosen.append(int(requests.send(among).removeprefix("exit ")))
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[-1] == 0


def test_ordered_says_what_it_waits_for() -> None:
    among = but(exits(2), 0, stable_for=12.0)
    planned = Requests("ordered").plan(among)
    assert [planned.describe(candidate) for candidate in planned.ranked] == [
        "place 2 in the order",
        "place 1 in the order, healthy for 12 s of the 30 s before it is used again",
    ]


# -- least-loaded -----------------------------------------------------------------------------------------------------


def shares(among: list[Candidate]) -> list[float]:
    requests = Requests("least-loaded")
    for _ in range(REQUESTS):
        requests.send(among)
    return [requests.counts[candidate.peer] / REQUESTS for candidate in among]


def test_the_less_an_exit_has_to_do_the_more_it_gets() -> None:
    loads = [IDLE, LoadSnapshot(0, 0.5, None), LoadSnapshot(70, 0.1, 100), None, FULL]
    among = [but([candidate], 0, load=load)[0] for candidate, load in zip(exits(5), loads, strict=True)]
    idle, half, at_its_limit, silent, full = shares(among)
    assert idle > half > at_its_limit > full
    assert silent == pytest.approx(half, rel=0.1)
    assert idle == pytest.approx(HEAVIEST * full, rel=0.1)


@pytest.mark.parametrize("others", [1, 4])
def test_an_exit_that_lies_does_not_get_everything(others: int) -> None:
    among = [but([candidate], 0, load=FULL)[0] for candidate in exits(1 + others)]
    liar = shares(but(among, 0, load=IDLE))[0]
    assert liar == pytest.approx(HEAVIEST / (HEAVIEST + others), rel=0.05)


def test_a_limit_of_nothing_is_full() -> None:
    among = but(but(exits(2), 0, load=LoadSnapshot(0, 0.0, 0)), 1, load=FULL)
    assert shares(among)[0] == pytest.approx(0.5, rel=0.05)


def test_our_own_live_requests_count_whatever_it_says() -> None:
    live: Counter[str] = Counter()
    requests = Requests("least-loaded")
    for _ in range(300):
        among = [but([candidate], 0, streams=live[candidate.peer])[0] for candidate in exits(2)]
        live[requests.send(but(but(among, 0, load=IDLE), 1, load=FULL))] += 1
    # the liar gets more, but each request that stays makes the next one less likely
    assert 1.5 < live["exit 0"] / live["exit 1"] < 2.5


def test_least_loaded_says_what_it_counts() -> None:
    among = but(exits(2), 0, load=LoadSnapshot(20, 0.4, 100), streams=3)
    planned = Requests("least-loaded").plan(among)
    assert planned.describe(among[0]) == "weight 0.70: says cpu 40 %, 20 requests of 100, 3 requests of ours"
    assert planned.describe(among[1]) == "weight 2.50: says nothing of its load, 0 requests of ours"


# -- sticky -----------------------------------------------------------------------------------------------------------


def homes(among: list[Candidate], keys: range | list[int] = range(5000)) -> dict[int, str]:
    requests = Requests("sticky")
    return {key: requests.send(among, Wanted(f"host{key}.example")) for key in keys}


def test_sticky_spreads_destinations_evenly() -> None:
    counts = Counter(homes(exits(5)).values())
    assert all(abs(count - 1000) <= 100 for count in counts.values())


@given(st.integers(2, 6), st.data())
def test_an_exit_that_goes_moves_only_what_was_on_it(number: int, data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, number - 1))
    keys = list(range(60))
    before = homes(exits(number), keys)
    after = homes([candidate for candidate in exits(number) if candidate.preference != gone], keys)
    assert all(after[key] == home for key, home in before.items() if home != f"exit {gone}")
    assert homes(exits(number), keys) == before


@pytest.mark.parametrize("name", ["Example.ORG", "example.org.", "example.org"])
def test_sticky_takes_names_as_dns_does(name: str) -> None:
    assert peers(Requests("sticky").plan(exits(9), Wanted(name))) == peers(
        Requests("sticky").plan(exits(9), ANYTHING)
    )


def test_sticky_by_user() -> None:
    requests = Requests("sticky")
    homes_of_bob = {
        requests.send(exits(9), Wanted(f"h{n}", "bob", sticky_by=StickyBy.USER)) for n in range(50)
    }
    homes_of_all = {
        requests.send(exits(9), Wanted("h", f"user{n}", sticky_by=StickyBy.USER)) for n in range(99)
    }
    assert len(homes_of_bob) == 1
    assert len(homes_of_all) == 9


def test_sticky_does_not_leave_a_slow_exit_but_a_suspect_one() -> None:
    home = Requests("sticky").send(exits(4))
    place = int(home.removeprefix("exit "))
    assert Requests("sticky").send(but(exits(4), place, state=State.SLOW)) == home
    assert Requests("sticky").send(but(exits(4), place, state=State.SUSPECT)) != home
    assert Requests("sticky").send(but(exits(4), place, state=State.SUSPECT, trial=True)) == home


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_session_stays_on_its_exit(strategy: str) -> None:
    wanted = Wanted("h", session="7", pinned="exit 3")
    requests = Requests(strategy)
    for host in range(20):
        planned = requests.plan(exits(5), Wanted(f"h{host}", session="7", pinned="exit 3"))
        assert planned.ranked[0].peer == "exit 3"
        assert planned.describe(planned.ranked[0]) == "the session is kept on it"
    for state in (State.SLOW, State.SUSPECT):
        assert requests.plan(but(exits(5), 3, state=state), wanted).ranked[0].peer == "exit 3"


def test_requests_of_a_session_that_fail_together_move_together() -> None:
    fallbacks = {
        tuple(peers(Requests("random", seed).plan(exits(5), Wanted("h", session="7", pinned="exit 3"))))
        for seed in range(20)
    }
    assert len(fallbacks) == 1


def test_a_new_session_or_one_whose_exit_is_gone_is_up_to_the_strategy() -> None:
    for pinned in (None, "exit 9"):
        firsts = {
            Requests("random", seed).send(exits(5), Wanted("h", session="7", pinned=pinned))
            for seed in range(50)
        }
        assert len(firsts) == 5
    assert Requests("ordered").send(exits(3), Wanted("h", session="7", pinned="exit 9")) == "exit 0"


def test_different_sessions_fall_back_to_different_exits() -> None:
    seconds = {
        peers(Requests("random").plan(exits(5), Wanted("h", session=str(n), pinned="exit 3")))[1]
        for n in range(50)
    }
    assert len(seconds) == 4


# -- memory -----------------------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bethrou.proxy.plans.MAX_REMEMBERED", 3)
    requests = Requests("round-robin")
    for candidate in exits(5):
        requests.send([candidate])
    assert [requests.memory.age(candidate.peer) for candidate in exits(5)] == [float("inf")] * 2 + [3, 2, 1]


def test_orders_of_random_differ() -> None:
    requests = Requests("random")
    orders = [tuple(peers(requests.plan(exits(5)))) for _ in range(50)]
    assert sum(one != other for one, other in pairwise(orders)) > 40
