import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import MuxerError
from bethrou.wire.yamux.frame import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    FrameReader,
    header,
)
from wire.support import CUTS, byte_by_byte, cut, sessions

from .frames import Read, data, joined, read

IDS = st.sampled_from([0, 1, 2, 3, 4, 2**32 - 1])
FLAGS = st.integers(0, 15)
FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(DATA), FLAGS, IDS, st.binary(max_size=60)),
        st.tuples(st.sampled_from([WINDOW_UPDATE, PING, GO_AWAY]), FLAGS, IDS, st.integers(0, 2**32 - 1)),
    ),
    max_size=8,
)


def written(kind: int, flags: int, stream: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return header(kind, flags, stream, value)
    return header(kind, flags, stream, len(value)) + value


def test_a_header() -> None:
    assert header(DATA, SYN | FIN, 0x01020304, 0x0A0B0C0D).hex() == "00000005010203040a0b0c0d"
    assert header(WINDOW_UPDATE, ACK, 2, 0).hex() == "000100020000000200000000"


def test_whole_frames() -> None:
    wire = data(1, b"hello", SYN) + header(PING, SYN, 0, 7) + data(1, b"", FIN) + header(GO_AWAY, 0, 0, 2)
    assert read(wire) == [
        (DATA, SYN, 1, 5, b"hello"),
        (PING, SYN, 0, 7, b""),
        (DATA, FIN, 1, 0, b""),
        (GO_AWAY, 0, 0, 2, b""),
    ]


def test_flags_that_begin_stand_on_the_first_piece_and_those_that_end_on_the_last() -> None:
    wire = data(2, b"abcdef", SYN | ACK | FIN | RST)
    assert read(wire[:13], wire[13:15], wire[15:]) == [
        (DATA, SYN | ACK, 2, 1, b"a"),
        (DATA, 0, 2, 2, b"bc"),
        (DATA, FIN | RST, 2, 3, b"def"),
    ]


def test_a_cut_right_behind_the_header() -> None:
    wire = data(2, b"abc", SYN | FIN)
    assert read(wire[:12], wire[12:]) == [(DATA, SYN, 2, 0, b""), (DATA, FIN, 2, 3, b"abc")]
    wire += data(2, b"de")
    assert joined(read(wire[:11], wire[11:12], wire[12:])) == [(DATA, SYN | FIN, 2, b"abcde")]


@given(FRAMES, CUTS)
def test_any_cut_means_the_same(frames: list[tuple[int, int, int, bytes | int]], cuts: list[int]) -> None:
    wire = b"".join(written(*frame) for frame in frames)
    whole = joined(read(wire))
    assert joined(read(*cut(wire, cuts))) == whole
    assert joined(read(*byte_by_byte(wire))) == whole
    lengths = sum(len(value) for *_, value in frames if isinstance(value, bytes))
    assert sum(length for kind, _, _, length, _ in read(*cut(wire, cuts)) if kind == DATA) == lengths


@given(FRAMES, CUTS)
def test_each_flag_is_reported_exactly_once(
    frames: list[tuple[int, int, int, bytes | int]], cuts: list[int]
) -> None:
    wire = b"".join(written(*frame) for frame in frames)
    for flag in (SYN, ACK, FIN, RST):
        expected = sum(bool(flags & flag) for _, flags, _, _ in frames)
        assert sum(bool(flags & flag) for _, flags, _, _, _ in read(*cut(wire, cuts))) == expected


def test_recorded_connections() -> None:
    for _name, session in sessions():
        for direction in "<>":
            frames: list[Read] = [
                (kind, flags, stream, length, bytes.fromhex(payload))
                for way, kind, flags, stream, length, payload in session["yamux"]
                if way == direction
            ]
            wire = b"".join(header(*frame[:4]) + frame[4] for frame in frames)
            assert read(wire) == frames


@pytest.mark.parametrize(
    "start",
    [b"\x01\x00", b"\xff\x00", b"\x00\x04", b"\x00\xff", b"\x13/", b"GE"],
    ids=["version 1", "version 255", "type 4", "type 255", "multistream", "HTTP"],
)
def test_what_is_not_yamux(start: bytes) -> None:
    wire = start + bytes(10)
    with pytest.raises(MuxerError, match="not Yamux") as caught:
        read(wire)
    assert caught.value.code == 1
    with pytest.raises(MuxerError, match="not Yamux"):
        read(*byte_by_byte(wire))


def test_frames_in_front_of_a_broken_one_are_reported() -> None:
    reader = FrameReader()
    seen = []
    with pytest.raises(MuxerError):
        for frame in reader.read(memoryview(data(1, b"good") + b"\x09" + bytes(11))):
            seen.append(frame[0])  # noqa: PERF401  # what came before the error counts
    assert seen == [DATA]


def test_unknown_flags_do_no_harm() -> None:
    assert read(header(WINDOW_UPDATE, 0xFFF0, 1, 5)) == [(WINDOW_UPDATE, 0xFFF0, 1, 5, b"")]


def test_a_frame_of_any_length_costs_no_memory() -> None:
    reader = FrameReader()
    chunk = memoryview(bytes(65536))
    tracemalloc.start()
    try:
        list(reader.read(memoryview(header(DATA, FIN, 1, 2**32 - 1))))
        received = 0
        while received + len(chunk) < 2**27:
            received += sum(frame[3] for frame in reader.read(chunk))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received == 2**27 - len(chunk)
    assert peak < 10_000
