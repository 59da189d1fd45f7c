"""Salsa20 in plain Python, one block at a time: for fingerprints and for the keys of connections, never for data.

Spec: D. J. Bernstein, "Salsa20 specification", sections 3 to 9, and for HSalsa20 "Extending the Salsa20 nonce",
section 2. A block takes 0.1 ms; the data path has libraries for it (salsa20_library.py).
"""

from __future__ import annotations

import struct

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
_SUBKEY = (0, 5, 10, 15, 6, 7, 8, 9)


def first_block(key: bytes, nonce: bytes) -> bytes:
    """The first 64 bytes of the Salsa20/20 keystream of a 32-byte key and an 8-byte nonce."""
    before = _state(key, nonce + bytes(8))
    after = _double_rounds(before)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(before, after, strict=True)))


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """The 32-byte key that XSalsa20 derives from its 32-byte key and the first 16 bytes of its nonce."""
    after = _double_rounds(_state(key, nonce))
    return struct.pack("<8I", *(after[place] for place in _SUBKEY))


def _state(key: bytes, middle: bytes) -> list[int]:
    k, m = struct.unpack("<8I", key), struct.unpack("<4I", middle)
    c = _CONSTANTS
    return [c[0], *k[:4], c[1], *m, c[2], *k[4:], c[3]]


def _double_rounds(start: list[int]) -> list[int]:
    """The state after the 20 rounds, nothing added to it yet."""
    state = start.copy()
    for _ in range(10):
        for a, b, d, e in _COLUMNS + _ROWS:
            state[b] ^= _rotated_sum(state[a], state[e], 7)
            state[d] ^= _rotated_sum(state[b], state[a], 9)
            state[e] ^= _rotated_sum(state[d], state[b], 13)
            state[a] ^= _rotated_sum(state[e], state[d], 18)
    return state


def _rotated_sum(left: int, right: int, bits: int) -> int:
    total = (left + right) & 0xFFFFFFFF
    return (total << bits | total >> (32 - bits)) & 0xFFFFFFFF
