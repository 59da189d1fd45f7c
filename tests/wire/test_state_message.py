import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire.member_fields import MAX_LABELS
from bethrou.wire.state_message import PrefixedJsonReader, StateMessage

FULL = StateMessage(True, 30.0, 7, 0.25, 100, "berlin-1", ("eu", "fast"))
COUNTS = st.integers(0, 2**53)
WORDS = st.text("abcXYZ019._~-", min_size=1, max_size=64)


def test_on_the_wire() -> None:
    assert FULL.encode()[1:] == (
        b'{"state":"draining","grace":30.0,"load":{"streams":7,"cpu":0.25,"limit":100},'
        b'"name":"berlin-1","tags":["eu","fast"]}'
    )
    assert StateMessage().encode()[1:] == (
        b'{"state":"serving","grace":0.0,"load":{"streams":0,"cpu":0.0,"limit":null}}'
    )


def test_what_is_missing_has_a_default() -> None:
    assert StateMessage.decode({"state": "serving"}) == StateMessage()
    assert StateMessage.decode({"state": "serving", "load": None, "tags": None, "new": 1}) == StateMessage()


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"state": "sleeping"},
        {"state": 1},
        {"state": "serving", "grace": "30"},
        {"state": "serving", "grace": -1},
        {"state": "serving", "grace": float("inf")},
        {"state": "serving", "grace": True},
        {"state": "serving", "load": []},
        {"state": "serving", "load": 5},
        {"state": "serving", "load": {"streams": -1}},
        {"state": "serving", "load": {"limit": "none"}},
        {"state": "serving", "tags": "eu"},
        {"state": "serving", "name": ["a"]},
    ],
)
def test_wrong_types_and_values(message: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        StateMessage.decode(message)


def test_no_exit_can_call_itself_by_a_peer_id() -> None:
    other = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
    assert StateMessage.decode({"state": "serving", "name": other}).name == ""
    assert StateMessage.decode({"state": "serving", "name": other[:-1]}).name == other[:-1]


def test_bounds() -> None:
    message = StateMessage.decode(
        {
            "state": "serving",
            "grace": 10**400,
            "load": {"cpu": 7.5, "streams": 10**400},
            "name": "a b",
            "tags": ["ok", "bad tag", "x" * 65, 5, *map(str, range(100))],
        }
    )
    assert message.grace == 86400
    assert message.cpu == 1
    assert message.streams == 2**53
    assert message.name == ""
    assert message.tags == ("ok", *map(str, range(MAX_LABELS - 4)))


@given(
    st.builds(
        StateMessage,
        st.booleans(),
        st.floats(0, 86400),
        COUNTS,
        st.integers(0, 1000).map(lambda share: share / 1000),
        st.none() | COUNTS,
        st.just("") | WORDS,
        st.lists(WORDS, max_size=MAX_LABELS).map(tuple),
    )
)
def test_round_trip(message: StateMessage) -> None:
    read = PrefixedJsonReader().receive(message.encode())
    assert read is not None
    assert StateMessage.decode(read) == message


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3))
)
KEYS = st.sampled_from(["grace", "load", "name", "tags", "streams", "cpu", "limit"])


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES)))
def test_random_messages_only_raise_decode_errors(message: dict[str, Any]) -> None:
    with contextlib.suppress(DecodeError):
        StateMessage.decode({"state": "serving", **message})
