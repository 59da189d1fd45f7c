import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import varint


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (255, "ff01"), (300, "ac02"), (16384, "808001")],
)
def test_the_examples_of_the_specification(value: int, encoded: str) -> None:
    assert varint.encode(value).hex() == encoded
    assert varint.decode(bytes.fromhex(encoded)) == (value, len(encoded) // 2)


def test_the_largest_value_takes_nine_bytes() -> None:
    encoded = varint.encode(varint.MAX_VALUE)
    assert encoded == b"\xff" * 8 + b"\x7f"
    assert varint.decode(encoded) == (2**63 - 1, 9)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_values_outside_63_bits_are_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="63 bits"):
        varint.encode(value)


@pytest.mark.parametrize("encoded", ["8000", "818000", "ff8000"])
def test_padded_forms_are_refused(encoded: str) -> None:
    with pytest.raises(DecodeError, match="shortest"):
        varint.decode(bytes.fromhex(encoded))


def test_a_tenth_byte_is_refused_before_it_comes() -> None:
    with pytest.raises(DecodeError, match="9 bytes") as caught:
        varint.decode(b"\x80" * 9)
    assert not isinstance(caught.value, varint.Truncated)


@pytest.mark.parametrize("encoded", ["", "80", "ffffffffffffffff"])
def test_missing_bytes_are_told_apart(encoded: str) -> None:
    with pytest.raises(varint.Truncated):
        varint.decode(bytes.fromhex(encoded))


@given(st.integers(0, varint.MAX_VALUE), st.binary(max_size=4), st.binary(max_size=4))
def test_round_trip_at_any_offset(value: int, before: bytes, behind: bytes) -> None:
    encoded = varint.encode(value)
    data = memoryview(before + encoded + behind)
    assert varint.decode(data, len(before)) == (value, len(before) + len(encoded))


@given(st.binary(max_size=12))
def test_whatever_decodes_is_canonical(data: bytes) -> None:
    try:
        value, end = varint.decode(data)
    except DecodeError:
        return
    assert varint.encode(value) == data[:end]
