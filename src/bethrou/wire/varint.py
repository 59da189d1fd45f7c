"""Unsigned varints as libp2p uses them (spec: multiformats/unsigned-varint).

Seven bits a byte, least significant group first, the high bit says that more follow. At most nine bytes
(63 bits), and always the shortest form: a peer that writes a longer one is refused.
"""

from __future__ import annotations

from bethrou.errors import DecodeError

MAX_BYTES = 9
"""The specification's bound; it keeps a stream of 0x80 from being read for ever."""

MAX_VALUE = (1 << 63) - 1

_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


class Truncated(DecodeError):
    """The bytes end before the value does: with more of them it may still be valid."""


def encode(value: int) -> bytes:
    """Return the shortest form of `value`; ValueError outside 0..2**63-1."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value <= MAX_VALUE:
        raise ValueError(f"{value} does not fit an unsigned varint of 63 bits")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """Read one varint of `data` at `offset`; return it and the offset behind it.

    Raises Truncated when bytes are missing, DecodeError when it is longer than nine bytes or not minimal.
    """
    size = len(data)
    if offset < size and data[offset] < 0x80:
        return data[offset], offset + 1
    value = 0
    for index in range(MAX_BYTES):
        position = offset + index
        if position >= size:
            raise Truncated("varint ends too early")
        byte = data[position]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise DecodeError("varint is not in its shortest form")
            return value, position + 1
    raise DecodeError("varint is longer than 9 bytes")
