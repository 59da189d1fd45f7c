"""Yamux frames: the 12-byte header and a reader that cuts a byte stream into frames.

Spec: hashicorp/yamux spec.md and libp2p/specs yamux/README.md.
Header: version 0 (u8), type (u8), flags (u16), stream ID (u32), length (u32), all big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bethrou.errors import MuxerError

HEADER = struct.Struct(">BBHII")
HEADER_SIZE = HEADER.size

# Specification constants.
DATA, WINDOW_UPDATE, PING, GO_AWAY = 0, 1, 2, 3
SYN, ACK, FIN, RST = 1, 2, 4, 8

NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = 0, 1, 2
"""GOAWAY codes."""

INITIAL_WINDOW = 256 * 1024
"""Bytes that either side may send on a new stream, without any negotiation."""

Frame = tuple[int, int, int, int, memoryview]
"""(type, flags, stream ID, length, payload). For DATA, a piece of the frame: see `FrameReader`."""

_EMPTY = memoryview(b"")


def header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    """The 12 bytes of a frame's header."""
    return HEADER.pack(0, kind, flags, stream_id, length)


class FrameReader:
    """Cuts plaintext into frames, whatever the chunks it comes in.

    A DATA frame that does not lie whole in one chunk is reported in pieces as they come, so that a frame of any length
    costs no memory. Flags that begin something (SYN, ACK) stand on the first piece, those that end something (FIN,
    RST) on the last; `length` is the piece's. Payloads are views into the chunks given.

    Raises `MuxerError` for another version than 0 or an unknown type.
    """

    __slots__ = ("_body_flags", "_body_left", "_body_stream", "_partial")

    def __init__(self) -> None:
        self._partial = b""
        """The first bytes of a header of which the rest has not come yet."""
        self._body_left = 0
        self._body_stream = 0
        self._body_flags = 0

    def read(self, chunk: memoryview) -> Iterator[Frame]:
        """The frames and pieces of frames in `chunk`; it is to be iterated to its end."""
        position, end = 0, len(chunk)
        while position < end:
            if self._body_left:
                size = min(self._body_left, end - position)
                self._body_left -= size
                flags = 0 if self._body_left else self._body_flags
                yield DATA, flags, self._body_stream, size, chunk[position : position + size]
                position += size
                continue
            if self._partial or end - position < HEADER_SIZE:
                needed = HEADER_SIZE - len(self._partial)
                self._partial += chunk[position : position + needed]
                position += needed
                if len(self._partial) < HEADER_SIZE:
                    return
                version, kind, flags, stream_id, length = HEADER.unpack(self._partial)
                self._partial = b""
            else:
                version, kind, flags, stream_id, length = HEADER.unpack_from(chunk, position)
                position += HEADER_SIZE
            if version != 0 or kind > GO_AWAY:
                raise MuxerError(
                    f"Yamux frame of version {version} and type {kind}: not Yamux", PROTOCOL_ERROR
                )
            if kind != DATA or length == 0:
                yield kind, flags, stream_id, length, _EMPTY
                continue
            size = min(length, end - position)
            if size == length:
                yield DATA, flags, stream_id, size, chunk[position : position + size]
            else:
                self._body_left = length - size
                self._body_stream = stream_id
                self._body_flags = flags & (FIN | RST)
                yield DATA, flags & (SYN | ACK), stream_id, size, chunk[position:end]
            position += size
