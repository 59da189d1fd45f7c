"""Private network protection: both directions of a connection XORed with XSalsa20 under the network key.

Spec: libp2p/specs pnet/Private-Networks-PSK-V1.md. Each side sends a random 24-byte nonce in clear, then everything
XORed with XSalsa20(network key, own nonce). There is no framing and no MAC; the keystream's position runs on over the
whole connection, whatever the sizes of reads and writes.

XSalsa20 is HSalsa20(key, nonce[:16]) as the key of Salsa20 with nonce[16:]. Salsa20 comes from the libsodium inside
PyNaCl, reached through ctypes because PyNaCl itself offers no XOR at a given position; it is the fastest one that
Python can reach (3 GB/s). It works on whole 64-byte blocks, so at position p the p % 64 bytes in front of the data
are XORed too: callers keep `ROOM` bytes of room there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import nacl._sodium  # type: ignore[import-not-found]

NONCE_SIZE = 24
"""Bytes of nonce that each side sends first."""

ROOM = 64
"""Bytes that must be free in front of data that is XORed in place: one Salsa20 block."""

_BLOCK = 64

_CHECK_KEY = bytes.fromhex("6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683")
_CHECK_NONCE = bytes(range(NONCE_SIZE))
_CHECK_KEYSTREAM = bytes.fromhex("20847ee9fb08cb6a2da5306341e2cc059972d4d8b5c9c16e04c5c5f0cf8a15e7")


class _Salsa20(NamedTuple):
    """The two libsodium functions that XSalsa20 is made of, bound."""

    xor_blocks: Callable[[int, int, int, bytes, int, bytes], int]
    """(output address, input address, length, 8-byte nonce, block counter, 32-byte key)"""
    subkey: Callable[[bytes, bytes], bytes]
    """HSalsa20: (32-byte key, 16-byte nonce) to a 32-byte key."""


@cache
def _libsodium() -> _Salsa20:
    library = ctypes.CDLL(nacl._sodium.__file__)
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
    hsalsa20 = library.crypto_core_hsalsa20
    hsalsa20.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]

    def subkey(key: bytes, nonce: bytes) -> bytes:
        output = ctypes.create_string_buffer(32)
        hsalsa20(output, nonce, key, None)
        return output.raw

    bound = _Salsa20(xor_blocks, subkey)
    _self_check(bound)
    return bound


def _self_check(functions: _Salsa20) -> None:
    """Compare with a published vector, so that a changed library can never send anything readable."""
    stream = Keystream(_CHECK_KEY, _CHECK_NONCE, functions)
    if stream.xor(bytes(len(_CHECK_KEYSTREAM))) != _CHECK_KEYSTREAM:
        raise RuntimeError("the Salsa20 of this PyNaCl computes wrong results; reinstall pynacl")


class Keystream:
    """One direction's XSalsa20 keystream, with its position.

    `key` is the network key (32 bytes), `nonce` the 24 bytes that the sending side of this direction sent.
    """

    __slots__ = ("_key", "_nonce", "_position", "_xor_blocks")

    def __init__(self, key: bytes, nonce: bytes, functions: _Salsa20 | None = None) -> None:
        if len(key) != 32 or len(nonce) != NONCE_SIZE:
            raise ValueError("a network key has 32 bytes and a pnet nonce 24")
        functions = functions or _libsodium()
        self._xor_blocks = functions.xor_blocks
        self._key = functions.subkey(key, nonce[:16])
        self._nonce = nonce[16:]
        self._position = 0

    @property
    def position(self) -> int:
        """Bytes XORed so far."""
        return self._position

    def xor_sealed(self, address: int, start: int, end: int) -> None:
        """XOR bytes `start` to `end` of the buffer at `address` in place, spoiling up to 63 bytes in front.

        `start` is at least `ROOM`. For buffers made for one record, where nothing is kept in front.
        """
        block, filler = divmod(self._position, _BLOCK)
        first = address + start - filler
        self._xor_blocks(first, first, end - start + filler, self._nonce, block, self._key)
        self._position += end - start

    def xor_in_place(self, buffer: bytearray, address: int, start: int, end: int) -> None:
        """XOR bytes `start` to `end` of `buffer`, which lies at `address`; what is in front stays as it is."""
        filler = self._position % _BLOCK
        kept = buffer[start - filler : start]
        self.xor_sealed(address, start, end)
        buffer[start - filler : start] = kept

    def xor(self, data: bytes | bytearray | memoryview) -> bytes:
        """XOR a small message and return the result: for handshakes."""
        buffer = bytearray(ROOM)
        buffer += data
        self.xor_sealed(address_of(buffer), ROOM, len(buffer))
        return bytes(memoryview(buffer)[ROOM:])


def address_of(buffer: bytearray) -> int:
    """Where `buffer` lies in memory, valid until it is resized or freed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
