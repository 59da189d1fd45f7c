"""Who may let whom in: every signature has to be the right one's, and over just this."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import seal
from bethrou.wire.grant import (
    CLOCK_SKEW,
    MAX_ADMISSION,
    MAX_GRANT,
    MAX_REDEMPTION,
    MAX_TIME,
    NODE,
    Admission,
    Grant,
    open_redemption,
    seal_redemption,
)
from bethrou.wire.peer_id import PeerId
from live.operator import (
    DEVICE,
    KEY,
    NODE_A,
    NOW,
    OPERATOR,
    OTHER_OPERATOR,
    SECRET,
    THIEF,
    admission,
    grant,
)

GRANT = grant(exits=("eu", "fast"))
LABELS = st.text("abcXYZ019._~-", min_size=1, max_size=64)


@given(
    st.just("") | LABELS,
    st.sampled_from(["client", "node"]),
    st.lists(LABELS, max_size=16).map(tuple),
    st.integers(0, MAX_TIME),
    st.integers(0, MAX_TIME),
)
def test_a_grant_says_again_what_it_said(
    name: str, role: str, exits: tuple[str, ...], issued: int, expires: int
) -> None:
    original = grant(name=name, role=role, exits=exits, issued=issued, expires=expires)
    envelope = original.seal(OPERATOR)
    assert Grant.open(envelope, OPERATOR.peer_id) == original
    assert len(envelope) <= MAX_GRANT
    assert original.seal(OPERATOR) == envelope


def test_a_grant_of_somebody_else_is_none() -> None:
    with pytest.raises(DecodeError, match="not signed by this network's operator"):
        Grant.open(GRANT.seal(OTHER_OPERATOR), OPERATOR.peer_id)
    with pytest.raises(DecodeError):
        # the operator's signature over something else
        Grant.open(seal_redemption(OPERATOR, DEVICE.peer_id), OPERATOR.peer_id)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        protobuf.blob(1, bytes(15)),
        protobuf.blob(1, bytes(16)) + protobuf.blob(2, bytes(31)),
        protobuf.blob(1, bytes(16)) + protobuf.blob(2, bytes(32)) + protobuf.uint(4, 2),
        protobuf.blob(1, bytes(16))
        + protobuf.blob(2, bytes(32))
        + protobuf.uint(4, 0)
        + protobuf.blob(3, b"a b"),
        protobuf.blob(1, bytes(16)) + protobuf.blob(2, bytes(32)) + protobuf.uint(4, 0) + protobuf.uint(5, 1),
        protobuf.blob(1, bytes(16))
        + protobuf.blob(2, bytes(32))
        + protobuf.uint(4, 0)
        + protobuf.uint(6, 1)
        + protobuf.uint(7, MAX_TIME + 1),
        protobuf.blob(1, bytes(16))
        + protobuf.blob(2, bytes(32))
        + protobuf.uint(4, 0)
        + protobuf.blob(5, b"x") * 17
        + protobuf.uint(6, 1)
        + protobuf.uint(7, 2),
    ],
)
def test_a_grant_that_lacks_something_is_none(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        Grant.open(seal(OPERATOR, "bethrou-grant", b"/bethrou/grant", payload), OPERATOR.peer_id)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GRANT, role="king"),
        replace(GRANT, name="a b"),
        replace(GRANT, exits=("a",) * 17),
        replace(GRANT, key=PeerId.parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")),
    ],
)
def test_what_would_not_be_read_is_not_signed(wrong: Grant) -> None:
    with pytest.raises(ValueError, match="grant"):
        wrong.seal(OPERATOR)


def test_only_the_holder_of_the_invite_redeems_it() -> None:
    assert open_redemption(seal_redemption(SECRET, DEVICE.peer_id), GRANT) == DEVICE.peer_id
    for signer in (DEVICE, NODE_A, OPERATOR, THIEF):
        with pytest.raises(DecodeError, match="not signed by the key of the invite"):
            open_redemption(seal_redemption(signer, DEVICE.peer_id), GRANT)


def test_an_admission_says_who_was_let_in_and_by_whom() -> None:
    found = Admission.open(admission(granted=grant(role=NODE)), OPERATOR.peer_id)
    assert (found.peer, found.node, found.time) == (DEVICE.peer_id, NODE_A.peer_id, NOW + 10)
    assert found.grant.role == NODE
    assert len(admission()) < 700


@pytest.mark.parametrize("time", [NOW - CLOCK_SKEW - 1, NOW + 3600, NOW + 10**6])
def test_an_admission_before_or_after_its_time_is_none(time: int) -> None:
    with pytest.raises(DecodeError, match="not valid"):
        Admission.open(admission(time=time), OPERATOR.peer_id)


def test_an_admission_without_the_operators_grant_is_none() -> None:
    with pytest.raises(DecodeError, match="operator"):
        Admission.open(admission(operator=NODE_A), OPERATOR.peer_id)


def test_a_node_cannot_turn_a_redemption_to_somebody_else() -> None:
    forged = Admission.seal(NODE_A, GRANT.seal(OPERATOR), seal_redemption(NODE_A, THIEF.peer_id), NOW)
    with pytest.raises(DecodeError, match="key of the invite"):
        Admission.open(forged, OPERATOR.peer_id)
    other = grant(THIEF).seal(OPERATOR)
    mixed = Admission.seal(NODE_A, other, seal_redemption(SECRET, DEVICE.peer_id), NOW)
    with pytest.raises(DecodeError, match="key of the invite"):
        Admission.open(mixed, OPERATOR.peer_id)


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    envelope = data.draw(st.sampled_from([GRANT.seal(OPERATOR), admission()]))
    place = data.draw(st.integers(0, len(envelope) - 1))
    changed = bytearray(envelope)
    changed[place] ^= data.draw(st.integers(1, 255))
    opened = Grant.open if envelope == GRANT.seal(OPERATOR) else Admission.open
    with contextlib.suppress(DecodeError):
        # what no signature covers (unknown fields, order) may change; what it says may not
        assert opened(bytes(changed), OPERATOR.peer_id) == opened(envelope, OPERATOR.peer_id)  # type: ignore[operator]


@given(st.binary(max_size=MAX_ADMISSION + 1))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for read in (
        lambda: Grant.open(data, OPERATOR.peer_id),
        lambda: Admission.open(data, OPERATOR.peer_id),
        lambda: open_redemption(data, GRANT),
        lambda: Grant.open(seal(OPERATOR, "bethrou-grant", b"/bethrou/grant", data), OPERATOR.peer_id),
        lambda: Admission.open(
            seal(NODE_A, "bethrou-admission", b"/bethrou/admission", data), OPERATOR.peer_id
        ),
        lambda: open_redemption(seal(SECRET, "bethrou-redemption", b"/bethrou/redemption", data), GRANT),
    ):
        with contextlib.suppress(DecodeError):
            read()


@pytest.mark.parametrize("limit", [MAX_GRANT, MAX_REDEMPTION])
def test_envelopes_are_bounded(limit: int) -> None:
    envelope = GRANT.seal(OPERATOR) if limit == MAX_GRANT else seal_redemption(SECRET, DEVICE.peer_id)
    padded = envelope + protobuf.blob(99, bytes(limit - len(envelope)))
    with pytest.raises(DecodeError, match="longer"):
        Grant.open(padded, OPERATOR.peer_id) if limit == MAX_GRANT else open_redemption(padded, GRANT)


def test_nothing_shows_a_secret() -> None:
    assert KEY.raw.hex() not in repr(GRANT) + repr(Admission.open(admission(), OPERATOR.peer_id))
