"""Multibase texts: one character names the base, the rest are the digits (spec: multiformats/multibase).

Only the bases in which peer IDs are seen; base58btc also serves without its prefix.
"""

from __future__ import annotations

import base64
import binascii

from bethrou.errors import DecodeError

MAX_TEXT = 512
"""Longest text that is read. Big-number bases cost quadratic time; a peer ID needs 60 characters."""

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_DIGITS58 = {char: index for index, char in enumerate(_BASE58)}
_DIGITS36 = {char: index for index, char in enumerate(_BASE36)}


def decode(text: str) -> bytes:
    """Return the bytes of a multibase text. Raises DecodeError."""
    _check_length(text)
    prefix, digits = text[:1], text[1:]
    if prefix == "z":
        return decode_base58(digits)
    if prefix in ("k", "K"):
        return _decode_big(digits.lower(), _DIGITS36)
    if prefix in ("b", "B", "c", "C", "v", "V", "t", "T"):
        return _decode_base32(digits, hexadecimal=prefix in "vVtT")
    if prefix in ("f", "F"):
        return _decode_base16(digits)
    if prefix in ("m", "M", "u", "U"):
        return _decode_base64(digits, url=prefix in "uU")
    raise DecodeError(f"unknown multibase prefix {prefix!r}")


def encode_base58(data: bytes) -> str:
    """Return `data` in base58btc, without a multibase prefix."""
    number = int.from_bytes(data, "big")
    out: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        out.append(_BASE58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(out))


def decode_base58(text: str) -> bytes:
    """Return the bytes of a base58btc text without prefix. Raises DecodeError."""
    _check_length(text)
    return _decode_big(text, _DIGITS58)


def _check_length(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise DecodeError(f"text is longer than {MAX_TEXT} characters")


def _decode_big(text: str, digits: dict[str, int]) -> bytes:
    number, base = 0, len(digits)
    for char in text:
        digit = digits.get(char)
        if digit is None:
            raise DecodeError(f"character {char!r} is no base{base} digit")
        number = number * base + digit
    zero = next(iter(digits))
    zeros = len(text) - len(text.lstrip(zero))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _decode_base32(digits: str, *, hexadecimal: bool) -> bytes:
    padded = digits.rstrip("=").upper()
    padded += "=" * (-len(padded) % 8)
    try:
        return base64.b32hexdecode(padded) if hexadecimal else base64.b32decode(padded)
    except ValueError as error:
        raise DecodeError("text is no valid base32") from error


def _decode_base16(digits: str) -> bytes:
    try:
        return binascii.unhexlify(digits)
    except ValueError as error:
        raise DecodeError("text is no valid base16") from error


def _decode_base64(digits: str, *, url: bool) -> bytes:
    padded = digits.rstrip("=")
    padded += "=" * (-len(padded) % 4)
    try:
        return base64.b64decode(padded, b"-_" if url else b"+/", validate=True)
    except ValueError as error:
        raise DecodeError("text is no valid base64") from error
