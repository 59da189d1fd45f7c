import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import protobuf

from .support import load

NUMBERS = st.integers(1, 2**29 - 1)
UINTS = st.integers(0, 2**64 - 1)


def test_the_examples_of_the_encoding_guide() -> None:
    assert protobuf.uint(1, 150).hex() == "089601"
    assert protobuf.blob(2, b"testing").hex() == "120774657374696e67"
    assert list(protobuf.fields(bytes.fromhex("089601120774657374696e67"))) == [
        (1, protobuf.VARINT, 150),
        (2, protobuf.BYTES, b"testing"),
    ]


def test_fixed_width_fields() -> None:
    data = protobuf.fixed64(1, 0x1122334455667788) + b"\x15\x01\x00\x00\x00"
    assert data[:9].hex() == "098877665544332211"
    assert list(protobuf.fields(data)) == [
        (1, protobuf.FIXED64, 0x1122334455667788),
        (2, protobuf.FIXED32, 1),
    ]


def test_a_zero_is_written_out() -> None:
    assert protobuf.uint(1, 0) == b"\x08\x00"


def test_length_prefix() -> None:
    assert protobuf.length_prefixed(b"x" * 200) == b"\xc8\x01" + b"x" * 200


def test_padded_varints_are_legal_in_protobuf() -> None:
    assert list(protobuf.fields(b"\x08\x81\x00")) == [(1, protobuf.VARINT, 1)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("08", "inside a varint"),
        ("0880", "inside a varint"),
        ("08ffffffffffffffffff02", "64 bits"),
        ("0880808080808080808080808001", "64 bits"),
        ("1205aabb", "inside a field"),
        ("12ffffffffffffffffff01", "inside a field"),
        ("0911", "inside a field"),
        ("1511", "inside a field"),
        ("0001", "field number 0"),
        ("0b", "wire type 3"),
        ("0c", "wire type 4"),
        ("0f", "wire type 7"),
        ("808080801000", "out of range"),
    ],
)
def test_malformed_messages(data: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        list(protobuf.fields(bytes.fromhex(data)))


def test_the_number_of_fields_is_bounded() -> None:
    assert len(list(protobuf.fields(b"\x08\x00" * protobuf.MAX_FIELDS))) == protobuf.MAX_FIELDS
    with pytest.raises(DecodeError, match="more than"):
        list(protobuf.fields(b"\x08\x00" * (protobuf.MAX_FIELDS + 1)))


@pytest.mark.parametrize("value", [-1, 2**64])
def test_values_outside_64_bits_are_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        protobuf.uint(1, value)


def test_every_recorded_message_reads() -> None:
    for message in load("messages.json")["messages"]:
        list(protobuf.fields(bytes.fromhex(message["hex"])))


@given(st.lists(st.one_of(st.tuples(NUMBERS, UINTS), st.tuples(NUMBERS, st.binary(max_size=200)))))
def test_round_trip(written: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(
        protobuf.uint(number, value) if isinstance(value, int) else protobuf.blob(number, value)
        for number, value in written
    )
    assert [(number, value) for number, _, value in protobuf.fields(memoryview(data))] == written


@given(st.binary(max_size=64))
def test_random_bytes_only_raise_decode_errors(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        list(protobuf.fields(data))
