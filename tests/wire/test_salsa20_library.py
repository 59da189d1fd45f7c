import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from bethrou.errors import UserError
from bethrou.wire.pnet import NONCE_SIZE, Keystream
from bethrou.wire.salsa20_library import (
    Cipher,
    NewCipher,
    best_salsa20,
    choose_salsa20,
    load_libsodium,
    load_pycryptodome,
)

from .libraries import LIBSODIUM, PYCRYPTODOME, no_libsodium, no_pycryptodome

NEEDED = ("sodium_init", "crypto_stream_salsa20_xor_ic", "crypto_core_hsalsa20")


class Library(SimpleNamespace):
    """A library whose functions do nothing, and which lacks one of them if so told."""

    def __init__(self, lacking: str = "") -> None:
        super().__init__(**{name: lambda *_: 0 for name in NEEDED if name != lacking})


class Idle:
    """A cipher that encrypts nothing."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        pass

    def encrypt(self, plaintext: bytes, /) -> bytes:
        return plaintext


def given(library: Any) -> Any:
    return lambda: library


def raising(error: Exception) -> Any:
    def load() -> Any:
        raise error

    return load


def test_libsodium_comes_first() -> None:
    chosen = choose_salsa20(load_libsodium, load_pycryptodome)
    assert not chosen.shortcoming
    # nothing of ours stands between a record and the library
    assert isinstance(chosen.open(bytes(32), bytes(8)), ctypes._CFuncPtr)
    assert not best_salsa20().shortcoming


def test_libsodium_alone_is_enough() -> None:
    assert not choose_salsa20(load_libsodium, no_pycryptodome).shortcoming


@pytest.mark.parametrize(
    "error", [OSError("not a library"), ImportError("no nacl"), AttributeError("no file")]
)
def test_pycryptodome_serves_where_libsodium_cannot_be_loaded(error: Exception) -> None:
    chosen = choose_salsa20(raising(error), load_pycryptodome)
    assert chosen.shortcoming == f"libsodium cannot be used: {error}"


@pytest.mark.parametrize("lacking", NEEDED)
def test_pycryptodome_serves_where_libsodium_lacks_a_function(lacking: str) -> None:
    assert lacking in choose_salsa20(given(Library(lacking)), load_pycryptodome).shortcoming


def test_a_real_library_without_salsa20_is_seen_as_such() -> None:
    chosen = choose_salsa20(lambda: ctypes.CDLL(None), load_pycryptodome)
    assert "sodium_init" in chosen.shortcoming


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'Crypto'"), OSError("Cannot load native module")]
)
def test_with_neither_it_is_said_what_to_install(error: Exception) -> None:
    with pytest.raises(UserError) as caught:
        choose_salsa20(no_libsodium, raising(error))
    message = str(caught.value)
    assert "pip install 'bethrou[portable]'" in message
    assert "not a library" in message
    assert str(error) in message
    assert "\n" not in message


def test_a_library_that_computes_something_else_is_refused() -> None:
    # Not the other one instead: what has gone wrong here is for a person to look at.
    with pytest.raises(UserError, match="reinstall pynacl"):
        choose_salsa20(given(Library()), load_pycryptodome)
    idle: NewCipher = Idle
    with pytest.raises(UserError, match="reinstall pycryptodome"):
        choose_salsa20(no_libsodium, given(idle))


def test_each_keystream_has_a_cipher_of_its_own() -> None:
    made = []

    def new(key: bytes, nonce: bytes) -> Cipher:
        made.append((key, nonce))
        return load_pycryptodome()(key, nonce)

    salsa20 = choose_salsa20(no_libsodium, given(new))
    made.clear()
    one, other = (Keystream(bytes(32), bytes([which]) * NONCE_SIZE, salsa20) for which in range(2))
    assert len(set(made)) == 2
    apart = one.xor(bytes(10)) + one.xor(bytes(90)), other.xor(bytes(100))
    assert apart == tuple(
        Keystream(bytes(32), bytes([which]) * NONCE_SIZE, LIBSODIUM).xor(bytes(100)) for which in range(2)
    )


def test_both_can_talk_to_each_other() -> None:
    data = bytes(range(256)) * 300
    sent = Keystream(bytes(32), bytes(NONCE_SIZE), PYCRYPTODOME).xor(data)
    assert Keystream(bytes(32), bytes(NONCE_SIZE), LIBSODIUM).xor(sent) == data
