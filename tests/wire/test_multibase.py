import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import multibase


@pytest.mark.parametrize(
    "text",
    [
        "f796573206d616e692021",
        "F796573206D616E692021",
        "bpfsxgidnmfxgsibb",
        "BPFSXGIDNMFXGSIBB",
        "vf5in683dc5n6i811",
        "tf5in683dc5n6i811",
        "cpfsxgidnmfxgsibb",
        "k2lcpzo5yikidynfl",
        "K2LCPZO5YIKIDYNFL",
        "z7paNL19xttacUY",
        "meWVzIG1hbmkgIQ",
        "MeWVzIG1hbmkgIQ==",
        "ueWVzIG1hbmkgIQ",
        "UeWVzIG1hbmkgIQ==",
    ],
)
def test_the_basic_vectors_of_the_specification(text: str) -> None:
    assert multibase.decode(text) == b"yes mani !"


def test_leading_zero_bytes_survive() -> None:
    assert multibase.decode_base58("112") == b"\0\0\x01"
    assert multibase.encode_base58(b"\0\0\x01") == "112"
    assert multibase.decode("k001") == b"\0\0\x01"


@pytest.mark.parametrize(
    "text", ["", "x", "9123", "z0", "zI", "b1", "fabc", "fxy", "m!", "u+", "k-", "baaaaaa\n"]
)
def test_bad_texts(text: str) -> None:
    with pytest.raises(DecodeError):
        multibase.decode(text)


def test_the_length_is_bounded() -> None:
    with pytest.raises(DecodeError, match="longer"):
        multibase.decode("z" * (multibase.MAX_TEXT + 1))
    with pytest.raises(DecodeError, match="longer"):
        multibase.decode_base58("1" * (multibase.MAX_TEXT + 1))


@given(st.binary(max_size=100))
def test_base58_round_trip(data: bytes) -> None:
    assert multibase.decode_base58(multibase.encode_base58(data)) == data


@given(st.binary(max_size=100))
def test_other_bases_agree_with_the_standard_library(data: bytes) -> None:
    assert multibase.decode("f" + data.hex()) == data
    assert multibase.decode("b" + base64.b32encode(data).decode().rstrip("=").lower()) == data
    assert multibase.decode("u" + base64.urlsafe_b64encode(data).decode().rstrip("=")) == data


@given(st.text(max_size=40))
def test_random_text_only_raises_decode_errors(text: str) -> None:
    for read in (multibase.decode, multibase.decode_base58):
        with contextlib.suppress(DecodeError):
            read(text)
