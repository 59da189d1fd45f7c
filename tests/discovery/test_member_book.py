"""Who belongs to the network: what was stolen, replayed, altered or made up gets nobody in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.discovery.member_book import MemberBook
from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.grant import CLOCK_SKEW, NODE, Admission
from bethrou.wire.member_exchange import Kind, Standing
from bethrou.wire.member_list import Member, Removed
from live.operator import (
    DEVICE,
    KEY,
    NODE_A,
    NODE_B,
    NOW,
    OPERATOR,
    OTHER_OPERATOR,
    SECRET,
    THIEF,
    admission,
    grant,
    identity,
    member_list,
)

A = Member(NODE_A.peer_id, "a", NODE)
LAPTOP = Member(DEVICE.peer_id, "laptop", "client", (), SECRET.peer_id)


class Book(MemberBook):
    """A book that says which admissions it has thrown out."""

    def __init__(self, now: float = NOW + 60) -> None:
        self.thrown_out: list[Admission] = []
        super().__init__(OPERATOR.peer_id, KEY.fingerprint, lambda: now, self.thrown_out.append)

    def takes(self, *items: bytes) -> bool:
        """Lists and admissions, told apart by trying."""
        return self.take(
            [(Kind.LIST if b"/bethrou/member-list" in item else Kind.ADMISSION, item) for item in items]
        )


def sealed(serial: int = 1, members: tuple[Member, ...] = (A,), removed: tuple[Removed, ...] = ()) -> bytes:
    return member_list(serial, members, removed).seal(OPERATOR)


def book(*items: bytes) -> Book:
    made = Book()
    made.takes(*items)
    return made


def test_without_a_list_only_the_operator_is_known() -> None:
    empty = Book()
    assert empty.standing(OPERATOR.peer_id) is Standing.MEMBER
    assert empty.standing(NODE_A.peer_id) is Standing.UNKNOWN
    assert (empty.serial, empty.missing(0, empty.digest)) == (0, [])


def test_a_list_says_who_belongs_and_a_newer_one_says_it_anew() -> None:
    known = book(sealed(1, (A, LAPTOP)))
    assert known.standing(DEVICE.peer_id) is Standing.MEMBER
    assert known.is_node(NODE_A.peer_id)
    assert not known.is_node(DEVICE.peer_id)
    assert known.takes(sealed(2, (A,), (Removed(DEVICE.peer_id, SECRET.peer_id),)))
    assert known.standing(DEVICE.peer_id) is Standing.REMOVED


def test_an_old_list_that_is_played_again_changes_nothing() -> None:
    old, new = sealed(1, (A, LAPTOP)), sealed(2, (A,), (Removed(DEVICE.peer_id),))
    known = book(new)
    assert not known.takes(old)
    assert not known.takes(new)
    assert known.serial == 2
    assert known.standing(DEVICE.peer_id) is Standing.REMOVED


def test_two_lists_of_one_number_lead_everybody_to_the_same() -> None:
    one, other = sealed(2, (A, LAPTOP)), sealed(2, (A,))
    assert book(one, other).list == book(other, one).list


@pytest.mark.parametrize(
    "forged",
    [
        member_list(9, (Member(THIEF.peer_id, "thief", NODE),)).seal(THIEF),
        member_list(9, (Member(THIEF.peer_id, "thief", NODE),)).seal(NODE_A),
        member_list(9, (Member(THIEF.peer_id),)).seal(OTHER_OPERATOR),
        member_list(9, (Member(THIEF.peer_id),), network="00" * 16).seal(OPERATOR),
        admission(THIEF, NODE_A, operator=NODE_A),
        admission(granted=grant(network="00" * 16)),
        sealed(9)[:-1] + bytes([sealed(9)[-1] ^ 1]),
    ],
)
def test_what_the_operator_has_not_signed_is_refused_and_harms_nothing(forged: bytes) -> None:
    known = book(sealed(1, (A, LAPTOP)))
    with pytest.raises(DecodeError):
        known.takes(forged)
    assert known.serial == 1
    assert known.members.keys() == {NODE_A.peer_id, DEVICE.peer_id}


@pytest.mark.parametrize("original", [sealed(), admission()], ids=["list", "admission"])
def test_nobody_can_make_another_envelope_of_what_was_signed(original: bytes) -> None:
    """Each would be news to everybody, and be told on: of two that say the same, one counts by its bytes."""
    known = book(sealed(), admission())
    for altered in (original + protobuf.uint(9, 1), b"\x0a\x00" + original, original + b"\x0a\x00"):
        with pytest.raises(DecodeError):
            known.takes(altered)


def test_an_invite_lets_in_who_has_redeemed_it_at_a_node() -> None:
    known = book(sealed(), admission())
    assert known.members[DEVICE.peer_id] == LAPTOP
    assert known.holder(SECRET.peer_id) == DEVICE.peer_id
    assert known.admission_of(DEVICE.peer_id) == admission()
    assert not known.takes(admission())


def test_an_admission_by_who_is_no_node_counts_nothing() -> None:
    for stranger in (THIEF, DEVICE, NODE_B):
        known = book(sealed(), admission(DEVICE, stranger))
        assert known.standing(DEVICE.peer_id) is Standing.UNKNOWN
    client = identity("client")
    known = book(sealed(1, (A, Member(client.peer_id, "client"))), admission(DEVICE, client))
    assert known.standing(DEVICE.peer_id) is Standing.UNKNOWN


def test_a_node_that_came_by_an_invite_lets_others_in_in_whatever_order_one_hears_of_it() -> None:
    secret = identity("secret of b")
    of_b = admission(NODE_B, NODE_A, granted=grant(secret, role=NODE), secret=secret)
    of_device = admission(DEVICE, NODE_B)
    for order in itertools.permutations([sealed(), of_b, of_device]):
        assert book(*order).standing(DEVICE.peer_id) is Standing.MEMBER


def test_nodes_that_only_vouch_for_each_other_are_none() -> None:
    secrets = identity("one"), identity("two")
    in_a_circle = [
        admission(NODE_A, NODE_B, granted=grant(secrets[0], role=NODE), secret=secrets[0]),
        admission(NODE_B, NODE_A, granted=grant(secrets[1], role=NODE), secret=secrets[1]),
    ]
    assert not book(sealed(1, ()), *in_a_circle).members
    # nor when the node from which they came is removed
    third = identity("third")
    first = Member(third.peer_id, "first", NODE)
    known = book(
        sealed(1, (first,)),
        admission(NODE_A, third, granted=grant(secrets[0], role=NODE), secret=secrets[0]),
        admission(NODE_B, NODE_A, granted=grant(secrets[1], role=NODE), secret=secrets[1]),
    )
    assert known.is_node(NODE_B.peer_id)
    known.takes(sealed(2, (), (Removed(third.peer_id),)))
    assert not known.members


def test_one_invite_lets_one_device_in_the_earlier_one_everywhere() -> None:
    nodes = sealed(1, (A, Member(NODE_B.peer_id, "b", NODE)))
    first, second = admission(DEVICE, NODE_A, time=NOW + 10), admission(THIEF, NODE_B, time=NOW + 11)
    for order in ([first, second], [second, first]):
        known = Book()
        known.takes(nodes)
        for item in order:
            known.takes(item)
        assert known.standing(DEVICE.peer_id) is Standing.MEMBER
        assert known.standing(THIEF.peer_id) is Standing.UNKNOWN
        assert [lost.peer for lost in known.thrown_out] == [THIEF.peer_id]


def test_who_has_stolen_a_used_link_cannot_take_the_place_of_its_device() -> None:
    known = book(sealed(), admission())
    # the thief's own signature, with the earliest time that there is, is not a node's
    assert not known.takes(admission(THIEF, THIEF, time=NOW))
    assert known.standing(THIEF.peer_id) is Standing.UNKNOWN
    assert known.standing(DEVICE.peer_id) is Standing.MEMBER


def test_a_removed_device_does_not_come_back_by_its_invite_nor_anybody_else() -> None:
    known = book(sealed(), admission())
    known.takes(sealed(2, (A,), (Removed(DEVICE.peer_id, SECRET.peer_id),)))
    for late in (admission(), admission(THIEF, NODE_A)):
        assert not known.takes(late)
    assert known.standing(DEVICE.peer_id) is Standing.REMOVED
    assert known.standing(THIEF.peer_id) is Standing.UNKNOWN
    assert not known.admissions


def test_an_invite_that_the_list_knows_as_used_is_used() -> None:
    known = book(sealed(2, (A, LAPTOP)), admission(THIEF, NODE_A))
    assert known.standing(THIEF.peer_id) is Standing.UNKNOWN
    assert known.holder(SECRET.peer_id) == DEVICE.peer_id


def test_a_withdrawn_invite_is_none() -> None:
    known = book(sealed(2, (A,), (Removed(SECRET.peer_id),)), admission())
    assert known.standing(DEVICE.peer_id) is Standing.UNKNOWN


def test_what_a_removed_node_has_let_in_counts_no_more() -> None:
    known = book(sealed(1, (A, Member(NODE_B.peer_id, "b", NODE))), admission(DEVICE, NODE_B))
    known.takes(sealed(2, (A,), (Removed(NODE_B.peer_id),)))
    assert known.standing(DEVICE.peer_id) is Standing.UNKNOWN


def test_an_admission_from_the_future_waits() -> None:
    known = Book(now=NOW)
    known.takes(sealed())
    assert not known.takes(admission(time=NOW + CLOCK_SKEW + 1))
    assert known.takes(admission(time=NOW + CLOCK_SKEW))


def test_a_restart_by_a_clock_that_is_behind_makes_no_invite_good_again() -> None:
    """A machine without a battery begins in 1970, and knows the time a minute later."""
    early = Book(now=0)
    early.decode(book(sealed(), admission()).encode())
    assert early.holder(SECRET.peer_id) == DEVICE.peer_id
    assert early.standing(DEVICE.peer_id) is Standing.MEMBER


def test_a_book_tells_what_another_one_lacks() -> None:
    full = book(sealed(3), admission())
    other = Book()
    other.take(full.missing(other.serial, other.digest))
    assert (other.serial, other.digest, other.members) == (3, full.digest, full.members)
    assert full.missing(other.serial, other.digest) == []


def test_a_book_on_disk_is_verified_like_anything_else() -> None:
    full = book(sealed(3), admission())
    again = Book()
    again.decode(full.encode())
    assert (again.members, again.encode()) == (full.members, full.encode())
    forged = Book()
    with pytest.raises(DecodeError):
        forged.decode(full.encode().replace(b"A", b"B", 1))
    foreign = MemberBook(OTHER_OPERATOR.peer_id, KEY.fingerprint, lambda: NOW)
    with pytest.raises(DecodeError):
        foreign.decode(full.encode())


def test_an_admission_that_is_taken_back_leaves_the_invite_good() -> None:
    known = book(sealed(), admission())
    known.forget(SECRET.peer_id)
    assert known.holder(SECRET.peer_id) is None
    assert known.standing(DEVICE.peer_id) is Standing.UNKNOWN


def test_who_comes_by_two_invites_is_what_the_last_one_says() -> None:
    secret = identity("second invite")
    again = admission(granted=grant(secret, name="other", exits=("eu",)), secret=secret, time=NOW + 20)
    for order in ([admission(), again], [again, admission()]):
        known = book(sealed(), *order)
        assert known.members[DEVICE.peer_id] == Member(
            DEVICE.peer_id, "other", "client", ("eu",), secret.peer_id
        )


_SECRETS = [identity(f"secret {number}") for number in range(3)]
_PEERS = [NODE_A, NODE_B, DEVICE, THIEF]
_ADMISSIONS = [
    admission(peer, node, granted=grant(secret, role=role), secret=secret, time=NOW + time)
    for number, (peer, node, secret, role, time) in enumerate(
        itertools.product(_PEERS, _PEERS, _SECRETS, ("client", NODE), (1, 2))
    )
    if number % 7 == 0
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(_ADMISSIONS), max_size=6), st.randoms(use_true_random=False))
def test_books_that_have_heard_the_same_agree(items: list[bytes], rng: object) -> None:
    """However it came, after they have told each other: as nodes do."""
    one, other = Book(), Book()
    nodes = sealed()
    one.takes(nodes, *items)
    rng.shuffle(items)  # type: ignore[attr-defined]
    other.takes(nodes)
    for item in items:
        other.takes(item)
    for _ in range(4):
        other.take(one.missing(other.serial, other.digest))
        one.take(other.missing(one.serial, one.digest))
    assert one.members == other.members
    assert one.digest == other.digest
