import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import KeyFileError
from bethrou.wire.psk import NetworkKey

from .support import load

VECTORS = load("psk_files.json")
KEY = bytes.fromhex(VECTORS["fingerprint"]["key"])
KEYS = st.binary(min_size=32, max_size=32)
HEADER = b"/key/swarm/psk/1.0.0/\n"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["note"])
def test_files_as_go_reads_them(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["file"])
    if "key" in case:
        assert NetworkKey.parse(data).raw.hex() == case["key"]
        return
    with pytest.raises(KeyFileError):
        NetworkKey.parse(data)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("base64 without padding", "truncated: it has 43 base64 characters"),
        ("bin, 31 bytes", "truncated: it has 31 bytes"),
        ("62 hex digits", "truncated: it has 62 hex digits, 64 are needed"),
        ("space before the key", "space or line break at its character 1;"),
        ("space behind the encoding", "spaces around its second line"),
        ("space before the header", "spaces around its first line"),
        ("space behind the header", "spaces around its first line"),
        ("empty encoding line", "lacks its second line"),
        ("unknown encoding", "unknown encoding /base32/"),
        ("bare key without header", "lacks the two lines before it"),
        ("empty file", "is empty"),
        ("header without its last slash", "no swarm key file"),
        ("hex split over two lines", "space or line break at its character 33;"),
        ("UTF-8 BOM", "byte order mark"),
        ("bad hex digit", "character at place 61 that is no hex digit"),
    ],
)
def test_refusals_name_the_problem(note: str, reason: str) -> None:
    case = next(case for case in VECTORS["cases"] if case["note"] == note)
    with pytest.raises(KeyFileError, match=reason):
        NetworkKey.parse(bytes.fromhex(case["file"]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEADER, "lacks its second line"),
        (HEADER + b"/base16/", "truncated: it has 0 hex digits"),
        (HEADER + b"/base64/\n" + b"!" * 44, "no base64 digit"),
        (HEADER + b"/base64/\n" + b"A" * 42 + b"==", "31 bytes"),
        (HEADER + b"/bin/\n", "0 bytes"),
        (HEADER.decode().encode("utf-16"), "byte order mark"),
        (b"x" * 70000, "longer than"),
    ],
)
def test_more_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        NetworkKey.parse(data)


def test_fingerprint_as_other_implementations_print_it() -> None:
    key = NetworkKey(KEY)
    assert key.fingerprint == VECTORS["fingerprint"]["fingerprint"]
    assert repr(key) == f"NetworkKey(fingerprint={key.fingerprint})"


@given(KEYS, KEYS)
def test_equal_only_with_the_same_key(one: bytes, other: bytes) -> None:
    assert (NetworkKey(one) == NetworkKey(other)) == (one == other)
    assert hash(NetworkKey(one)) == hash(NetworkKey(bytes(one)))


@given(KEYS)
def test_written_files_read_back(raw: bytes) -> None:
    key = NetworkKey(raw)
    assert key.format() == HEADER + b"/base16/\n" + raw.hex().encode() + b"\n"
    assert NetworkKey.parse(key.format()) == key
    assert raw.hex() not in repr(key)


def test_generate_uses_the_given_randomness() -> None:
    assert NetworkKey.generate(lambda count: KEY[:count]).raw == KEY


@pytest.mark.parametrize("size", [0, 31, 33])
def test_wrong_sizes_are_a_local_mistake(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NetworkKey(bytes(size))


@given(st.integers(0, 120), st.integers(0, 255))
def test_no_error_shows_the_key(place: int, value: int) -> None:
    data = bytearray(NetworkKey(KEY).format())
    data[place % len(data)] = value
    try:
        NetworkKey.parse(bytes(data))
    except KeyFileError as error:
        assert KEY.hex()[:8] not in str(error)
        assert KEY.hex()[-8:] not in str(error)


@given(
    st.binary(max_size=100), st.sampled_from([b"", HEADER, HEADER + b"/base16/\n", HEADER + b"/base64/\n"])
)
def test_random_files_only_raise_key_file_errors(data: bytes, start: bytes) -> None:
    with contextlib.suppress(KeyFileError):
        NetworkKey.parse(start + data)
