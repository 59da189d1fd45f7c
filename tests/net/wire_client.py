"""A plain TCP client, or server, that may hold the network key and says what tests tell it to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bethrou.wire.pnet import NONCE_SIZE, Keystream
from net.hosts import KEY

NONCE = bytes(range(NONCE_SIZE))


class Wire:
    """One connection. `heard` is what came in, as it came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = b""
        self._reader = reader
        self._writer = writer
        self._out = Keystream(KEY.raw, NONCE)
        self._in: Keystream | None = None

    @classmethod
    @asynccontextmanager
    async def dial(cls, port: int) -> AsyncIterator[Wire]:
        """Connect to a port of this machine."""
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            yield wire
        finally:
            await wire.close()

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self._writer.is_closing():
            self._writer.write(data)

    def say(self, plain: bytes) -> None:
        """Send protected bytes; the nonce must have gone first."""
        self.raw(self._out.xor(plain))

    def greet(self, plain: bytes = b"") -> None:
        """Send the nonce, and `plain` behind it."""
        self.raw(NONCE)
        self.say(plain)

    async def hear(self, size: int) -> bytes:
        """The next `size` bytes of the peer, without protection; its nonce is taken off by itself."""
        if self._in is None:
            nonce = await self._reader.readexactly(NONCE_SIZE)
            self.heard += nonce
            self._in = Keystream(KEY.raw, nonce)
        data = await self._reader.readexactly(size)
        self.heard += data
        return self._in.xor(data)

    async def hear_message(self) -> bytes:
        """The next Noise message."""
        return await self.hear(int.from_bytes(await self.hear(2), "big"))

    async def end(self) -> None:
        """Wait until the peer ends the connection."""
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(65536):
                self.heard += data

    async def finish(self) -> None:
        """End our direction, and wait for the peer to end its own."""
        self._writer.write_eof()
        await self.end()

    def reset(self) -> None:
        """End it with a TCP RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@asynccontextmanager
async def serving(handler: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[int]:
    """A server on this machine, by its port; each connection is the handler's until it returns."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        wire = Wire(reader, writer)
        with contextlib.suppress(asyncio.CancelledError):  # which asyncio's streams would complain about
            await handler(wire)
        with contextlib.suppress(asyncio.CancelledError):
            await wire.close()
        running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
