"""When an exit counts as slow, and that the verdict does not flap."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.proxy.pace import MEASUREMENTS, TAKES_KEPT, TAKES_NEEDED, Pace

PING = 5.0  # seconds between two pings, as links do


def pinged(pace: Pace, round_trips: list[float]) -> Pace:
    """The pace after so many more pings."""
    for round_trip in round_trips:
        pace = pace.measured(pace.measured_at + PING, round_trip)
    return pace


def usual(round_trip: float) -> Pace:
    """An exit that has been so for some minutes."""
    return pinged(Pace().restarted(1000.0, round_trip), [round_trip] * 30)


def test_a_round_trip_is_the_median_of_the_last_nine() -> None:
    trips = [0.050, 0.900, 0.040, 0.060, 0.900, 0.055, 0.045, 0.900, 0.052, 0.053, 0.051]
    pace = pinged(Pace().restarted(0.0, 7.0), trips)
    assert pace.round_trips == tuple(trips[-MEASUREMENTS:])
    assert pace.round_trip == statistics.median(trips[-MEASUREMENTS:])


@pytest.mark.parametrize(
    ("before", "after", "slow"),
    [
        (0.010, 0.250, False),  # much more than usual, but not much
        (0.010, 0.300, True),
        (0.200, 0.550, False),
        (0.200, 0.700, True),  # three times as much
        (0.700, 0.700, False),  # far away, as always
        (0.700, 1.100, True),
        (1.500, 1.500, True),  # nobody would wait for that
    ],
)
def test_slow_is_what_takes_far_longer_than_usual_or_more_than_a_second(
    before: float, after: float, slow: bool
) -> None:
    assert pinged(usual(before), [after] * 9).slow is slow


def test_four_outliers_of_nine_do_not_make_it_slow() -> None:
    assert not pinged(usual(0.05), [3.0, 3.0, 3.0, 3.0]).slow
    assert pinged(usual(0.05), [3.0, 3.0, 3.0, 3.0, 3.0]).slow


def test_it_leaves_at_a_lower_threshold_than_it_enters() -> None:
    slow = pinged(usual(0.1), [0.5] * 9)
    assert slow.slow
    between = [0.3] * 12  # would not make it slow, does not make it quick either
    assert not pinged(usual(0.1), between).slow
    assert pinged(slow, between).slow
    assert not pinged(slow, [0.15] * 12).slow


def test_a_new_link_is_not_slow_at_once() -> None:
    pace = Pace().restarted(0.0, 2.0)
    for _ in range(5):  # 25 s
        pace = pinged(pace, [2.0])
        assert not pace.slow
    assert pinged(pace, [2.0]).slow


def test_what_is_usual_outlives_a_link() -> None:
    again = usual(0.05).restarted(5000.0, 0.5)
    assert pinged(again, [0.5] * 9).slow


def test_a_lasting_change_becomes_usual() -> None:
    moved = pinged(usual(0.1), [0.5] * 9)
    assert moved.slow
    assert not pinged(moved, [0.5] * 240).slow  # 20 minutes


def test_an_exit_that_answers_pings_and_takes_requests_late_is_slow() -> None:
    pace = usual(0.05)
    for second in range(1, TAKES_NEEDED):
        pace = pace.took(1200.0 + second, 0.8)
        assert not pace.slow
    pace = pace.took(1210.0, 0.8)
    assert pace.slow
    assert pace.describe() == "round trip 50 ms, usually 50 ms; takes a request in 800 ms"


def test_a_burst_of_requests_counts_once() -> None:
    pace = usual(0.05)
    first = pace.took(1200.0, 0.8)
    for moment in range(500):
        assert first.took(1200.0 + moment / 1000, 0.8) is first


def test_requests_of_long_ago_do_not_count() -> None:
    pace = usual(0.05)
    for second in range(TAKES_NEEDED - 1):
        pace = pace.took(1200.0 + second, 0.8)
    assert len(pace.took(1203.0 + TAKES_KEPT, 0.8).takes) == 1
    assert pace.measured(1203.0 + TAKES_KEPT, 0.05).takes == ()


@given(st.integers(0, 2**32), st.floats(0.001, 1.5), st.floats(0.0, 2.0), st.floats(1.0, 30.0))
def test_the_verdict_changes_once_in_thirty_seconds_at_most(
    seed: int, round_trip: float, noise: float, interval: float
) -> None:
    rng = random.Random(seed)
    pace, changes = Pace().restarted(0.0, round_trip), [0.0]
    for step in range(1, 300):
        now = step * interval
        before, pace = pace, pace.measured(now, round_trip + rng.uniform(0, noise))
        if pace.slow != before.slow:
            changes.append(now)
    assert all(later - earlier >= 30.0 for earlier, later in itertools.pairwise(changes))


def test_noise_around_the_threshold_does_not_flap() -> None:
    rng = random.Random(7)
    pace, naive, verdicts, without = usual(0.1), False, 0, 0
    for _ in range(720):  # an hour in which the median wanders around 350 ms, the threshold
        before, pace = pace, pinged(pace, [rng.uniform(0.25, 0.45)])
        verdicts += pace.slow != before.slow
        without += (pace.round_trip > 0.35) != naive
        naive = pace.round_trip > 0.35
    assert without >= 60
    assert verdicts <= 4
