"""WebSocket frames (RFC 6455, section 5): building them, and taking them apart as they come.

The payload of binary messages is a stream of bytes here: where a message ends means nothing to a libp2p connection.
So a frame is passed on in the pieces in which it comes, and one of any size costs no memory. The package websockets
masks (in C) and does the opening handshake; its frame layer is not used, because it keeps every frame until it is
whole, and answers Close at once, where a connection of ours ends each of its directions by itself.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # there is no wheel with C for this machine
    from websockets.utils import apply_mask

from bethrou.errors import WebSocketError

Bytes = bytes | bytearray | memoryview

MASK_SIZE = 4
"""Bytes of a masking key, which a client draws anew for each frame (section 5.3)."""

MAX_FRAME = 16 * 1024 * 1024
"""Longest frame accepted, in bytes. It costs nothing here, but nobody sends such."""

_MAX_CONTROL = 125  # bytes (section 5.5)
_FIN = 0x80
_MASKED = 0x80
_RESERVED = 0x70
_LENGTH_16 = 126
_LENGTH_64 = 127


class Opcode(IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """Why a connection is closed (section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NONE_GIVEN = 1005
    """Never on the wire: the Close frame had no code."""
    TOO_BIG = 1009


class Taken(NamedTuple):
    """What `FrameReader.take` found."""

    size: int
    """Bytes that were consumed."""
    opcode: Opcode | None
    """BINARY for a piece of the stream, PING, PONG or CLOSE for a whole control frame; None: nothing yet."""
    payload: Bytes


def build(opcode: Opcode, payload: Bytes, mask: bytes = b"") -> bytes:
    """A whole message, or a control frame. `mask`: the `MASK_SIZE` random bytes of a client's frame."""
    size = len(payload)
    bit = _MASKED if mask else 0
    if size < _LENGTH_16:
        header = struct.pack(">BB", _FIN | opcode, bit | size)
    elif size < 1 << 16:
        header = struct.pack(">BBH", _FIN | opcode, bit | _LENGTH_16, size)
    else:
        header = struct.pack(">BBQ", _FIN | opcode, bit | _LENGTH_64, size)
    if not mask:
        return b"".join((header, payload))
    return b"".join((header, mask, apply_mask(payload, mask)))


def close_payload(code: CloseCode, reason: str = "") -> bytes:
    """What a Close frame says; a reason that is too long is cut."""
    return code.to_bytes(2, "big") + reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore").encode()


def read_close(payload: Bytes) -> tuple[int, str]:
    """Code and reason of a Close frame. Raises WebSocketError."""
    if not payload:
        return CloseCode.NONE_GIVEN, ""
    if len(payload) == 1:
        raise WebSocketError("half a close code", CloseCode.PROTOCOL_ERROR)
    return int.from_bytes(payload[:2], "big"), bytes(payload[2:]).decode(errors="replace")


class FrameReader:
    """Takes the peer's bytes apart. `masked`: whether its frames have to be masked, so whether it is the client."""

    __slots__ = ("_control", "_fragmented", "_head", "_left", "_mask", "_masked", "_opcode")

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._head = b""  # of a frame, as far as it has come
        self._opcode: Opcode | None = None
        self._left = 0  # payload bytes of this frame to come
        self._mask = b""
        self._control = b""  # payload of a control frame, as far as it has come
        self._fragmented = False  # whether a message goes on in the next data frame

    def take(self, data: memoryview) -> Taken:
        """The first thing in `data`, whose bytes come right behind those that were consumed before.

        Raises WebSocketError, with the close code for the peer.
        """
        used = 0
        if self._opcode is None:
            used = self._read_head(data)
            if self._opcode is None:
                return Taken(used, None, b"")
        return self._read_payload(data, used)

    def _read_head(self, data: memoryview) -> int:
        """Read the header, or what is there of it; how many bytes that is."""
        kept = len(self._head)
        head = self._head + bytes(data[: 2 + 8 + MASK_SIZE - kept])
        size = _head_size(head, self._masked)
        if len(head) < size:
            self._head = head
            return len(head) - kept
        self._head = b""
        self._begin(head[:size])
        return size - kept

    def _begin(self, head: bytes) -> None:
        short = head[1] & ~_MASKED
        end = len(head) - (MASK_SIZE if self._masked else 0)
        length = short if short < _LENGTH_16 else int.from_bytes(head[2:end], "big")
        opcode = _checked_opcode(head[0])
        if opcode >= Opcode.CLOSE:
            if length > _MAX_CONTROL or not head[0] & _FIN:
                raise WebSocketError("a control frame that is long or in pieces", CloseCode.PROTOCOL_ERROR)
        elif opcode is Opcode.TEXT:
            raise WebSocketError("a text message; only binary ones are spoken here", CloseCode.UNSUPPORTED)
        elif (opcode is Opcode.CONTINUATION) != self._fragmented:
            what = "goes on that never began" if opcode is Opcode.CONTINUATION else "begins inside another"
            raise WebSocketError(f"a message {what}", CloseCode.PROTOCOL_ERROR)
        else:
            self._fragmented = not head[0] & _FIN
            opcode = Opcode.BINARY
        if length > MAX_FRAME:
            raise WebSocketError(
                f"a frame of {length} bytes; at most {MAX_FRAME} are taken", CloseCode.TOO_BIG
            )
        self._opcode, self._left, self._mask = opcode, length, head[end:]

    def _read_payload(self, data: memoryview, start: int) -> Taken:
        opcode = self._opcode
        assert opcode is not None
        payload: Bytes = data[start : start + self._left]
        size = len(payload)
        self._left -= size
        if self._masked and size:
            mask = self._mask
            payload = apply_mask(payload, mask)
            turn = size % MASK_SIZE
            self._mask = mask[turn:] + mask[:turn]  # for the next piece
        if opcode is not Opcode.BINARY:
            payload = self._control + bytes(payload)
            self._control = payload if self._left else b""
        if not self._left:
            self._opcode = None
        elif opcode is not Opcode.BINARY:
            return Taken(start + size, None, b"")
        return Taken(start + size, opcode, payload)


def _head_size(head: bytes, masked: bool) -> int:
    """Bytes of the header that begins so; one more than are there where even that is not known."""
    if len(head) < 2:
        return 2
    if bool(head[1] & _MASKED) != masked:
        wrong = "a frame without a mask from a client" if masked else "a masked frame from a server"
        raise WebSocketError(wrong, CloseCode.PROTOCOL_ERROR)
    short = head[1] & ~_MASKED
    extended = 2 if short == _LENGTH_16 else 8 if short == _LENGTH_64 else 0
    return 2 + extended + (MASK_SIZE if masked else 0)


def _checked_opcode(first: int) -> Opcode:
    if first & _RESERVED:
        raise WebSocketError("a frame of an extension that was not agreed on", CloseCode.PROTOCOL_ERROR)
    try:
        return Opcode(first & 0x0F)
    except ValueError:
        raise WebSocketError("a frame of unknown meaning", CloseCode.PROTOCOL_ERROR) from None
