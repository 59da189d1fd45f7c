"""What goes wrong on a network, made on loopback: addresses that drop SYNs, and paths that take their time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator


class DeafListener:
    """A listening socket whose queue is full: the system drops every further SYN, as a firewall would."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = socket.socket()
        self._listener.bind((host, 0))
        self._listener.listen(0)
        self.host, self.port = self._listener.getsockname()
        self._queued: list[socket.socket] = []
        self._fill()

    def _fill(self) -> None:
        """Connect until no connection comes about any more."""
        for _ in range(8):
            sock = socket.socket()
            self._queued.append(sock)
            sock.settimeout(0.2)
            try:
                sock.connect((self.host, self.port))
            except TimeoutError:
                return
        raise AssertionError("this system accepts connections beyond the queue of a listening socket")

    def accept(self) -> None:
        """Have room for connections from now on. The system sends its SYNs again after a second or so."""
        self._listener.listen(16)
        self._listener.setblocking(False)
        for _ in self._queued:
            with contextlib.suppress(BlockingIOError):
                self._listener.accept()[0].close()

    def close(self) -> None:
        for sock in (*self._queued, self._listener):
            sock.close()


@contextlib.contextmanager
def deaf_listener() -> Iterator[DeafListener]:
    """For the length of a block."""
    listener = DeafListener()
    try:
        yield listener
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def detour(address: str, delay: float) -> AsyncIterator[str]:
    """A longer way to the peer at `address`: every byte takes `delay` seconds more, each way."""
    host, port = address.split("/")[2], int(address.split("/")[4])
    loop = asyncio.get_running_loop()
    pairs: list[asyncio.Transport] = []

    class End(asyncio.Protocol):
        other: End | None = None
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]
            pairs.append(self.transport)

        def data_received(self, data: bytes) -> None:
            loop.call_later(delay, self._pass_on, data)

        def _pass_on(self, data: bytes) -> None:
            assert self.other is not None
            self.other.transport.write(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.other is not None:
                self.other.transport.close()

    class Entrance(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()
            self._task = loop.create_task(self._connect())

        async def _connect(self) -> None:
            _, exit_ = await loop.create_connection(End, host, port)
            self.other, exit_.other = exit_, self
            self.transport.resume_reading()

    server = await loop.create_server(Entrance, "127.0.0.1", 0)
    entrance = server.sockets[0].getsockname()[1]
    try:
        yield address.replace(f"/tcp/{port}/", f"/tcp/{entrance}/")
    finally:
        server.close()
        for transport in pairs:
            transport.abort()
