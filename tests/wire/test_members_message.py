import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire.envelope import MAX_ENVELOPE
from bethrou.wire.members_message import MAX_RECORDS, PROTOCOL, RecordReader, encode_record

from .support import CUTS, byte_by_byte, cut

ENVELOPES = st.lists(st.binary(max_size=300), max_size=8)


def records(reader: RecordReader, chunks: list[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        envelope = reader.receive(chunk)
        while envelope is not None:
            yield envelope
            envelope = reader.receive()


def read(reader: RecordReader, chunks: list[bytes]) -> list[bytes]:
    return list(records(reader, chunks))


def test_on_the_wire() -> None:
    assert PROTOCOL == "/bethrou/members/1.0.0"
    assert encode_record() == b"\x00"
    assert encode_record(b"abc") == b"\x03abc"
    assert encode_record(bytes(300)) == b"\xac\x02" + bytes(300)


@given(ENVELOPES, CUTS)
def test_any_chunking_gives_the_same_records(envelopes: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(encode_record, envelopes))
    for chunks in (cut(data, cuts), byte_by_byte(data)):
        reader = RecordReader()
        assert read(reader, chunks) == envelopes
        reader.eof()


def test_an_end_in_the_middle_is_damage() -> None:
    data = encode_record(bytes(200))
    for place in range(1, len(data)):
        reader = RecordReader()
        assert read(reader, [data[:place]]) == []
        with pytest.raises(DecodeError, match="in the middle"):
            reader.eof()


def test_a_long_envelope_is_refused_at_its_length() -> None:
    longest = bytes(MAX_ENVELOPE)
    assert read(RecordReader(), [encode_record(longest)]) == [longest]
    with pytest.raises(ValueError, match="16384 bytes"):
        encode_record(longest + b"x")
    for length in (b"\x81\x80\x01", b"\xff" * 8 + b"\x7f", b"\xff" * 10, b"\x80\x00"):
        reader = RecordReader()
        assert read(reader, [b"\x01a"]) == [b"a"]
        with pytest.raises(DecodeError):
            read(reader, byte_by_byte(length))


@pytest.mark.parametrize("limit", [1, 5])
def test_no_more_records_than_may_come(limit: int) -> None:
    data = encode_record(b"a") * limit
    for chunks in ([data + b"\x00"], byte_by_byte(data + b"\x00"), [data, b"\x05"]):
        reader = RecordReader(limit)
        found: list[bytes] = []
        with pytest.raises(DecodeError, match="more node records"):
            found.extend(records(reader, chunks))
        assert found == [b"a"] * limit


def test_an_answer_has_at_most_4096_records() -> None:
    reader = RecordReader()
    assert len(read(reader, [encode_record() * MAX_RECORDS])) == 4096
    reader.eof()
    with pytest.raises(DecodeError):
        reader.receive(b"\x00")


@given(st.binary(max_size=400), CUTS)
def test_random_bytes_only_raise_decode_errors(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(DecodeError):
        read(RecordReader(3), cut(data, cuts))
