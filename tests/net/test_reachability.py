"""What checks of our reachability come to, by plain numbers."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.net.interfaces import Address
from bethrou.net.reachability import (
    APART,
    CONFIRM,
    REST,
    RETRY,
    SETTLE,
    SPREAD,
    Finding,
    Standing,
    after_asking_nobody,
    after_check,
    after_news,
    what_follows,
)
from bethrou.snapshots import AddressReachability

REACHABLE, UNREACHABLE, UNKNOWN = Finding.REACHABLE, Finding.UNREACHABLE, Finding.UNKNOWN
OUTSIDE, INSIDE, NEIGHBOUR = (IPv4Address(each) for each in ("5.5.1.1", "10.0.0.2", "192.168.1.7"))


def found(*verdicts: str) -> list[AddressReachability]:
    return [
        AddressReachability(f"/ip4/5.5.1.{number}/tcp/4001", verdict, 0, 0, 1)
        for number, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("verdicts", "seen_at", "own", "finding"),
    [
        (["reachable"], [], [], REACHABLE),
        (["unreachable", "reachable", "unknown"], [], [], REACHABLE),
        (["unreachable"], [], [], UNREACHABLE),
        (["unreachable", "unreachable"], [], [], UNREACHABLE),
        (["unreachable", "unknown"], [], [], UNREACHABLE),
        (["unknown"], [OUTSIDE], [INSIDE], UNKNOWN),
        ([], [OUTSIDE], [INSIDE], UNREACHABLE),
        ([], [OUTSIDE], [OUTSIDE], UNKNOWN),
        ([], [NEIGHBOUR], [INSIDE], UNKNOWN),
        ([], [], [INSIDE], UNKNOWN),
    ],
)
def test_what_follows_from_a_check(
    verdicts: list[str], seen_at: list[Address], own: list[Address], finding: Finding
) -> None:
    assert what_follows(found(*verdicts), seen_at, own) is finding


def after(*findings: Finding, standing: Standing | None = None) -> Standing:
    standing = standing or Standing(due=0.0)
    for finding in findings:
        standing = after_check(standing, finding, standing.due, random.Random(1))
    return standing


@pytest.mark.parametrize(
    ("findings", "believed"),
    [
        ([UNREACHABLE], UNKNOWN),
        ([UNREACHABLE, UNREACHABLE], UNREACHABLE),
        ([UNREACHABLE, UNKNOWN, UNREACHABLE], UNREACHABLE),
        ([UNREACHABLE, REACHABLE, UNREACHABLE, REACHABLE], UNKNOWN),
        ([REACHABLE, REACHABLE, UNREACHABLE], REACHABLE),
        ([REACHABLE, REACHABLE, UNREACHABLE, REACHABLE, UNREACHABLE], REACHABLE),
        ([REACHABLE, REACHABLE, UNREACHABLE, UNREACHABLE], UNREACHABLE),
        ([UNREACHABLE, UNREACHABLE, REACHABLE], UNREACHABLE),
        ([UNREACHABLE, UNREACHABLE, REACHABLE, REACHABLE], REACHABLE),
        ([UNKNOWN] * 9, UNKNOWN),
    ],
)
def test_two_checks_in_a_row_make_a_belief(findings: list[Finding], believed: Finding) -> None:
    assert after(*findings).believed is believed


def wait(standing: Standing) -> float:
    assert standing.checked is not None
    return standing.due - standing.checked


def about(seconds: float) -> object:
    return pytest.approx(seconds, rel=0.2)


def test_what_is_new_is_checked_again_at_once_and_what_is_known_rarely() -> None:
    first = after(UNREACHABLE)
    assert wait(first) == about(CONFIRM)
    assert first.agreeing == 1
    second = after(UNREACHABLE, standing=first)
    assert wait(second) == about(REST)
    assert second.agreeing == 0
    assert wait(after(UNREACHABLE, standing=second)) == about(REST)
    assert wait(after(REACHABLE, standing=second)) == about(CONFIRM)


def test_fruitless_checks_become_rarer() -> None:
    standing = Standing(due=0.0)
    waits = []
    for _ in range(8):
        standing = after(UNKNOWN, standing=standing)
        waits.append(wait(standing))
    assert waits == [about(min(RETRY * 2**number, REST)) for number in range(8)]
    assert wait(after(UNKNOWN, standing=after_news(standing, 0.0, random.Random(1), great=True))) == about(
        RETRY
    )


def test_a_network_that_has_changed_is_checked_soon_and_is_still_believed() -> None:
    settled = after(REACHABLE, REACHABLE)
    now = (settled.checked or 0.0) + 1.0
    changed = after_news(settled, now, random.Random(1), great=True)
    assert changed.due - now == about(SETTLE)
    assert changed.believed is REACHABLE


def test_small_news_wait_until_the_last_check_is_a_while_ago() -> None:
    settled = after(UNREACHABLE, UNREACHABLE)
    checked = settled.checked or 0.0
    for times in range(1, 100):
        news = after_news(settled, checked + times * 0.1, random.Random(times), great=False)
        assert news.due == checked + APART
    late = after_news(settled, checked + 300.0, random.Random(1), great=False)
    assert SPREAD[0] <= late.due - (checked + 300.0) <= SPREAD[1]


def test_asking_nobody_is_no_check() -> None:
    standing = after_asking_nobody(Standing(due=3.0), 3.0, random.Random(1))
    assert standing.due - 3.0 == about(RETRY)
    assert standing.checked is None
    assert after_news(standing, 4.0, random.Random(1), great=False).due <= 4.0 + SPREAD[1]


@given(st.lists(st.sampled_from(list(Finding)), max_size=40))
def test_beliefs_only_change_to_what_was_said_twice_in_a_row(findings: list[Finding]) -> None:
    standing = Standing(due=0.0)
    said: list[Finding] = []
    for finding in findings:
        before = standing
        standing = after(finding, standing=standing)
        assert standing.due > before.due
        if finding is not UNKNOWN:
            said.append(finding)
        if standing.believed is not before.believed:
            assert said[-2:] == [standing.believed] * 2
        if said[-2:] in ([REACHABLE] * 2, [UNREACHABLE] * 2):
            assert standing.believed is said[-1]
            assert standing.agreeing == 0
