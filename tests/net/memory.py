"""A pipe in memory: two transports of one event loop, for tests that must be in charge of every byte and of time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_HIGH = 64 * 1024


class MemoryTransport(asyncio.Transport):
    """One end. `chunk` is how much it delivers at once; a `frozen` end takes everything and does nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol | None = None) -> None:
        super().__init__()
        self.chunk = 256 * 1024
        self.frozen = False
        self.sent = 0
        """Bytes that were ever written here."""
        self._loop = loop
        self._protocol = protocol
        self._peer: MemoryTransport | None = None
        self._outgoing = bytearray()
        self._reading = True
        self._scheduled = False
        self._eof_sent = False
        self._eof_told = False
        self._closing = False
        self._lost = False
        self._writer_paused = False
        self._high, self._low = _HIGH, _HIGH // 4

    @property
    def peer(self) -> MemoryTransport:
        assert self._peer is not None
        return self._peer

    def thaw(self) -> None:
        """Go on where `frozen` stopped."""
        self.frozen = False
        self._schedule()

    # -- asyncio.Transport ------------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._schedule()

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._schedule()

    def get_write_buffer_size(self) -> int:
        return len(self._outgoing)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH if low is None else 4 * low
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._maybe_pause()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_sent and not self._closing:
            raise RuntimeError("cannot write after write_eof()")
        if self._closing:
            return
        self.sent += len(data)
        self._outgoing += data
        if self.peer._lost:
            self._loop.call_soon(self._end, ConnectionResetError("the other end is closed"))
        self.peer._schedule()
        self._maybe_pause()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof_sent = True
        self.peer._schedule()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.write_eof()
        self._schedule()  # what comes in from here on is for nobody
        if not self._outgoing:
            self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        self._closing = True
        self._outgoing.clear()
        self._loop.call_soon(self._end, None)
        self._loop.call_soon(self.peer._end, ConnectionResetError("the other end has aborted"))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _maybe_pause(self) -> None:
        if len(self._outgoing) > self._high and not self._writer_paused and self._protocol is not None:
            self._writer_paused = True
            self._protocol.pause_writing()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        peer, protocol = self.peer, self._protocol
        if self._closing:
            peer._outgoing.clear()
            peer._drained()
            return
        if protocol is None or self.frozen or not self._reading:
            return
        if peer._outgoing:
            size = self.chunk
            if isinstance(protocol, asyncio.BufferedProtocol):
                room = memoryview(protocol.get_buffer(size)).cast("B")
                taken = bytes(peer._outgoing[: min(size, len(room))])
                room[: len(taken)] = taken
            else:
                taken = bytes(peer._outgoing[:size])
            del peer._outgoing[: len(taken)]
            peer._drained()
            if isinstance(protocol, asyncio.BufferedProtocol):
                protocol.buffer_updated(len(taken))
            elif isinstance(protocol, asyncio.Protocol):
                protocol.data_received(taken)
            self._schedule()
        elif peer._eof_sent and not self._eof_told:
            self._eof_told = True
            if not protocol.eof_received():  # type: ignore[attr-defined]
                self.close()

    def _drained(self) -> None:
        if self._writer_paused and len(self._outgoing) <= self._low and self._protocol is not None:
            self._writer_paused = False
            self._loop.call_soon(self._resume_writer)
        if self._closing and not self._outgoing:
            self._loop.call_soon(self._end, None)

    def _resume_writer(self) -> None:
        if not self._lost and self._protocol is not None:
            self._protocol.resume_writing()

    def _end(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        if self._protocol is not None:
            self._protocol.connection_lost(error)


def memory_pipe(loop: asyncio.AbstractEventLoop) -> tuple[MemoryTransport, MemoryTransport]:
    """Two ends."""
    left, right = MemoryTransport(loop), MemoryTransport(loop)
    left._peer, right._peer = right, left
    return left, right
