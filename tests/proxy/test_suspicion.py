"""How long an exit stays under suspicion, and how it gets out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.proxy.suspicion import (
    FIRST_SUSPICION,
    FORGIVEN_AFTER,
    LONGEST_SUSPICION,
    TRIAL_TIMEOUT,
    Suspicion,
)

RESET = "reset by the exit"


def failed_at(*moments: float) -> Suspicion:
    """A record after requests that were sent and failed at these moments."""
    suspicion = Suspicion()
    for moment in moments:
        suspicion = suspicion.failed(moment, moment, RESET)
    return suspicion


def failed_in_a_row(times: int) -> Suspicion:
    suspicion = Suspicion()
    for _ in range(times):
        suspicion = suspicion.failed(suspicion.until, suspicion.until, RESET)
    return suspicion


def test_an_exit_is_trusted_before_it_fails() -> None:
    assert not Suspicion().active
    assert not Suspicion().may_try(0.0)


def test_requests_that_were_under_way_together_and_fail_together_count_once() -> None:
    suspicion = Suspicion()
    for began, ended in [(97.0, 100.0), (97.1, 100.1), (99.9, 102.9), (101.9, 104.9)]:
        suspicion = suspicion.failed(began, ended, RESET)
    assert (suspicion.failures, suspicion.until) == (1, 102.0)


@pytest.mark.parametrize(("failures", "length"), [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (200, 60.0)])
def test_failing_again_and_again_makes_it_longer(failures: int, length: float) -> None:
    before = failed_in_a_row(failures - 1)
    after = before.failed(before.until, before.until, RESET)
    assert after.until - before.until == length
    assert length <= LONGEST_SUSPICION


def test_on_probation_there_is_one_trial_at_a_time() -> None:
    suspicion = failed_at(100.0)
    assert not suspicion.may_try(101.9)
    assert suspicion.may_try(102.0)
    trying = suspicion.asked(102.0)
    assert not trying.may_try(102.0)
    assert trying.asked(103.0) is trying


def test_a_trial_that_succeeds_heals() -> None:
    healed = failed_at(100.0).asked(102.0).answered(102.1)
    assert not healed.active
    assert not healed.may_try(102.1)


def test_a_trial_that_fails_doubles() -> None:
    suspicion = failed_at(100.0).asked(102.0).failed(102.0, 105.0, RESET)
    assert suspicion.until == 105.0 + 2 * FIRST_SUSPICION
    assert suspicion.may_try(109.0)


def test_a_trial_that_ends_without_a_verdict_makes_room_for_another() -> None:
    trying = failed_at(100.0).asked(102.0)
    assert not trying.withdrawn(101.0).may_try(103.0)
    assert trying.withdrawn(102.0).may_try(103.0)


def test_a_trial_that_nobody_reports_on_is_given_up() -> None:
    trying = failed_at(100.0).asked(102.0)
    assert not trying.may_try(102.0 + TRIAL_TIMEOUT - 0.1)
    assert trying.may_try(102.0 + TRIAL_TIMEOUT)


def test_success_heals_only_when_the_suspicion_has_ended() -> None:
    suspicion = failed_at(100.0)
    assert suspicion.answered(101.9).active
    assert not suspicion.answered(102.0).active


def test_failing_soon_after_it_healed_counts_on_and_long_after_begins_anew() -> None:
    healed = failed_at(100.0, 102.0).answered(106.0)
    assert healed.failed(120.0, 120.0, RESET).failures == 3
    assert healed.failed(106.0 + LONGEST_SUSPICION, 106.0 + LONGEST_SUSPICION, RESET).failures == 1


def test_an_exit_of_which_nothing_is_asked_for_long_is_trusted_again() -> None:
    suspicion = failed_at(100.0)
    assert suspicion.waited(102.0 + FORGIVEN_AFTER - 0.1).active
    assert suspicion.waited(102.0 + FORGIVEN_AFTER) == Suspicion()
    tried = suspicion.asked(300.0)
    assert tried.waited(300.0 + FORGIVEN_AFTER - 0.1).active


def test_it_says_why() -> None:
    assert failed_in_a_row(1).describe() == "failed a request: reset by the exit"
    assert failed_in_a_row(3).describe() == "failed 3 requests in a row: reset by the exit"


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5), st.booleans()), max_size=50))
def test_whatever_happens_it_ends(requests: list[tuple[float, float, bool]]) -> None:
    suspicion, now = Suspicion(), 0.0
    for pause, lasted, fails in requests:
        began, now = now + pause, now + pause + lasted
        suspicion = suspicion.asked(began)
        suspicion = suspicion.failed(began, now, RESET) if fails else suspicion.answered(now)
        assert suspicion.until <= now + LONGEST_SUSPICION
        assert suspicion.until == 0.0 or suspicion.failures >= 1
    assert not suspicion.answered(now + LONGEST_SUSPICION).active
