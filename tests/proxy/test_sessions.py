"""Which exit a session is kept on, for how long, and how many there are."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bethrou.proxy.sessions import DEFAULT_TTL, Session, Sessions

LIMIT = 4  # of the table that is driven at random


def test_a_session_keeps_its_exit_for_ten_minutes_after_its_last_use() -> None:
    sessions = Sessions()
    sessions.keep("bob", "7", "exit 1", now=100.0)
    assert sessions.find("bob", "7", 100.0 + DEFAULT_TTL - 0.1) == Session("exit 1", 100.0 + DEFAULT_TTL)
    assert sessions.find("bob", "7", 100.0 + DEFAULT_TTL) is None
    assert DEFAULT_TTL == 600.0


def test_using_it_makes_it_last_and_looking_does_not() -> None:
    sessions = Sessions()
    sessions.keep("bob", "7", "exit 1", now=0.0)
    sessions.find("bob", "7", 599.0)
    assert sessions.find("bob", "7", 601.0) is None
    sessions.keep("bob", "7", "exit 1", now=599.0)
    assert sessions.find("bob", "7", 1198.0) is not None


def test_the_user_name_may_say_how_long() -> None:
    sessions = Sessions()
    sessions.keep("bob", "7", "exit 1", now=0.0, ttl=30)
    assert sessions.find("bob", "7", 29.9) is not None
    assert sessions.find("bob", "7", 30.0) is None


def test_what_a_user_calls_a_session_is_that_users_own() -> None:
    sessions = Sessions()
    sessions.keep("bob", "7", "exit 1", now=0.0)
    sessions.keep("", "7", "exit 2", now=0.0)
    found = {user: sessions.find(user, "7", 1.0) for user in ("bob", "", "eve")}
    assert {user: session and session.peer for user, session in found.items()} == {
        "bob": "exit 1",
        "": "exit 2",
        "eve": None,
    }


def test_a_session_moves_and_stays_there() -> None:
    sessions = Sessions()
    sessions.keep("bob", "7", "exit 1", now=0.0)
    sessions.keep("bob", "7", "exit 2", now=1.0)
    assert sessions.find("bob", "7", 2.0) == Session("exit 2", 1.0 + DEFAULT_TTL)
    assert len(sessions) == 1


def test_the_one_that_was_not_used_for_longest_goes() -> None:
    sessions = Sessions()
    for number in range(10_000):
        sessions.keep("bob", str(number), "exit 1", now=float(number) / 1e6)
    sessions.keep("bob", "0", "exit 1", now=1.0)
    sessions.keep("bob", "new", "exit 1", now=1.0)
    assert len(sessions) == 10_000
    assert sessions.find("bob", "0", 1.0) is not None
    assert sessions.find("bob", "1", 1.0) is None
    assert sessions.find("bob", "2", 1.0) is not None


class AnyUse(RuleBasedStateMachine):
    """A table of at most four sessions against a plain list of what was done."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions(LIMIT)
        self.now = 0.0
        self.done: list[tuple[tuple[str, str], str, float]] = []

    @rule(
        user=st.sampled_from(["", "bob"]),
        session=st.sampled_from(["1", "2", "3"]),
        peer=st.sampled_from(["exit 1", "exit 2"]),
        ttl=st.none() | st.integers(1, 1000),
    )
    def keep(self, user: str, session: str, peer: str, ttl: int | None) -> None:
        self.sessions.keep(user, session, peer, self.now, ttl)
        entry = ((user, session), peer, self.now + (DEFAULT_TTL if ttl is None else ttl))
        self.done = [other for other in self.done if other[0] != entry[0]] + [entry]

    @rule(seconds=st.floats(0.0, 700.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def finds_what_was_kept(self) -> None:
        expected = {key: Session(peer, end) for key, peer, end in self.done[-LIMIT:] if self.now < end}
        for user in ("", "bob"):
            for session in ("1", "2", "3"):
                assert self.sessions.find(user, session, self.now) == expected.get((user, session))
        assert len(self.sessions) <= LIMIT


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
