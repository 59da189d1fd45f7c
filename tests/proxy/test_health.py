"""How long an exit stays under suspicion."""

import pytest

from bethrou.proxy.health import FIRST_SUSPICION, LONGEST_SUSPICION, Health


def test_an_exit_is_not_suspect_before_it_fails() -> None:
    assert not Health().suspect(0.0)


def test_requests_that_fail_together_count_once() -> None:
    health = Health()
    for moment in (100.0, 100.0, 100.1, 101.9):
        health = health.failed(moment)
    assert health.suspect(100.0 + FIRST_SUSPICION - 0.01)
    assert not health.suspect(100.0 + FIRST_SUSPICION)


@pytest.mark.parametrize(("failures", "length"), [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (200, 60.0)])
def test_failing_again_and_again_makes_it_longer(failures: int, length: float) -> None:
    health, now = Health(), 0.0
    for _ in range(failures):
        now = max(now, health.suspect_until)
        health = health.failed(now)
    assert health.suspect_until - now == length <= LONGEST_SUSPICION


def test_a_request_taken_clears_all() -> None:
    assert Health().failed(5.0).succeeded() == Health()
