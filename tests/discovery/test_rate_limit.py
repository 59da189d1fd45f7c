"""A bound on how often something happens, whatever the clock does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.discovery.rate_limit import RateLimit

pauses = st.lists(st.floats(0, 2, allow_nan=False), max_size=200)


@settings(deadline=None)  # a busy machine is no failure
@given(pauses, st.integers(1, 50), st.integers(1, 20))
def test_no_more_happens_than_the_rate_and_the_burst_allow(
    pauses: list[float], rate: int, burst: int
) -> None:
    limit, now, taken = RateLimit(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken += limit.take(now)
    assert taken <= burst + rate * now + 1e-6


@settings(deadline=None)  # a busy machine is no failure
@given(pauses, st.integers(1, 50), st.integers(1, 20))
def test_it_may_happen_after_the_wait_and_not_before(pauses: list[float], rate: int, burst: int) -> None:
    limit, now = RateLimit(rate, burst), 0.0
    for pause in pauses:
        now += pause
        wait = limit.wait(now)
        if wait > 1e-6:
            assert not limit.take(now + wait / 2)
            now += wait / 2
        now += limit.wait(now) + 1e-9
        assert limit.take(now)


def test_a_clock_that_is_set_back_gives_nothing_away() -> None:
    limit = RateLimit(1, 1)
    assert limit.take(100)
    assert not limit.take(50)
    assert not limit.take(50.5)
    assert limit.take(51)
