"""An exit's states: what leads to which, with which reason, and that each change is told once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.proxy.health import Change, Health, State
from bethrou.proxy.suspicion import FORGIVEN_AFTER

RESET = "stream reset by the exit"
NEW = Health(since=100.0)
UP = NEW.link_up(101.0, 0.05)
SUSPECT = UP.failed(110.0, 109.0, RESET)


def slowed(health: Health) -> Health:
    """The health after pings have taken long for some minutes, from 200 s on."""
    for ping in range(60):
        health = health.measured(200.0 + 5 * ping, 0.05 if ping < 30 else 0.9)
    return health


def test_an_exit_is_connecting_until_its_first_dial_has_ended() -> None:
    assert (NEW.state, NEW.round_trip) == (State.CONNECTING, None)
    down = NEW.dial_failed(105.0, "connection refused")
    assert (down.state, down.reason, down.since) == (State.DOWN, "connection refused", 105.0)
    assert (UP.state, UP.reason, UP.since, UP.round_trip) == (State.HEALTHY, "connected", 101.0, 0.05)


def test_a_dial_that_fails_again_changes_the_reason_but_not_the_state() -> None:
    down = NEW.dial_failed(105.0, "connection refused")
    still = down.dial_failed(106.0, "no answer within 10 s")
    assert (still.state, still.reason, still.since) == (State.DOWN, "no answer within 10 s", 105.0)
    assert still.change_from(down) is None


def test_a_failed_dial_says_nothing_about_an_exit_that_is_up() -> None:
    assert UP.dial_failed(105.0, "connection refused") is UP


def test_a_lost_link_is_down_and_a_new_one_forgets_the_faults() -> None:
    down = SUSPECT.link_lost(111.0, "silent for 8 s")
    assert (down.state, down.reason, down.round_trip) == (State.DOWN, "silent for 8 s", None)
    again = down.link_up(112.0, 0.05)
    assert again.state is State.HEALTHY
    assert again.suspicion.failures == 0


def test_a_request_over_a_former_link_is_not_held_against_the_new_one() -> None:
    again = UP.link_lost(111.0, "silent for 8 s").link_up(112.0, 0.05)
    assert again.failed(112.1, 110.0, RESET) is again
    assert UP.link_lost(111.0, "x").failed(111.0, 110.0, RESET).state is State.DOWN


def test_an_own_fault_makes_it_suspect_until_a_trial_succeeds() -> None:
    assert (SUSPECT.state, SUSPECT.reason) == (State.SUSPECT, f"failed a request: {RESET}")
    assert not SUSPECT.may_try(111.9)
    assert SUSPECT.may_try(112.0)
    trying = SUSPECT.asked(112.0)
    assert not trying.may_try(112.0)
    healed = trying.answered(112.3)
    assert (healed.state, healed.reason, healed.since) == (State.HEALTHY, "took a request", 112.3)


def test_an_exit_that_answers_pings_and_carries_nothing_stays_suspect() -> None:
    health, now, lengths = SUSPECT, 110.0, []
    while len(lengths) < 8:
        now += 5.0
        health = health.measured(now, 0.05)
        assert health.state is State.SUSPECT
        if health.may_try(now):
            health = health.asked(now).failed(now + 3.0, now, "did not take the request within 3 s")
            lengths.append(health.suspicion.until - now - 3.0)
    assert lengths == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert health.reason == "failed 9 requests in a row: did not take the request within 3 s"


def test_a_trial_that_was_given_up_makes_room() -> None:
    trying = SUSPECT.asked(112.0)
    assert trying.withdrawn(112.0).may_try(112.5)
    assert UP.withdrawn(105.0) is UP


def test_an_exit_of_which_nothing_is_asked_for_long_is_healthy_again() -> None:
    moment = SUSPECT.suspicion.until + FORGIVEN_AFTER
    forgiven = SUSPECT.measured(moment, 0.05)
    assert (forgiven.state, forgiven.reason) == (State.HEALTHY, "nothing was asked of it for long")


def test_slow_and_quick_again() -> None:
    slow = slowed(UP)
    assert slow.state is State.SLOW
    assert slow.reason.startswith("round trip 900 ms, usually ")
    for ping in range(12):
        slow = slow.measured(600.0 + 5 * ping, 0.05)
    assert (slow.state, slow.reason) == (State.HEALTHY, "quick again")


def test_draining_hides_all_else_and_what_is_left_shows_when_it_ends() -> None:
    draining = SUSPECT.says(111.0, draining=True)
    assert (draining.state, draining.reason) == (State.DRAINING, "says that it takes no new requests")
    assert draining.says(112.0, draining=True) is draining
    serving = draining.says(120.0, draining=False)
    assert (serving.state, serving.reason) == (State.SUSPECT, f"failed a request: {RESET}")
    assert UP.says(111.0, draining=True).says(112.0, draining=False).reason == "serves again"


def test_an_exit_that_is_away_says_nothing() -> None:
    assert NEW.says(101.0, draining=True) is NEW
    assert NEW.measured(101.0, 0.05) is NEW


def test_a_new_link_does_not_drain() -> None:
    draining = UP.says(111.0, draining=True)
    assert draining.link_lost(112.0, "closed").link_up(113.0, 0.05).state is State.HEALTHY


def test_stable_is_healthy_without_a_break() -> None:
    assert UP.stable_for(131.0) == 30.0
    assert SUSPECT.stable_for(131.0) == 0.0
    assert SUSPECT.answered(112.0).stable_for(131.0) == 19.0
    assert slowed(UP).stable_for(500.0) == 0.0


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        (State.CONNECTING, False),
        (State.HEALTHY, True),
        (State.SLOW, True),
        (State.SUSPECT, True),
        (State.DOWN, False),
        (State.DRAINING, False),
    ],
)
def test_requests_may_be_sent_in_three_states(state: State, usable: bool) -> None:
    assert state.usable is usable


def test_healthy_ones_go_before_slow_ones_and_these_before_suspects() -> None:
    assert State.HEALTHY.rank < State.SLOW.rank < State.SUSPECT.rank


def test_a_change_names_both_states_and_the_reason() -> None:
    assert UP.change_from(NEW) == Change(State.CONNECTING, State.HEALTHY, "connected")
    assert SUSPECT.change_from(UP) == Change(State.HEALTHY, State.SUSPECT, f"failed a request: {RESET}")
    assert UP.measured(106.0, 0.06).change_from(UP) is None


def test_a_request_that_goes_well_costs_no_new_record() -> None:
    assert UP.asked(102.0) is UP
    assert UP.answered(102.1) is UP


HAPPENINGS = ("up", "lost", "dial", "ping", "asked", "answered", "failed", "withdrawn", "drains", "serves")


@given(
    st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.floats(0.0, 40.0), st.floats(0.001, 3.0)), max_size=80)
)
def test_whatever_happens_the_record_makes_sense(happenings: list[tuple[str, float, float]]) -> None:
    health, now = Health(since=0.0), 0.0
    for name, pause, seconds in happenings:
        before, now = health, now + pause
        health = after(health, name, now, seconds)
        linked = health.up_since is not None
        assert linked == (health.state not in (State.CONNECTING, State.DOWN))
        assert (health.round_trip is not None) == linked
        assert health.since <= now
        assert health.state is State.CONNECTING or health.reason
        assert not health.may_try(now) or health.state is State.SUSPECT
        change = health.change_from(before)
        assert (change is None) == (health.state is before.state)
        assert health.since == (before.since if change is None else now)


def after(health: Health, name: str, now: float, seconds: float) -> Health:
    match name:
        case "up":
            return health.link_up(now, seconds)
        case "lost":
            return health.link_lost(now, "lost")
        case "dial":
            return health.dial_failed(now, "refused")
        case "ping":
            return health.measured(now, seconds)
        case "asked":
            return health.asked(now)
        case "answered":
            return health.answered(now, seconds)
        case "failed":
            return health.failed(now, now - seconds, RESET)
        case "withdrawn":
            return health.withdrawn(now - seconds)
        case _:
            return health.says(now, draining=name == "drains")
