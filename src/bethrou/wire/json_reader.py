"""JSON messages on a stream, in the two framings that Bethrou's protocols use.

`JsonObjectReader`: a bare object that ends at its closing brace, as Go's json.Decoder reads it.
`PrefixedJsonReader`: uv(length) || object. Both take any chunking, are bounded in size and in nesting, and
keep every byte behind a message: on these streams raw payload follows. `decode_object` takes a whole one, with the
same bounds.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from bethrou.errors import DecodeError
from bethrou.wire import varint

MAX_OBJECT = 4096
"""Longest object in bytes. A request has about 300."""

MAX_NESTING = 16
"""Deepest nesting of objects and lists. Our messages need 2; thousands would exhaust the C stack."""

_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')
# Possessive, and content with a string that never ends: so each byte is looked at once, whatever they are.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}\[\]]', re.DOTALL)
_WHITESPACE = b" \t\r\n"

Buffer = bytes | bytearray | memoryview


class JsonObjectReader:
    """Reads one object and swallows one newline behind it.

    Go writes that newline in the same write, but nothing keeps it in the same chunk. While `newline_due` is
    true it may still come: whoever hands the stream on then drops one leading newline of the next bytes, or
    passes them through `receive`, which does so.
    """

    __slots__ = ("_buffer", "_depth", "_in_string", "_position", "_result", "newline_due")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._depth = 0
        self._in_string = False
        self._result: dict[str, Any] | None = None
        self.newline_due = False
        """Whether the object was the last thing received, so that its newline may be on the way."""

    def receive(self, data: Buffer) -> dict[str, Any] | None:
        """Take bytes of the peer; return the object once it is complete, with its keys in lower case.

        Go matches keys whatever their case, and the last of equal ones wins. Raises DecodeError when the
        bytes are no JSON object, or one beyond the bounds.
        """
        self._buffer = self._buffer + bytes(data) if self._buffer else bytes(data)
        if self._result is None:
            end = self._find_end()
            if end is None:
                return None
            found = _parse(self._buffer[:end])
            self._result = {key.casefold(): value for key, value in found.items()}
            self._buffer = self._buffer[end:]
            self.newline_due = True
        if self.newline_due and self._buffer:
            self.newline_due = False
            self._buffer = self._buffer.removeprefix(b"\n")
        return self._result

    @property
    def surplus(self) -> bytes:
        """Every byte received behind the object and its newline; empty before it is complete."""
        return self._buffer if self._result is not None else b""

    def _find_end(self) -> int | None:
        """Return the offset behind the closing brace; None while it has not come."""
        buffer = self._buffer
        if self._depth == 0:
            start = buffer.lstrip(_WHITESPACE)
            if start and not start.startswith(b"{"):
                raise DecodeError(f"expected a JSON object, got {start[:20]!r}")
        while (match := self._next_token(buffer)) is not None:
            # Behind a backslash the next byte means nothing; it may not have come yet.
            self._position = match.end() + (match[0] == b"\\")
            if self._take(match[0]):
                return self._position
        if len(buffer) >= MAX_OBJECT:
            raise DecodeError(f"JSON object is longer than {MAX_OBJECT} bytes")
        return None

    def _next_token(self, buffer: bytes) -> re.Match[bytes] | None:
        pattern = _INSIDE if self._in_string else _OUTSIDE
        match = pattern.search(buffer, self._position, MAX_OBJECT)
        if match is None:
            self._position = max(self._position, min(len(buffer), MAX_OBJECT))
        return match

    def _take(self, token: bytes) -> bool:
        if token == b'"':
            self._in_string = not self._in_string
        elif token in b"{[":
            self._depth += 1
            if self._depth > MAX_NESTING:
                raise DecodeError(f"JSON is nested more than {MAX_NESTING} deep")
        elif token in b"}]":
            self._depth -= 1
            return self._depth == 0
        return False


class PrefixedJsonReader:
    """Reads objects behind their lengths, one after the other."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = MAX_OBJECT) -> None:
        """Take the longest object allowed, in bytes."""
        self._buffer = b""
        self._limit = limit

    def receive(self, data: Buffer) -> dict[str, Any] | None:
        """Take bytes of the peer; return the next object once it is complete.

        One object a call: several may have come at once, so call again with b"" until it returns None, unless
        what follows is not a message. Raises DecodeError.
        """
        self._buffer = self._buffer + bytes(data) if self._buffer else bytes(data)
        try:
            length, start = varint.decode(self._buffer)
        except varint.Truncated:
            return None
        if length > self._limit:
            raise DecodeError(f"JSON message of {length} bytes exceeds {self._limit}")
        end = start + length
        if len(self._buffer) < end:
            return None
        body, self._buffer = self._buffer[start:end], self._buffer[end:]
        return decode_object(body, self._limit)

    @property
    def surplus(self) -> bytes:
        """Every byte received that no returned object has used."""
        return self._buffer


def decode_object(body: bytes, limit: int = MAX_OBJECT) -> dict[str, Any]:
    """Return the JSON object that `body` is, keys as they are written.

    Raises DecodeError when it is none, longer than `limit` bytes, or nested too deep.
    """
    if len(body) > limit:
        raise DecodeError(f"JSON message of {len(body)} bytes exceeds {limit}")
    _check_nesting(body)
    return _parse(body)


def encode_prefixed(message: dict[str, Any], limit: int = MAX_OBJECT) -> bytes:
    """Return uv(length) || JSON. ValueError when it is longer than the other side reads."""
    body = encode_compact(message)
    if len(body) > limit:
        raise ValueError(f"JSON message of {len(body)} bytes exceeds {limit}")
    return varint.encode(len(body)) + body


def encode_compact(message: dict[str, Any]) -> bytes:
    """Return compact JSON in UTF-8; half a surrogate pair, which UTF-8 cannot carry, becomes a question mark."""
    return _ENCODER.encode(message).encode("utf-8", "replace")


def text_field(message: dict[str, Any], key: str) -> str:
    """Return a text of a message; "" when it is missing or null. Raises DecodeError for any other type."""
    value = message.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DecodeError(f"JSON field {key!r} is no text")
    return value


def whole_field(message: dict[str, Any], key: str, highest: int) -> int:
    """Return a whole number of a message from 0 to `highest`. Raises DecodeError for anything else."""
    value: object = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise DecodeError(f"JSON field {key!r} is no whole number from 0 to {highest}")
    return value


def _check_nesting(body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") <= MAX_NESTING:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.findall(body):
        depth += (token in b"{[") - (token in b"}]")
        if depth > MAX_NESTING:
            raise DecodeError(f"JSON is nested more than {MAX_NESTING} deep")


def _parse(body: bytes) -> dict[str, Any]:
    # Broken UTF-8 becomes U+FFFD, as in Go; where only ASCII is allowed it is refused later, by name.
    try:
        found = _DECODER.decode(body.decode("utf-8", "replace"))
    except ValueError as error:
        raise DecodeError(f"message is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DecodeError("JSON message is no object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# Made once: json.dumps and json.loads build such objects anew for every call with options.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
