"""Short conversations on a transport: a coroutine reads what it needs, and hands on what came too early.

`ByteReader` is the protocol of a transport as long as a conversation lasts. At its end `detach` gives back every byte
that was read too far; whoever takes the transport over gets them first. Losing those bytes is the classic mistake of
layered protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.errors import DecodeError, LinkLost
from bethrou.wire import varint

_LIMIT = 64 * 1024  # bytes that may wait before the transport is asked to stop


class ByteReader(asyncio.Protocol):
    """Reads exactly as much as is asked for. One coroutine at a time may wait.

    Every method that waits raises the error with which the pipe ended, or `LinkLost` when it ended in the middle of
    what was asked for.
    """

    __slots__ = (
        "_buffer",
        "_decode",
        "_eof",
        "_error",
        "_lost",
        "_paused",
        "_waiter",
        "on_lost",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, transport: asyncio.Transport | None = None, surplus: bytes = b"") -> None:
        """Without a transport this is the first protocol of a new one, as `create_connection` wants it."""
        if transport is not None:
            self.transport = transport
        self.on_lost: Callable[[], object] | None = None
        """Called when the pipe is gone, if set: for conversations that wait for something else meanwhile."""
        self._decode: Callable[[bytes], bytes] | None = None
        self._buffer = bytearray(surplus)
        self._waiter: asyncio.Future[None] | None = None
        self._eof = False
        self._lost = False
        self._error: Exception | None = None
        self._paused = False

    async def read_some(self) -> bytes:
        """The next bytes, as many as are there; b"" at the end."""
        await self._fill(1)
        data = bytes(self._buffer)
        self._consume(len(data))
        return data

    async def read_exactly(self, size: int) -> bytes:
        """`size` bytes, at most 65,536 (what a conversation may need at once; raises `ValueError` beyond)."""
        if size > _LIMIT:
            raise ValueError(f"conversations read at most {_LIMIT} bytes at once, not {size}")
        await self._fill(size)
        if len(self._buffer) < size:
            raise LinkLost(
                f"the peer closed in the middle of a message ({len(self._buffer)} of {size} bytes)"
            )
        data = bytes(self._buffer[:size])
        self._consume(size)
        return data

    async def read_prefixed(self, limit: int) -> bytes:
        """A message with its length in front as an unsigned varint, of at most `limit` bytes."""
        while True:
            try:
                size, start = varint.decode(self._buffer)
                break
            except varint.Truncated:
                have = len(self._buffer)
                await self._fill(have + 1)
                if len(self._buffer) == have:
                    raise LinkLost("the peer closed before a message") from None
        if size > limit:
            raise DecodeError(f"a message of {size} bytes; at most {limit} are allowed")
        return (await self.read_exactly(start + size))[start:]

    def set_decoder(self, decode: Callable[[bytes], bytes]) -> None:
        """Apply `decode` to everything not yet read, and to every chunk that arrives (pnet, in an upgrade)."""
        self._decode = decode
        self._buffer[:] = decode(bytes(self._buffer))

    def push_back(self, data: bytes) -> None:
        """Read `data` again, before anything else."""
        self._buffer[:0] = data

    def write(self, data: bytes) -> None:
        """Write to the transport (conversations are short: nothing waits)."""
        self.transport.write(data)

    @property
    def buffered(self) -> int:
        """Bytes that are here and not yet read."""
        return len(self._buffer)

    def pause(self) -> None:
        """Leave what comes to the transport until `detach`: nothing more is to be read, or not soon."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def detach(self) -> bytes:
        """End the conversation: all bytes read too far. The caller sets the transport's next protocol."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return data

    @property
    def ended(self) -> bool:
        """Whether the peer has ended its direction; a protocol that takes over will not be told again."""
        return self._eof

    @property
    def lost(self) -> bool:
        """Whether the pipe is gone; a protocol that takes over will not be told again."""
        return self._lost

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's are no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        if self._decode is not None:
            data = self._decode(data)
        self._buffer += data
        if len(self._buffer) > _LIMIT and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = self._lost = True
        self._error = exc or self._error
        self._wake()
        if self.on_lost is not None:
            self.on_lost()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _consume(self, size: int) -> None:
        del self._buffer[:size]
        if self._paused and len(self._buffer) <= _LIMIT:
            self._paused = False
            self.transport.resume_reading()

    async def _fill(self, size: int) -> None:
        """Wait until `size` bytes are there or no more will come."""
        while len(self._buffer) < size and not self._eof:
            assert self._waiter is None, "two coroutines read from one ByteReader"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if len(self._buffer) < size and self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def reader_of(transport: asyncio.Transport) -> ByteReader:
    """The reader that has listened since the connection was made, or a new one.

    Go writes its first bytes as soon as it is connected: they may be here before whoever waited for the connection.
    """
    reader = transport.get_protocol()
    if not isinstance(reader, ByteReader):
        reader = ByteReader(transport)
        transport.set_protocol(reader)
    return reader
