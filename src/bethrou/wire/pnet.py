"""Private network protection: both directions of a connection XORed with XSalsa20 under the network key.

Spec: libp2p/specs pnet/Private-Networks-PSK-V1.md. Each side sends a random 24-byte nonce in clear, then everything
XORed with XSalsa20(network key, own nonce). There is no framing and no MAC; the keystream's position runs on over the
whole connection, whatever the sizes of reads and writes.

XSalsa20 is HSalsa20(key, nonce[:16]) as the key of Salsa20 with nonce[16:]. Salsa20 comes from a library
(salsa20_library.py) that works on whole 64-byte blocks, so at position p the p % 64 bytes in front of the data are
XORed too: callers keep `ROOM` bytes of room there.
"""

from __future__ import annotations

import ctypes

from bethrou.wire.salsa20_library import BLOCK, Salsa20, best_salsa20

NONCE_SIZE = 24
"""Bytes of nonce that each side sends first."""

ROOM = BLOCK
"""Bytes that must be free in front of data that is XORed in place: one Salsa20 block."""


class Keystream:
    """One direction's XSalsa20 keystream, with its position.

    `key` is the network key (32 bytes), `nonce` the 24 bytes that the sending side of this direction sent.
    `salsa20` is the library to use, by default the fastest that works here.
    """

    __slots__ = ("_key", "_nonce", "_position", "_xor_blocks")

    def __init__(self, key: bytes, nonce: bytes, salsa20: Salsa20 | None = None) -> None:
        if len(key) != 32 or len(nonce) != NONCE_SIZE:
            raise ValueError("a network key has 32 bytes and a pnet nonce 24")
        salsa20 = salsa20 or best_salsa20()
        self._key = salsa20.subkey(key, nonce[:16])
        self._nonce = nonce[16:]
        self._xor_blocks = salsa20.open(self._key, self._nonce)
        self._position = 0

    @property
    def position(self) -> int:
        """Bytes XORed so far."""
        return self._position

    def xor_sealed(self, address: int, start: int, end: int) -> None:
        """XOR bytes `start` to `end` of the buffer at `address` in place, spoiling up to 63 bytes in front.

        `start` is at least `ROOM`. For buffers made for one record, where nothing is kept in front.
        """
        block, filler = divmod(self._position, BLOCK)
        first = address + start - filler
        self._xor_blocks(first, first, end - start + filler, self._nonce, block, self._key)
        self._position += end - start

    def xor_in_place(self, buffer: bytearray, address: int, start: int, end: int) -> None:
        """XOR bytes `start` to `end` of `buffer`, which lies at `address`; what is in front stays as it is."""
        filler = self._position % BLOCK
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
