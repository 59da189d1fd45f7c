"""Destinations: TCP servers on loopback, each with one habit, which tell how every connection went."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from live.payload import MIB, Payload

_CHUNK = 256 * 1024


@dataclass
class Visit:
    """One connection that a target served."""

    received: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)
    head: bytes = b""
    end: str = ""
    """"eof" or the error with which the other side ended; "" while it has not."""
    done: bool = False

    @property
    def sha256(self) -> str:
        return self.digest.hexdigest()

    def take(self, data: bytes) -> None:
        self.received += len(data)
        self.digest.update(data)
        if len(self.head) < 64 * 1024:
            self.head += data


Habit = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Visit], Awaitable[None]]


class Target:
    """A listening socket whose connections `habit` serves."""

    def __init__(self, habit: Habit) -> None:
        self.visits: list[Visit] = []
        self._habit = habit
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.host = ""
        self.port = 0

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def open_visits(self) -> int:
        """Connections being served now."""
        return sum(not visit.done for visit in self.visits)

    async def start(self, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(self._serve, host, 0, limit=MIB, backlog=1024)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        visit = Visit()
        self.visits.append(visit)
        try:
            await self._habit(reader, writer, visit)
        except OSError as error:
            visit.end = visit.end or type(error).__name__
        except asyncio.CancelledError:
            visit.end = visit.end or "cancelled"
        finally:
            visit.done = True
            self._tasks.discard(task)
            if visit.end == "eof":
                writer.close()
            else:
                writer.transport.abort()


@contextlib.asynccontextmanager
async def target(habit: Habit, host: str = "127.0.0.1") -> AsyncIterator[Target]:
    """A target for the length of a block."""
    server = Target(habit)
    await server.start(host)
    try:
        yield server
    finally:
        await server.close()


# -- habits ---------------------------------------------------------------------------------------------------------


async def drain_to_end(reader: asyncio.StreamReader, visit: Visit) -> None:
    """Read until the other side ends its direction."""
    try:
        while data := await reader.read(_CHUNK):
            visit.take(data)
    except OSError as error:
        visit.end = type(error).__name__
        raise
    visit.end = "eof"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
    """Sends back what comes, then ends."""
    try:
        while data := await reader.read(_CHUNK):
            visit.take(data)
            writer.write(data)
            await writer.drain()
    except OSError as error:
        visit.end = type(error).__name__
        raise
    visit.end = "eof"
    writer.write_eof()


async def fingerprint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
    """Reads until EOF, and only then answers: 64 hex digits, the SHA-256 of what came."""
    await drain_to_end(reader, visit)
    writer.write(visit.sha256.encode())
    await writer.drain()


def source(payload: Payload) -> Habit:
    """Sends `payload`, whatever it is told, and ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        for block in payload:
            writer.write(block)
            await writer.drain()
        writer.write_eof()
        await drain_to_end(reader, visit)

    return serve


def endless(block: bytes = bytes(64 * 1024)) -> Habit:
    """Sends for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        while not writer.is_closing():
            writer.write(block)
            await writer.drain()
        raise ConnectionResetError

    return serve


def answers_after_fin(answer: Payload) -> Habit:
    """Reads until EOF, then sends `answer` and ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await drain_to_end(reader, visit)
        for block in answer:
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    return serve


def banner(words: bytes) -> Habit:
    """Speaks first, then sends back what comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        writer.write(words)
        await echo(reader, writer, visit)

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
    """Takes what comes and says nothing, not even at the end."""
    await drain_to_end(reader, visit)


def hashes(size: int) -> Habit:
    """Reads `size` bytes and answers with their SHA-256 in 64 hex digits; waits for no EOF."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        while visit.received < size:
            data = await reader.read(_CHUNK)
            if not data:
                raise ConnectionResetError
            visit.take(data)
        writer.write(visit.sha256.encode())
        await drain_to_end(reader, visit)

    return serve


def request_then_slow_answer(size: int, answer: Payload, pieces: int, pause: float) -> Habit:
    """Reads `size` bytes, then sends `answer` in so many pieces, with `pause` seconds in front of each."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        visit.take(await reader.readexactly(size))
        whole = bytes(answer)
        step = -(-len(whole) // pieces)
        for start in range(0, len(whole), step):
            await asyncio.sleep(pause)
            writer.write(whole[start : start + step])
            await writer.drain()
        writer.write_eof()
        await drain_to_end(reader, visit)

    return serve


def leaves_after(size: int) -> Habit:
    """Reads `size` bytes, then hangs up although more is coming."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        visit.take(await reader.readexactly(size))
        visit.end = "left"

    return serve
