"""Noise transport messages under private network protection: the two ciphers that every byte of a link passes.

A record is `uint16 length || ChaCha20-Poly1305 ciphertext` (specs/noise, Wire Format), at most 65,535 bytes of
ciphertext, XORed as a whole with the direction's pnet keystream. Buffers are made so that each byte is touched as
seldom as possible: one encryption from the plaintext to its final place, one XOR there; one XOR where the bytes were
read, one decryption into a buffer that is given away.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bethrou.errors import BethrouError, PeerError
from bethrou.wire.noise.handshake import TAG_SIZE, pack_nonce
from bethrou.wire.pnet import ROOM, Keystream, address_of

MAX_CIPHERTEXT = 65535
"""Specification: the length field has 16 bits."""

MAX_PLAINTEXT = MAX_CIPHERTEXT - TAG_SIZE
"""Bytes of plaintext that one record carries at most."""

LENGTH_SIZE = 2

_BODY = ROOM + LENGTH_SIZE


class RecordSealer:
    """Encrypts the sending direction of a link."""

    __slots__ = ("_cipher", "_counter", "_keystream")

    def __init__(self, key: bytes, keystream: Keystream) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0
        self._keystream = keystream

    def seal(self, plaintext: memoryview | bytes) -> memoryview:
        """The bytes to write for `plaintext` (1 to `MAX_PLAINTEXT` bytes), in a buffer of their own."""
        size = len(plaintext) + TAG_SIZE
        buffer = bytearray(_BODY + size)
        buffer[ROOM] = size >> 8
        buffer[ROOM + 1] = size & 0xFF
        view = memoryview(buffer)
        self._cipher.encrypt_into(pack_nonce(self._counter), plaintext, None, view[_BODY:])
        self._counter += 1
        self._keystream.xor_sealed(address_of(buffer), ROOM, _BODY + size)
        return view[ROOM:]

    def farewell(self, error: BethrouError | None = None) -> bytes:
        """Nothing: Noise has no word for the end."""
        return b""


class RecordOpener:
    """Decrypts the records of the receiving direction, whose pnet protection is already taken off."""

    __slots__ = ("_cipher", "_counter")

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0

    def open(self, ciphertext: memoryview | bytes) -> bytearray:
        """The plaintext of one record (without its length field), in a buffer that belongs to the caller.

        Raises `PeerError` when it was altered on the way or is too short to be a record.
        """
        size = len(ciphertext) - TAG_SIZE
        if size < 0:
            raise PeerError(f"Noise record of {len(ciphertext)} bytes: too short")
        plaintext = bytearray(size)
        try:
            self._cipher.decrypt_into(pack_nonce(self._counter), ciphertext, None, plaintext)
        except InvalidTag:
            raise PeerError("Noise record altered on its way (wrong authentication tag)") from None
        self._counter += 1
        return plaintext

    def read(self, received: memoryview, start: int, end: int) -> tuple[memoryview | None, int]:
        """The plaintext of the record that begins at `start`, if it is all there, and where the next one begins."""
        body = start + LENGTH_SIZE
        if body > end:
            return None, start
        behind = body + (received[start] << 8 | received[start + 1])
        if behind > end:
            return None, start
        return memoryview(self.open(received[body:behind])), behind
