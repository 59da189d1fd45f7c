"""Applications that speak HTTP to a client, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from live.http_origin import read_message
from live.members import Client, Node
from live.payload import MIB
from live.targets import Target
from live.waiting import until


@dataclass
class World:
    """A client and its exit."""

    client: Client
    node: Node

    async def quiet(self) -> None:
        """Nothing is left of what was carried."""
        await until(lambda: self.client.app.active == self.node.app.active == 0)


class Talk:
    """An application's connection, raw."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """The next answer, head and framed body."""
        async with asyncio.timeout(10):
            return await read_message(self.reader)

    async def rest(self) -> bytes:
        """All until the end."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.answer()


@contextlib.asynccontextmanager
async def talk(client: Client) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection(*client.proxy, limit=4 * MIB)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def get(far: Target, path: str = "/", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} http://{far.address}{path} HTTP/{version}", f"Host: {far.address}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def connect(far: Target, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"CONNECT {far.address} HTTP/{version}", f"Host: {far.address}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def chunks(data: bytes, size: int = 100_000) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def decoded(message: bytes) -> bytes:
    head, _, body = message.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    whole = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return whole
        whole += body[:size]
        body = body[size + 2 :]


def shape(answer: bytes) -> tuple[int, bytes]:
    """Status and body; the body is one readable line."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body.endswith(b"\n")
    assert body[:-1].decode().isprintable()
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    return int(head.split(b" ")[1]), body
