import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire.user_name import MAX_TTL, UserName

WORDS = st.text("abcXYZ019._~-", min_size=1, max_size=64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", UserName()),
        ("bob", UserName("bob")),
        ("b\u00f6b smith@example.com", UserName("b\u00f6b smith@example.com")),
        ("bob,tag=eu", UserName("bob", tag="eu")),
        ("tag=eu", UserName(tag="eu")),
        (",tag=eu", UserName(tag="eu")),
        ("exit=berlin-1,session=7~a,ttl=600", UserName(exit="berlin-1", session="7~a", ttl=600)),
        ("bob,strategy=fastest,ttl=10m", UserName("bob", strategy="fastest", ttl=600)),
        ("ttl=1s", UserName(ttl=1)),
        ("ttl=2h", UserName(ttl=7200)),
        ("ttl=7d", UserName(ttl=MAX_TTL)),
    ],
)
def test_user_names(text: str, expected: UserName) -> None:
    assert UserName.parse(text.encode()) == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"bob,", "no key=value"),
        (b"bob,,tag=eu", "no key=value"),
        (b"bob,alice", "no key=value"),
        (b"tag=eu,bob", "no key=value"),
        (b"bob,Tag=eu", "unknown key 'Tag'"),
        (b"bob,color=red", "unknown key 'color'"),
        (b"=", "unknown key ''"),
        (b"bob,tag=eu,tag=us", "'tag' twice"),
        (b"bob,tag=", "bad value for the key 'tag'"),
        (b"bob,tag=a b", "bad value"),
        (b"bob,tag=a=b", "bad value"),
        (b"bob,tag=" + b"x" * 65, "bad value"),
        (b"ttl=0", "outside"),
        (b"ttl=8d", "outside"),
        (b"ttl=-1", "bad value"),
        (b"ttl=1.5", "bad value"),
        (b"ttl=9999999999", "bad value"),
        (b"bob\0", "control"),
        (b"bob\n,tag=eu", "control"),
        (b"\xff", "UTF-8"),
    ],
)
def test_bad_user_names(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        UserName.parse(raw)


@given(
    st.text("abc@ .", max_size=20),
    st.dictionaries(st.sampled_from(["exit", "tag", "strategy", "session"]), WORDS),
)
def test_round_trip(user: str, options: dict[str, str]) -> None:
    text = ",".join([user, *(f"{key}={value}" for key, value in options.items())])
    assert UserName.parse(text.encode()) == UserName(user, **options)


@given(st.binary(max_size=60))
def test_random_bytes_only_raise_decode_errors(raw: bytes) -> None:
    for candidate in (raw, b"bob,tag=" + raw):
        with contextlib.suppress(DecodeError):
            UserName.parse(candidate)
