"""Protocol Buffers without schemas: the few libp2p messages are small enough to read field by field.

Spec: protobuf.dev/programming-guides/encoding. Unlike multiformats, protobuf allows ten bytes (64 bits)
and padded forms in its varints, so the reader here is not `varint.decode`. Groups (wire types 3 and 4) are
refused: no libp2p message has them.
"""

from __future__ import annotations

from collections.abc import Iterator

from bethrou.errors import DecodeError
from bethrou.wire import varint

VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5

MAX_FIELDS = 4096
"""More than any libp2p message of 8 KiB can hold; a larger count is an attack on our time."""

_MAX_NUMBER = (1 << 29) - 1
_MAX_UINT = (1 << 64) - 1

Buffer = bytes | bytearray | memoryview


def fields(data: Buffer) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (field number, wire type, value) of every field in order, known or not.

    The value is an int for VARINT, FIXED64 and FIXED32, and bytes for BYTES. Raises DecodeError, while
    iterating, at the first byte that is wrong.
    """
    position, size, count = 0, len(data), 0
    while position < size:
        count += 1
        if count > MAX_FIELDS:
            raise DecodeError(f"protobuf message has more than {MAX_FIELDS} fields")
        key, position = _read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if not 1 <= number <= _MAX_NUMBER:
            raise DecodeError(f"protobuf field number {number} is out of range")
        value: int | bytes
        if wire_type == VARINT:
            value, position = _read_varint(data, position)
        elif wire_type == BYTES:
            length, position = _read_varint(data, position)
            value, position = _read_bytes(data, position, length)
        elif wire_type in (FIXED64, FIXED32):
            raw, position = _read_bytes(data, position, 8 if wire_type == FIXED64 else 4)
            value = int.from_bytes(raw, "little")
        else:
            raise DecodeError(f"protobuf field {number} has wire type {wire_type}, which no message uses")
        yield number, wire_type, value


def uint(number: int, value: int) -> bytes:
    """Return a varint field; a zero is written out too (proto2: js refuses messages without their type)."""
    return _varint(number << 3 | VARINT) + _varint(value)


def fixed64(number: int, value: int) -> bytes:
    """Return a fixed64 field, eight bytes little-endian."""
    return _varint(number << 3 | FIXED64) + value.to_bytes(8, "little")


def blob(number: int, data: bytes) -> bytes:
    """Return a length-delimited field: bytes, a UTF-8 string or a nested message."""
    return _varint(number << 3 | BYTES) + _varint(len(data)) + data


def length_prefixed(message: bytes) -> bytes:
    """Return `message` behind its length as an unsigned varint, as it travels on a stream."""
    return varint.encode(len(message)) + message


def _varint(value: int) -> bytes:
    if value <= varint.MAX_VALUE:
        return varint.encode(value)
    if value > _MAX_UINT:
        raise ValueError(f"{value} does not fit 64 bits")
    low = bytes((value >> 7 * index) & 0x7F | 0x80 for index in range(9))
    return low + b"\x01"


def _read_varint(data: Buffer, position: int) -> tuple[int, int]:
    size = len(data)
    if position < size and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= size:
            raise DecodeError("protobuf message ends inside a varint")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MAX_UINT:
                break
            return value, position
    raise DecodeError("protobuf varint exceeds 64 bits")


def _read_bytes(data: Buffer, position: int, length: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(data):
        raise DecodeError("protobuf message ends inside a field")
    return bytes(data[position:end]), end
