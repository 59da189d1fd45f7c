"""The large buffers of the data path, one set for all links and sockets of an event loop.

They can be shared because nothing stays in them: a read is handled to its end before the next one begins, and what is
left of a record that has not arrived whole is kept by its link. A link inside a stream of another link reads while the
outer one handles its own read: such links have a set of their own, one for each depth.
"""

from __future__ import annotations

from functools import cached_property

from bethrou.wire.pnet import ROOM, address_of
from bethrou.wire.secure_channel import MAX_PARTIAL, MAX_PLAINTEXT
from bethrou.wire.yamux.frame import HEADER_SIZE

RECEIVE_SIZE = 256 * 1024
"""Bytes that one read of a link takes at most, beyond the rest of an unfinished record."""

SOCKET_SIZE = MAX_PLAINTEXT - 16 * HEADER_SIZE
"""Bytes that one read of an application's or a destination's socket takes at most: one frame that fills a record, with
room for a few control frames. A full 64 KiB would leave a frame of some bytes behind each large one, and a system call
for it at the other end."""


MAX_WAITING = 512 * 1024 * 1024
"""Bytes that may wait in all streams of a process together, in both directions."""


class WaitingBytes:
    """One bound on what waits in streams: bytes whose reader is paused, or which the peer gives no credit for.

    Each stream has its own small bound. This one is for peers that open streams by the thousand and stall them all:
    the stream that would exceed it is reset.
    """

    __slots__ = ("_left",)

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._left = limit

    def add(self, size: int) -> bool:
        """Count `size` more bytes; False if that is over the bound."""
        self._left -= size
        return self._left >= 0

    def remove(self, size: int) -> None:
        """Count `size` bytes less."""
        self._left += size


class Buffers:
    """Scratch memory for one event loop, and for links of one depth. Those of links inside streams are `nested`."""

    def __init__(self, outer: Buffers | None = None) -> None:
        self.receive = bytearray(ROOM + MAX_PARTIAL + RECEIVE_SIZE)
        """Where links read to and take off their pnet protection."""
        self.receive_view = memoryview(self.receive)
        self.receive_address = address_of(self.receive)
        self.frame = memoryview(bytearray(MAX_PLAINTEXT))
        """Where the plaintext of a record is put together."""
        self.socket: memoryview = memoryview(bytearray(SOCKET_SIZE)) if outer is None else outer.socket
        """Where sockets at the ends of the network read to; they are never inside a stream."""
        self.waiting: WaitingBytes = WaitingBytes() if outer is None else outer.waiting

    @cached_property
    def websocket(self) -> memoryview:
        """Where WebSockets read to; made when the first one is there. They are never inside a stream."""
        return memoryview(bytearray(RECEIVE_SIZE))

    @cached_property
    def nested(self) -> Buffers:
        """The set for links that run on streams of the links that use this one; made when it is first needed."""
        return Buffers(self)
