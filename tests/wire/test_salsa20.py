import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.wire.salsa20 import first_block, hsalsa20

from .libraries import LIBSODIUM, PYCRYPTODOME

KEYS = st.binary(min_size=32, max_size=32)


def xored_by_pycryptodome(key: bytes, nonce: bytes, size: int) -> bytes:
    from Crypto.Cipher import Salsa20

    return Salsa20.new(key, nonce).encrypt(bytes(size))


def test_the_first_block_is_that_of_estream() -> None:
    # eSTREAM, Salsa20/20 with 256 bits, set 1, vector 0
    key = b"\x80" + bytes(31)
    assert first_block(key, bytes(8)).hex() == (
        "e3be8fdd8beca2e3ea8ef9475b29a6e7003951e1097a5c38d23b7a5fad9f6844"
        "b22c97559e2723c7cbbd3fe4fc8d9a0744652a83e72a9c461876af4d7ef1a117"
    )


@pytest.mark.parametrize(
    ("key", "nonce", "subkey"),
    [
        # "Cryptography in NaCl", sections 8 and 9
        (
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
            "00000000000000000000000000000000",
            "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389",
        ),
        (
            "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389",
            "69696ee955b62b73cd62bda875fc73d6",
            "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4",
        ),
    ],
)
def test_hsalsa20_is_that_of_nacl(key: str, nonce: str, subkey: str) -> None:
    assert hsalsa20(bytes.fromhex(key), bytes.fromhex(nonce)).hex() == subkey


@given(KEYS, st.binary(min_size=16, max_size=16))
def test_hsalsa20_is_that_of_libsodium(key: bytes, nonce: bytes) -> None:
    assert hsalsa20(key, nonce) == LIBSODIUM.subkey(key, nonce) == PYCRYPTODOME.subkey(key, nonce)


@given(KEYS, st.binary(min_size=8, max_size=8))
def test_the_first_block_is_that_of_pycryptodome(key: bytes, nonce: bytes) -> None:
    assert first_block(key, nonce) == xored_by_pycryptodome(key, nonce, 64)
