"""HChaCha20, written down from draft-irtf-cfrg-xchacha-03, section 2.2: what boxes are checked with."""

from __future__ import annotations

import struct

_ROUNDS = (
    ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """Return the subkey of a 32-byte key and the first 16 bytes of a nonce."""
    state = list(struct.unpack("<16L", b"expand 32-byte k" + key + nonce))
    for _ in range(10):
        for quarters in _ROUNDS:
            for places in quarters:
                _quarter_round(state, *places)
    return struct.pack("<8L", *state[:4], *state[12:])


def _quarter_round(state: list[int], a: int, b: int, c: int, d: int) -> None:
    for left, right, turned, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[left] = (state[left] + state[right]) & 0xFFFFFFFF
        mixed = state[turned] ^ state[left]
        state[turned] = (mixed << by | mixed >> 32 - by) & 0xFFFFFFFF
