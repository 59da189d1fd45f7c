"""One side of an HTTP conversation: bytes in, bytes out, both bounded and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.net.reader import ByteReader
from bethrou.net.tcp import reset
from bethrou.wire.http_request import HeadScanner


class HttpPipe(ByteReader):
    """Takes `transport` over, with what came before: `surplus`, and whether it has `ended` or is `lost`."""

    __slots__ = (
        "_drained",
        "_full",
        "_loop",
        "began",
        "first_received",
        "last_activity",
        "on_end",
        "received",
        "sent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        surplus: bytes = b"",
        ended: bool = False,
        lost: bool = False,
    ) -> None:
        super().__init__(transport, surplus)
        self._loop = loop
        self._eof, self._lost = ended or lost, lost
        self._full = False
        self._drained: asyncio.Future[None] | None = None
        self.on_end: Callable[[], object] | None = None
        """Called when the other end has sent all it will, or is gone, if set."""
        self.sent = 0
        self.received = len(surplus)
        self.began = self.last_activity = loop.time()
        """When it was taken over, and when the last byte moved, in the loop's seconds."""
        self.first_received = self.began if surplus else None
        """When the first byte came, or None."""
        transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Write; what is written to a pipe that is gone is gone, too."""
        if data and not self._lost and not self.transport.is_closing():
            self.sent += len(data)
            self.last_activity = self._loop.time()
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until more can be written, or the pipe is gone. One coroutine at a time."""
        if self._full and not self._lost:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    async def begins(self) -> bool:
        """Wait for a byte, which stays; False when there will be none."""
        await self._fill(1)
        return bool(self._buffer)

    async def read_head(self) -> bytes:
        """A request's head, blank line included; b"" when the other end leaves before its end.

        Raises `HttpRefused`.
        """
        scanner = HeadScanner()
        while True:
            while self._buffer[:2] == b"\r\n":  # in front of a request line, spec: RFC 9112, section 2.2
                self._consume(2)
            if size := scanner.find(self._buffer):
                head = bytes(self._buffer[:size])
                self._consume(size)
                return head
            have = len(self._buffer)
            await self._fill(have + 1)
            if len(self._buffer) == have:
                return b""

    async def skip(self) -> None:
        """Read what comes for nobody, until the other end has ended."""
        while await self.read_some():
            continue

    def break_off(self) -> None:
        """End at once, so that the other end does not take what it has for the whole."""
        if not self._lost:
            reset(self.transport)

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.last_activity = self._loop.time()
        if self.first_received is None:
            self.first_received = self.last_activity
        self.received += len(data)
        super().data_received(data)

    def eof_received(self) -> bool:
        super().eof_received()
        if self.on_end is not None:
            self.on_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._let_write()
        if self.on_end is not None:
            self.on_end()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._let_write()

    def _let_write(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
