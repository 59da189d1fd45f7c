import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.wire.pnet import NONCE_SIZE, ROOM, Keystream, address_of
from bethrou.wire.salsa20_library import Cipher, Salsa20, choose_salsa20, load_pycryptodome

from .libraries import LIBSODIUM, no_libsodium, with_each_library
from .support import CUTS, byte_by_byte, cut, load, sessions

CASES = load("xsalsa20.json")["cases"]
RECORDED = [(name, session) for name, session in sessions() if "pnet_plain" in session]
KEY = bytes(range(32))
NONCE = bytes(range(100, 100 + NONCE_SIZE))


def keystream(case: dict[str, Any], salsa20: Salsa20) -> Keystream:
    return Keystream(bytes.fromhex(case["key"]), bytes.fromhex(case["nonce"]), salsa20)


def salsa20_rounds(words: list[int]) -> list[int]:
    """The 20 rounds of Salsa20 (Bernstein's specification, sections 3 to 8), without the final addition."""
    x = list(words)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for target, first, second, shift in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
            total = (x[first] + x[second]) & 0xFFFFFFFF
            x[target] ^= (total << shift | total >> (32 - shift)) & 0xFFFFFFFF

    for _ in range(10):
        for place in ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)):
            quarter(*place)
        for place in ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)):
            quarter(*place)
    return x


def slow_block(key: bytes, nonce: bytes, counter: int) -> bytes:
    """One 64-byte block of XSalsa20, straight from the papers."""
    constants = struct.unpack("<4I", b"expand 32-byte k")

    def layout(key: bytes, middle: bytes) -> list[int]:
        k, m = struct.unpack("<8I", key), struct.unpack("<4I", middle)
        return [constants[0], *k[:4], constants[1], *m, constants[2], *k[4:], constants[3]]

    mixed = salsa20_rounds(layout(key, nonce[:16]))
    subkey = struct.pack("<8I", *(mixed[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))
    words = layout(subkey, nonce[16:] + struct.pack("<Q", counter))
    added = [(a + b) & 0xFFFFFFFF for a, b in zip(words, salsa20_rounds(words), strict=True)]
    return struct.pack("<16I", *added)


@with_each_library
@pytest.mark.parametrize("case", CASES)
def test_the_keystream_is_that_of_go(case: dict[str, Any], salsa20: Salsa20) -> None:
    for spot in case["keystream_at"]:
        stream = keystream(case, salsa20)
        stream.xor(bytes(spot["offset"]))
        assert stream.position == spot["offset"]
        assert stream.xor(bytes(64)).hex() == spot["keystream"]


@with_each_library
@pytest.mark.parametrize("case", CASES)
def test_consecutive_writes_go_on_where_the_last_one_ended(case: dict[str, Any], salsa20: Salsa20) -> None:
    stream = keystream(case, salsa20)
    for write in case["consecutive_writes"]:
        assert stream.xor(bytes.fromhex(write["plain"])).hex() == write["cipher"]


@pytest.mark.parametrize("chunk", [1, 3, 63, 64, 65, 100])
@with_each_library
@pytest.mark.parametrize("case", CASES)
def test_other_cuts_give_the_same_bytes(case: dict[str, Any], chunk: int, salsa20: Salsa20) -> None:
    plain = b"".join(bytes.fromhex(write["plain"]) for write in case["consecutive_writes"])
    cipher = b"".join(bytes.fromhex(write["cipher"]) for write in case["consecutive_writes"])
    stream = keystream(case, salsa20)
    assert b"".join(stream.xor(plain[i : i + chunk]) for i in range(0, len(plain), chunk)) == cipher


@with_each_library
@pytest.mark.parametrize(("name", "session"), RECORDED, ids=[name for name, _ in RECORDED])
def test_recorded_connections_in_both_directions(
    name: str, session: dict[str, Any], salsa20: Salsa20
) -> None:
    key = bytes.fromhex(load(f"{name.partition('.')[0]}.json")["psk"])
    for direction in "<>":
        wire = bytes.fromhex("".join(data for way, data in session["raw"] if way == direction))
        expected = bytes.fromhex("".join(data for way, data in session["pnet_plain"] if way == direction))
        stream = Keystream(key, wire[:NONCE_SIZE], salsa20)
        assert b"".join(map(stream.xor, byte_by_byte(wire[NONCE_SIZE:]))) == expected


@with_each_library
@given(data=st.binary(max_size=2000), cuts=CUTS)
def test_any_cut_gives_the_same_bytes_whichever_way_it_is_done(
    data: bytes, cuts: list[int], salsa20: Salsa20
) -> None:
    whole = Keystream(KEY, NONCE, salsa20).xor(data)
    small, in_place, sealed = (Keystream(KEY, NONCE, salsa20) for _ in range(3))
    result = b""
    for piece in cut(data, cuts):
        start = ROOM + 5
        front = bytes(range(start))
        kept = bytearray(front + piece + b"behind")
        in_place.xor_in_place(kept, address_of(kept), start, start + len(piece))
        assert kept[:start] == front
        assert kept[-6:] == b"behind"
        spoiled = bytearray(front + piece + b"behind")
        sealed.xor_sealed(address_of(spoiled), start, start + len(piece))
        assert spoiled[: start - 63] == front[: start - 63]
        assert spoiled[-6:] == b"behind"
        expected = small.xor(piece)
        assert kept[start:-6] == spoiled[start:-6] == expected
        result += expected
    assert result == whole
    assert small.position == in_place.position == sealed.position == len(data)
    assert Keystream(KEY, NONCE, salsa20).xor(whole) == data


# 256 GiB over one connection is some minutes' work for a fast one.
FAR_BLOCKS = (0, 1, 2**32 - 1, 2**32, 2**40)


@pytest.mark.parametrize("block", FAR_BLOCKS)
def test_the_block_counter_has_64_bits(block: int) -> None:
    stream = Keystream(KEY, NONCE, LIBSODIUM)
    stream._position = 64 * block + 7
    expected = slow_block(KEY, NONCE, block)[7:] + slow_block(KEY, NONCE, block + 1)
    assert stream.xor(bytes(len(expected))) == expected


@pytest.mark.parametrize("block", FAR_BLOCKS)
def test_the_block_counter_of_pycryptodome_has_64_bits(block: int) -> None:
    start = 0

    def far_on(key: bytes, nonce: bytes) -> Cipher:
        cipher: Any = load_pycryptodome()(key, nonce)
        cipher.seek(start)
        return cipher

    salsa20 = choose_salsa20(no_libsodium, lambda: far_on)
    start = 64 * block
    stream = Keystream(KEY, NONCE, salsa20)
    expected = slow_block(KEY, NONCE, block) + slow_block(KEY, NONCE, block + 1)
    assert stream.xor(bytes(7)) + stream.xor(bytes(121)) == expected


def test_keys_and_nonces_of_other_sizes_are_refused() -> None:
    for key, nonce in [(KEY[:31], NONCE), (KEY + b"x", NONCE), (KEY, NONCE[:8]), (KEY, NONCE + b"x")]:
        with pytest.raises(ValueError, match="32 bytes"):
            Keystream(key, nonce)


def test_the_key_is_not_shown() -> None:
    assert KEY.hex() not in repr(Keystream(KEY, NONCE))
