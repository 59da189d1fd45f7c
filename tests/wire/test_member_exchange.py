"""The messages by which lists and invites travel: whole, cut anywhere, and wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import varint
from bethrou.wire.grant import seal_redemption
from bethrou.wire.join_message import (
    MAX_MESSAGE,
    JoinRequest,
    Refusal,
    decode_answer,
    encode_admission,
    encode_refusal,
)
from bethrou.wire.json_reader import PrefixedJsonReader, encode_prefixed
from bethrou.wire.member_exchange import (
    END,
    MAX_HEADER,
    Header,
    Kind,
    MessageReader,
    Standing,
    digest,
    encode_item,
)
from live.operator import DEVICE, OPERATOR, SECRET, admission, grant, member_list

from .support import CUTS, byte_by_byte, cut

LIST, ADMISSION = member_list().seal(OPERATOR), admission()
HEADER = Header(7, digest([ADMISSION]), ADMISSION, Standing.REMOVED)
SIDE = HEADER.encode() + encode_item(Kind.LIST, LIST) + encode_item(Kind.ADMISSION, ADMISSION) + END
Found = list[Header | tuple[Kind, bytes] | bytes]


def read(chunks: list[bytes], reader: MessageReader | None = None) -> Found:
    """A header and all items behind it."""
    reader = reader or MessageReader()
    found: Found = []
    for chunk in chunks:
        reader.receive(chunk)
        while (message := reader.item() if found else reader.header()) is not None:
            found.append(message)
    return found


@given(CUTS)
def test_one_side_of_a_conversation_is_read_however_it_is_cut(cuts: list[int]) -> None:
    expected: Found = [HEADER, (Kind.LIST, LIST), (Kind.ADMISSION, ADMISSION), b""]
    assert read(cut(SIDE, cuts)) == expected
    assert read(byte_by_byte(SIDE)) == expected


def test_a_header_needs_no_admission() -> None:
    header = Header(0, digest([]))
    assert read([header.encode()]) == [header]
    assert header.encode()[1:] == (
        b'{"serial":0,"admissions":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","you":"member"}'
    )


def test_the_digest_does_not_depend_on_an_order() -> None:
    assert digest([b"a", b"b"]) == digest([b"b", b"a"]) != digest([b"a"])


@pytest.mark.parametrize(
    "wrong",
    [
        varint.encode(MAX_HEADER + 1),
        encode_prefixed({}),
        encode_prefixed({"serial": "1"}),
        encode_prefixed({"serial": 1, "admission": "not base64!"}),
        encode_prefixed({"serial": 1, "admission": 5}),
        HEADER.encode() + varint.encode(1 << 40),
        HEADER.encode() + b"\x02\x07x" * 3,
        HEADER.encode() + encode_item(Kind.LIST, LIST) * 2,
        HEADER.encode() + encode_item(Kind.ADMISSION, ADMISSION) * 3,
        HEADER.encode() + varint.encode(4098) + b"\x02" + bytes(4097),
    ],
)
def test_what_breaks_the_rules_is_refused(wrong: bytes) -> None:
    with pytest.raises(DecodeError):
        read([wrong], MessageReader(admissions=2))


def test_what_a_later_version_tells_is_passed_over() -> None:
    side = HEADER.encode() + b"\x02\x07x" + encode_item(Kind.LIST, LIST) + b"\x02\x08y" + END
    assert read([side]) == [HEADER, (Kind.LIST, LIST), b""]


def test_too_long_an_item_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_item(Kind.ADMISSION, bytes(4097))


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused_or_read(data: bytes, behind_header: bool) -> None:
    with contextlib.suppress(DecodeError):
        read([(HEADER.encode() if behind_header else b"") + data])


def message(encoded: bytes) -> dict[str, object]:
    found = PrefixedJsonReader(MAX_MESSAGE).receive(encoded)
    assert found is not None
    return found


def test_joining_is_a_request_and_an_answer() -> None:
    request = JoinRequest(grant().seal(OPERATOR), seal_redemption(SECRET, DEVICE.peer_id))
    assert JoinRequest.decode(message(request.encode())) == request
    assert decode_answer(message(encode_admission(ADMISSION))) == ADMISSION
    for refusal in Refusal:
        assert decode_answer(message(encode_refusal(refusal, "because"))) == (refusal, "because")
    assert decode_answer({"status": "error", "code": "of a later version"}) == (Refusal.UNABLE, "")


@pytest.mark.parametrize(
    "wrong", [{}, {"status": "well"}, {"status": "ok"}, {"status": "ok", "admission": "?"}]
)
def test_an_answer_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        decode_answer(wrong)
    with pytest.raises(DecodeError):
        JoinRequest.decode(wrong)
