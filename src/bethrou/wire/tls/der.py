"""As much of DER (ITU-T X.690) as a libp2p certificate needs: tag, length and contents."""

from __future__ import annotations

from bethrou.errors import DecodeError

INTEGER, BIT_STRING, OCTET_STRING, UTF8_STRING = 0x02, 0x03, 0x04, 0x0C
OBJECT_IDENTIFIER, GENERALIZED_TIME = 0x06, 0x18
SEQUENCE, SET = 0x30, 0x31

_MAX_LENGTH_BYTES = 2


def explicit(number: int) -> int:
    """The tag of a constructed, context-specific field: [number] EXPLICIT."""
    return 0xA0 | number


def encode(tag: int, *contents: bytes) -> bytes:
    """A value of up to 65,535 bytes."""
    body = b"".join(contents)
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes(1 if size < 0x100 else 2, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def encode_oid(text: str) -> bytes:
    """An object identifier, as in "1.3.6.1.4.1.53594.1.1"."""
    first, second, *others = map(int, text.split("."))
    body = b"".join(_base128(arc) for arc in (40 * first + second, *others))
    return encode(OBJECT_IDENTIFIER, body)


def decode(tag: int, data: bytes, position: int = 0) -> tuple[bytes, int]:
    """The contents of the value at `position`, which must have this `tag`, and the position behind it.

    Raises `DecodeError`, also for lengths that DER would write shorter.
    """
    if len(data) - position < 2:
        raise DecodeError("DER value ends too early")
    if data[position] != tag:
        raise DecodeError(f"DER value has tag {data[position]:#x} instead of {tag:#x}")
    size, start = data[position + 1], position + 2
    if size >= 0x80:
        count = size & 0x7F
        length = data[start : start + count]
        if not 1 <= count <= _MAX_LENGTH_BYTES or len(length) < count:
            raise DecodeError("DER value has an unusable length")
        size, start = int.from_bytes(length, "big"), start + count
        if size < 0x80 or size < 1 << 8 * (count - 1):
            raise DecodeError("DER length is not written in the shortest way")
    end = start + size
    if end > len(data):
        raise DecodeError("DER value ends too early")
    return data[start:end], end


def _base128(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
