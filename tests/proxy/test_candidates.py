"""Which exits a request may use."""

from __future__ import annotations

import pytest

from bethrou.proxy.candidates import ANY_EXIT, Candidate, Scope, eligible
from bethrou.proxy.health import State

PARIS = Candidate("12D3KooWparis", name="paris", tags=("eu", "fast"))
BERLIN = Candidate("12D3KooWberlin", name="berlin", tags=("eu",))
NAMELESS = Candidate("12D3KooWnameless")
ALL = (PARIS, BERLIN, NAMELESS)


@pytest.mark.parametrize(
    ("exit_", "tag", "fitting"),
    [
        (None, None, [PARIS, BERLIN, NAMELESS]),
        ("paris", None, [PARIS]),
        ("12D3KooWnameless", None, [NAMELESS]),
        ("12D3KooW", None, []),
        ("Paris", None, []),
        ("", None, []),
        (None, "eu", [PARIS, BERLIN]),
        (None, "us", []),
        ("berlin", "eu", [BERLIN]),
        ("berlin", "fast", []),
    ],
)
def test_exit_and_tag(exit_: str | None, tag: str | None, fitting: list[Candidate]) -> None:
    assert eligible(ALL, ANY_EXIT.narrowed(exit_, tag)) == fitting


def test_an_exit_without_a_name_is_not_the_one_with_the_empty_name() -> None:
    assert eligible([NAMELESS], Scope(exits=("",))) == []


def test_each_word_narrows_further() -> None:
    eu = ANY_EXIT.narrowed(None, "eu")
    assert eligible(ALL, eu.narrowed("paris", None)) == [PARIS]
    assert eligible(ALL, eu.narrowed(None, "fast")) == [PARIS]
    assert eligible(ALL, eu.narrowed("paris", None).narrowed("berlin", None)) == []
    assert eligible(ALL, eu.narrowed("paris", None).narrowed("12D3KooWparis", None)) == [PARIS]


def test_the_same_word_twice_is_one() -> None:
    assert ANY_EXIT.narrowed("a", "b").narrowed("a", "b") == ANY_EXIT.narrowed("a", "b")


def test_it_says_why_not() -> None:
    scope = ANY_EXIT.narrowed("paris", "eu")
    assert scope.why_not(PARIS) is None
    assert scope.why_not(BERLIN) == "is not the exit paris"
    assert ANY_EXIT.narrowed(None, "eu").why_not(NAMELESS) == "has no tag eu"
    assert (str(scope), str(ANY_EXIT)) == ("exit=paris, tag=eu", "")


def test_a_trial_stands_where_healthy_ones_do() -> None:
    assert Candidate("a", state=State.SUSPECT, trial=True).rank == Candidate("b").rank
    assert Candidate("a", state=State.SUSPECT).rank > Candidate("b", state=State.SLOW).rank
