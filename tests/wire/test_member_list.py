"""The member list: one encoding, signed by the operator, bounded."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire.envelope import seal
from bethrou.wire.grant import NODE
from bethrou.wire.keys import Identity
from bethrou.wire.member_list import (
    MAX_LIST,
    MAX_MEMBERS,
    MAX_REMOVED,
    MAX_SERIAL,
    Member,
    MemberList,
    Removed,
)
from bethrou.wire.peer_id import PeerId
from bethrou.wire.public_key import PublicKey
from live.operator import DEVICE, KEY, NODE_A, NODE_B, NOW, OPERATOR, SECRET, THIEF, member_list

LABELS = st.text("abcXYZ019._~-", min_size=1, max_size=64)


def numbered(number: int) -> PeerId:
    return PeerId.from_public_key(PublicKey(number.to_bytes(32, "big")))


def signed(payload: bytes, by: Identity = OPERATOR) -> bytes:
    return seal(by, "bethrou-member-list", b"/bethrou/member-list", payload)


def said(**changes: object) -> bytes:
    message = {
        "network": KEY.fingerprint,
        "name": "home",
        "serial": 1,
        "issued": NOW,
        "members": [],
        "removed": [],
    }
    return signed(json.dumps({**message, **changes}).encode())


FULL = member_list(
    7,
    (
        Member(NODE_A.peer_id, "a", NODE),
        Member(DEVICE.peer_id, "laptop", "client", ("eu",), SECRET.peer_id),
    ),
    (Removed(THIEF.peer_id, numbered(1)), Removed(NODE_B.peer_id)),
)


def test_a_list_is_this_json() -> None:
    envelope = FULL.seal(OPERATOR)
    members = [
        (DEVICE, f'"name":"laptop","role":"client","exits":["eu"],"grant":"{SECRET.peer_id}"'),
        (NODE_A, '"name":"a","role":"node"'),
    ]
    removed = [(THIEF, f',"grant":"{numbered(1)}"'), (NODE_B, "")]
    for entries in (members, removed):
        entries.sort(key=lambda entry: entry[0].peer_id.raw)
    expected = (
        f'{{"network":"{KEY.fingerprint}","name":"home","serial":7,"issued":1800000000,"members":['
        + ",".join(f'{{"id":"{peer.peer_id}",{rest}}}' for peer, rest in members)
        + '],"removed":['
        + ",".join(f'{{"id":"{peer.peer_id}"{rest}}}' for peer, rest in removed)
        + "]}"
    )
    assert expected.encode() in envelope


@given(
    st.integers(0, MAX_SERIAL),
    st.lists(
        st.tuples(
            st.integers(1, 1 << 64),
            st.just("") | LABELS,
            st.sampled_from(["client", "node"]),
            st.lists(LABELS, max_size=16),
            st.none() | st.integers(1, 1 << 64),
        ),
        unique_by=lambda entry: entry[0],
        max_size=8,
    ),
    st.randoms(),
)
def test_a_list_says_again_what_it_said_in_whatever_order(
    serial: int, entries: list[tuple[int, str, str, list[str], int | None]], rng: object
) -> None:
    members = [
        Member(numbered(peer), name, role, tuple(exits), None if grant is None else numbered(grant))
        for peer, name, role, exits, grant in entries
    ]
    envelope = member_list(serial, tuple(members)).seal(OPERATOR)
    assert set(MemberList.open(envelope, OPERATOR.peer_id).members) == set(members)
    rng.shuffle(members)  # type: ignore[attr-defined]
    assert member_list(serial, tuple(members)).seal(OPERATOR) == envelope


def test_only_the_operator_makes_lists() -> None:
    for signer in (NODE_A, THIEF, SECRET):
        with pytest.raises(DecodeError, match="not signed by this network's operator"):
            MemberList.open(FULL.seal(signer), OPERATOR.peer_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": None},
        {"members": {}},
        {"members": [1]},
        {"members": [{}]},
        {"members": [{"id": "x"}]},
        {"members": [{"id": str(DEVICE.peer_id)}] * 2},
        {"members": [{"id": str(DEVICE.peer_id)}], "removed": [{"id": str(DEVICE.peer_id)}]},
        {"members": [{"id": str(DEVICE.peer_id), "name": "a b"}]},
        {"members": [{"id": str(DEVICE.peer_id), "exits": "eu"}]},
        {"members": [{"id": str(DEVICE.peer_id), "exits": [1]}]},
        {"members": [{"id": str(DEVICE.peer_id), "exits": [""]}]},
        {"members": [{"id": str(DEVICE.peer_id), "exits": ["a"] * 17}]},
        {"members": [{"id": str(DEVICE.peer_id), "grant": "x"}]},
        {"serial": -1},
        {"serial": 1.5},
        {"serial": True},
        {"serial": 1 << 63},
        {"name": 5},
        {"members": [{"id": "x"}] * (MAX_MEMBERS + 1)},
        {"removed": [{"id": "x"}] * (MAX_REMOVED + 1)},
    ],
)
def test_a_list_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        MemberList.open(said(**changes), OPERATOR.peer_id)


def test_what_a_later_version_adds_is_ignored_and_an_unknown_role_is_the_least() -> None:
    entry = {"id": str(DEVICE.peer_id), "role": "archduke", "more": 1}
    found = MemberList.open(said(members=[entry], more={}), OPERATOR.peer_id)
    assert found.members == (Member(DEVICE.peer_id),)


def test_the_largest_list_that_may_be_is_read_and_no_larger_is_made() -> None:
    members = tuple(
        Member(numbered(each), f"device-{each:020}", "client", ("eu",), numbered(each + 10_000))
        for each in range(1, MAX_MEMBERS + 1)
    )
    removed = tuple(
        Removed(numbered(each), numbered(each + 50_000)) for each in range(30_001, 30_001 + MAX_REMOVED)
    )
    envelope = member_list(1, members, removed).seal(OPERATOR)
    assert len(envelope) <= MAX_LIST
    assert len(MemberList.open(envelope, OPERATOR.peer_id).members) == MAX_MEMBERS
    with pytest.raises(ValueError, match="at most"):
        member_list(1, (*members, Member(DEVICE.peer_id))).seal(OPERATOR)
    long = tuple(
        Member(numbered(each), "x" * 64, "client", ("x" * 64,) * 8) for each in range(1, MAX_MEMBERS)
    )
    with pytest.raises(ValueError, match="bytes"):
        member_list(1, long).seal(OPERATOR)


@given(st.binary(max_size=4096))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for envelope in (data, signed(data)):
        with contextlib.suppress(DecodeError):
            MemberList.open(envelope, OPERATOR.peer_id)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), st.lists, max_leaves=8))
def test_any_json_is_refused_or_read(value: object) -> None:
    for key in ("network", "name", "serial", "issued", "members", "removed"):
        with contextlib.suppress(DecodeError):
            MemberList.open(said(**{key: value}), OPERATOR.peer_id)
        with contextlib.suppress(DecodeError):
            MemberList.open(said(members=[{"id": str(DEVICE.peer_id), "exits": value}]), OPERATOR.peer_id)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    envelope = bytearray(FULL.seal(OPERATOR))
    envelope[place % len(envelope)] ^= change
    with contextlib.suppress(DecodeError):
        assert MemberList.open(bytes(envelope), OPERATOR.peer_id).serial == FULL.serial
