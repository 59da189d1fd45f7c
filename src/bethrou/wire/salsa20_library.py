"""Salsa20 for the data path: from libsodium where it can be reached, else from PyCryptodome.

libsodium is the one inside PyNaCl, by ctypes, because PyNaCl itself offers no XOR at a given position; it is the
fastest one that Python can reach (3 GB/s). Some builds of PyNaCl do not export its functions. PyCryptodome (the extra
"portable") serves then, some five times slower, with an HSalsa20 of ours. Either is compared with a published vector
before it is used, so that a changed library can never send anything readable.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol, TypeAlias

from bethrou.errors import UserError
from bethrou.wire.salsa20 import hsalsa20

BLOCK = 64
"""Bytes in a block of the keystream."""

XorBlocks: TypeAlias = Callable[[int, int, int, bytes, int, bytes], object]
"""(output address, input address, length, 8-byte nonce, number of the first block, 32-byte key)"""

_CHECK_KEY = bytes.fromhex("6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683")
_CHECK_NONCE = bytes(range(24))
_CHECK_KEYSTREAM = bytes.fromhex("20847ee9fb08cb6a2da5306341e2cc059972d4d8b5c9c16e04c5c5f0cf8a15e7")


class Salsa20(NamedTuple):
    """What XSalsa20 is made of, from one library."""

    subkey: Callable[[bytes, bytes], bytes]
    """HSalsa20: (32-byte key, 16-byte nonce) to a 32-byte key."""
    open: Callable[[bytes, bytes], XorBlocks]
    """(32-byte key, 8-byte nonce) to what XORs data with their keystream, from its start onwards without a gap.

    A block that was left unfinished is begun again; its bytes in front may be XORed again, or left as they are.
    """
    shortcoming: str = ""
    """Why the faster library is not used; "" for the fastest."""


class Cipher(Protocol):
    """What is used of PyCryptodome's Salsa20Cipher."""

    def encrypt(self, plaintext: bytes, /) -> bytes:
        """XOR with what comes next in the keystream."""


NewCipher: TypeAlias = Callable[[bytes, bytes], Cipher]
"""(32-byte key, 8-byte nonce) to a cipher at the keystream's start."""


@cache
def best_salsa20() -> Salsa20:
    """The fastest Salsa20 that works here. Raises `UserError` when there is none."""
    return choose_salsa20(load_libsodium, load_pycryptodome)


def choose_salsa20(libsodium: Callable[[], ctypes.CDLL], pycryptodome: Callable[[], NewCipher]) -> Salsa20:
    """Bind the first of the two that can be loaded and has what is needed. Raises `UserError`."""
    try:
        return _checked(_bind_libsodium(libsodium()), "pynacl")
    except (ImportError, OSError, AttributeError) as error:
        shortcoming = f"libsodium cannot be used: {error}"
    try:
        new = pycryptodome()
    except (ImportError, OSError) as error:
        raise UserError(
            "no Salsa20, which private networks are encrypted with: install PyCryptodome's with "
            f"pip install 'bethrou[portable]' ({shortcoming}; PyCryptodome neither: {error})"
        ) from None
    return _checked(_bind_pycryptodome(new, shortcoming), "pycryptodome")


def load_libsodium() -> ctypes.CDLL:
    """The library inside PyNaCl. Raises ImportError, OSError or AttributeError."""
    import nacl._sodium  # type: ignore[import-not-found]

    return ctypes.CDLL(nacl._sodium.__file__)


def load_pycryptodome() -> NewCipher:
    """PyCryptodome's Salsa20. Raises ImportError, or OSError when its native part is missing."""
    from Crypto.Cipher.Salsa20 import new

    return new


def _bind_libsodium(library: ctypes.CDLL) -> Salsa20:
    library.sodium_init()  # chooses the vectorised routines: 2.3 times as fast as without
    xor_blocks = library.crypto_stream_salsa20_xor_ic
    xor_blocks.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_ulonglong,
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_char_p,
    ]
    core = library.crypto_core_hsalsa20
    core.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]

    def subkey(key: bytes, nonce: bytes) -> bytes:
        output = ctypes.create_string_buffer(32)
        core(output, nonce, key, None)
        return output.raw

    return Salsa20(subkey, lambda key, nonce: xor_blocks)


def _bind_pycryptodome(new: NewCipher, shortcoming: str) -> Salsa20:
    return Salsa20(hsalsa20, lambda key, nonce: _Onwards(new(key, nonce)), shortcoming)


class _Onwards:
    """`XorBlocks` for one keystream, by a cipher that only goes on from where it is."""

    __slots__ = ("_cipher", "_position")

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher
        self._position = 0

    def __call__(self, output: int, data: int, size: int, nonce: bytes, block: int, key: bytes) -> None:
        done = self._position - block * BLOCK
        rest = size - done
        ctypes.memmove(output + done, self._cipher.encrypt(ctypes.string_at(data + done, rest)), rest)
        self._position += rest


def _checked(salsa20: Salsa20, package: str) -> Salsa20:
    size, nonce = len(_CHECK_KEYSTREAM), _CHECK_NONCE[16:]
    key = salsa20.subkey(_CHECK_KEY, _CHECK_NONCE[:16])
    data = ctypes.create_string_buffer(size)
    address = ctypes.addressof(data)
    salsa20.open(key, nonce)(address, address, size, nonce, 0, key)
    if data.raw != _CHECK_KEYSTREAM:
        raise UserError(f"the Salsa20 of {package} computes wrong results; reinstall {package}")
    return salsa20
