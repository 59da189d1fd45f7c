"""Applications: SOCKS5 clients that notice everything, and hash what they get."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Iterable

from live.payload import MIB
from live.waiting import PATIENCE

GREETING = b"\x05\x01\x00"


class Refused(Exception):
    """The proxy's reply was not success."""

    def __init__(self, code: int) -> None:
        super().__init__(f"reply {code:#04x}")
        self.code = code


def connect_request(host: str, port: int, command: int = 1) -> bytes:
    """The request for `host`, an IP address or a name."""
    try:
        packed = ipaddress.ip_address(host).packed
        where = bytes([1 if len(packed) == 4 else 4]) + packed
    except ValueError:
        where = bytes([3, len(host)]) + host.encode("latin-1")
    return b"\x05" + bytes([command]) + b"\x00" + where + struct.pack("!H", port)


class Application:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.bound: tuple[str, int] = ("", 0)

    async def read_reply(self) -> None:
        """Read the reply to a request. Raises `Refused`."""
        _, code, _, kind = await self.reader.readexactly(4)
        host = ipaddress.ip_address(await self.reader.readexactly(4 if kind == 1 else 16))
        (port,) = struct.unpack("!H", await self.reader.readexactly(2))
        self.bound = str(host), port
        if code:
            raise Refused(code)

    async def send(self, blocks: Iterable[bytes], *, end: bool = False) -> None:
        """Send, and end this direction if `end`. Raises ConnectionError when the connection is gone."""
        for block in blocks:
            self._check_alive()
            self.writer.write(block)
            await self.writer.drain()
        if end:
            self._check_alive()
            self.writer.write_eof()

    def _check_alive(self) -> None:
        if self.writer.transport.is_closing():  # uvloop's transport would raise RuntimeError
            raise ConnectionResetError("the connection is gone")

    async def receive(self, size: int | None = None) -> tuple[int, str]:
        """Read `size` bytes, or until EOF: how many came, and their SHA-256."""
        digest = hashlib.sha256()
        count = 0
        while size is None or count < size:
            data = await self.reader.read(MIB if size is None else min(MIB, size - count))
            if not data:
                break
            count += len(data)
            digest.update(data)
        return count, digest.hexdigest()

    def abort(self) -> None:
        """End with a TCP reset, as the system does for a process that is killed with unread data."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def open_application(
    proxy: tuple[str, int], host: str, port: int, *, behind: bytes = b"", user: tuple[str, str] | None = None
) -> Application:
    """Ask the proxy for a connection, with `behind` in the packet of the request. Raises `Refused`."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(*proxy, limit=MIB)
        app = Application(reader, writer)
        try:
            if user is None:
                writer.write(GREETING)
                assert await reader.readexactly(2) == b"\x05\x00"
            else:
                await _log_in(app, *user)
            writer.write(connect_request(host, port) + behind)
            await app.read_reply()
        except BaseException:
            writer.close()
            raise
        return app


async def _log_in(app: Application, name: str, password: str) -> None:
    app.writer.write(b"\x05\x01\x02")
    assert await app.reader.readexactly(2) == b"\x05\x02"
    words = (name.encode(), password.encode())
    app.writer.write(b"\x01" + b"".join(bytes([len(word)]) + word for word in words))
    status = (await app.reader.readexactly(2))[1]
    if status:
        raise PermissionError(f"user name status {status}")


@contextlib.asynccontextmanager
async def application(
    proxy: tuple[str, int], host: str, port: int, *, behind: bytes = b"", user: tuple[str, str] | None = None
) -> AsyncIterator[Application]:
    """A connection through the proxy for the length of a block."""
    app = await open_application(proxy, host, port, behind=behind, user=user)
    try:
        yield app
    finally:
        app.writer.close()
        with contextlib.suppress(OSError):
            await app.writer.wait_closed()


async def echoed(app: Application, data: bytes) -> bytes:
    """What comes back for `data`."""
    app.writer.write(data)
    async with asyncio.timeout(PATIENCE):
        return await app.reader.readexactly(len(data))


@contextlib.asynccontextmanager
async def chatter(app: Application) -> AsyncIterator[None]:
    """Keep bytes moving on a connection: it does not count as finished."""
    enough = asyncio.Event()

    async def talk() -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not enough.is_set():
                await echoed(app, b"still here")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), 0.2)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        enough.set()
        await task


async def refusal(proxy: tuple[str, int], host: str, port: int) -> int:
    """The code with which a request is refused."""
    try:
        async with application(proxy, host, port):
            return 0
    except Refused as refused:
        return refused.code
