"""The network key: 32 bytes that every member holds, and the swarm key file it is kept in.

Spec: libp2p/specs pnet "Private-Network-PSK-V1"; file format as go-libp2p core/pnet/codec.go reads it.
Exactly what Go accepts is accepted: a file that works on one side only would be a trap.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

from bethrou.errors import KeyFileError
from bethrou.wire.salsa20 import first_block

KEY_SIZE = 32

MAX_FILE = 65536
"""Longest file that is looked at, in bytes; Go stops reading behind the key, too."""

_HEADER = b"/key/swarm/psk/1.0.0/"
_BOM = b"\xef\xbb\xbf"
_HEX_DIGITS = KEY_SIZE * 2
_BASE64_CHARS = (KEY_SIZE + 2) // 3 * 4


class NetworkKey:
    """A network key. Its repr shows the fingerprint, never the key."""

    __slots__ = ("_fingerprint", "_raw")

    def __init__(self, raw: bytes) -> None:
        """Take the 32 bytes; ValueError for any other length."""
        if len(raw) != KEY_SIZE:
            raise ValueError(f"a network key has {KEY_SIZE} bytes, not {len(raw)}")
        self._raw = bytes(raw)
        self._fingerprint = _fingerprint(self._raw)

    @classmethod
    def generate(cls, randbytes: Callable[[int], bytes]) -> NetworkKey:
        """Make a new key from 32 bytes of `randbytes` (in the program: os.urandom)."""
        return cls(randbytes(KEY_SIZE))

    @classmethod
    def parse(cls, data: bytes) -> NetworkKey:
        """Read the contents of a swarm key file. Raises KeyFileError saying what is wrong, never the key."""
        if not data:
            raise KeyFileError("network key file is empty")
        if len(data) > MAX_FILE:
            raise KeyFileError(f"network key file is longer than {MAX_FILE} bytes: it is no swarm key file")
        header, rest = _line(data)
        if header != _HEADER:
            raise KeyFileError(_explain_header(data, header))
        encoding, rest = _line(rest)
        if encoding == b"/base16/":
            return cls(_read_base16(rest))
        if encoding == b"/base64/":
            return cls(_read_base64(rest))
        if encoding == b"/bin/":
            return cls(_read_bin(rest))
        raise KeyFileError(_explain_encoding(encoding))

    def format(self) -> bytes:
        """Return the file in the one form that go, js and rust all read: lower-case base16, final newline."""
        return _HEADER + b"\n/base16/\n" + self._raw.hex().encode() + b"\n"

    @property
    def raw(self) -> bytes:
        """The 32 secret bytes."""
        return self._raw

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name the key without giving it away: the same as go-ipfs and rust print."""
        return self._fingerprint

    def __repr__(self) -> str:
        return f"NetworkKey(fingerprint={self._fingerprint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash((NetworkKey, self._fingerprint))


def _line(data: bytes) -> tuple[bytes, bytes]:
    """Split off one line; like Go, trim nothing but CR and LF at its end."""
    line, _, rest = data.partition(b"\n")
    return line.rstrip(b"\r"), rest


def _explain_header(data: bytes, header: bytes) -> str:
    expected = f"its first line must be {_HEADER.decode()}"
    if data.startswith((_BOM, b"\xff\xfe", b"\xfe\xff")):
        return f"network key file begins with a byte order mark; save it as plain ASCII: {expected}"
    if header.strip() == _HEADER:
        return f"network key file has spaces around its first line; {expected} and nothing else"
    if re.fullmatch(rb"\s*[0-9A-Fa-f]{64}\s*", data):
        return (
            f"network key file has the key but lacks the two lines before it; {expected}, its second /base16/"
        )
    # The line itself is not shown: in a file without header it may be the key.
    return f"network key file is no swarm key file: {expected}"


def _explain_encoding(encoding: bytes) -> str:
    known = "/base16/, /base64/ or /bin/"
    if not encoding:
        return f"network key file lacks its second line, which must be {known}"
    if encoding.strip() in (b"/base16/", b"/base64/", b"/bin/"):
        return "network key file has spaces around its second line; remove them"
    if re.fullmatch(rb"/[0-9A-Za-z]{1,12}/", encoding):
        return f"network key file has the unknown encoding {encoding.decode()}; it must be {known}"
    return f"network key file has no encoding in its second line, which must be {known}"


def _read_base16(rest: bytes) -> bytes:
    digits = rest[:_HEX_DIGITS]
    valid = re.match(rb"[0-9A-Fa-f]*", digits)
    count = valid.end() if valid else 0
    if count == _HEX_DIGITS:
        return bytes.fromhex(digits.decode())
    if count == len(digits) or (digits[count:].strip() == b"" and rest[count:].strip() == b""):
        raise KeyFileError(f"network key is truncated: it has {count} hex digits, {_HEX_DIGITS} are needed")
    if digits[count : count + 1].isspace():
        raise KeyFileError(f"network key has a space or line break at its character {count + 1}; remove it")
    raise KeyFileError(f"network key has a character at place {count + 1} that is no hex digit")


def _read_base64(rest: bytes) -> bytes:
    # Go decodes the standard alphabet with padding, ignores CR and LF, and stops after 32 bytes.
    digits = rest.replace(b"\r", b"").replace(b"\n", b"")[:_BASE64_CHARS]
    if not re.fullmatch(rb"[A-Za-z0-9+/]*={0,2}", digits):
        raise KeyFileError("network key has a character that is no base64 digit")
    if len(digits) < _BASE64_CHARS:
        raise KeyFileError(
            f"network key is truncated: it has {len(digits)} base64 characters (padding included), "
            f"{_BASE64_CHARS} are needed"
        )
    raw = base64.b64decode(digits)
    if len(raw) < KEY_SIZE:
        raise KeyFileError(f"network key is truncated: it has {len(raw)} bytes, {KEY_SIZE} are needed")
    return raw[:KEY_SIZE]


def _read_bin(rest: bytes) -> bytes:
    if len(rest) < KEY_SIZE:
        raise KeyFileError(f"network key is truncated: it has {len(rest)} bytes, {KEY_SIZE} are needed")
    return rest[:KEY_SIZE]


def _fingerprint(key: bytes) -> str:
    return hashlib.shake_128(first_block(key, b"finprint")).hexdigest(16)
