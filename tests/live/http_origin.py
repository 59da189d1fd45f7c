"""An HTTP origin that answers from a script and keeps every byte it was sent, as it was sent."""

from __future__ import annotations

import asyncio
import re

from live.targets import Habit, Visit

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One request or response as it came, framing included; b"" at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        assert not error.partial, error.partial
        return b""
    if b"transfer-encoding: chunked" in head.lower():
        return head + await _chunks(reader)
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    raw = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        raw += line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        raw += await reader.readexactly(size + 2)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        raw += line
    return raw + b"\r\n"


def says(*answers: bytes, end: bool = False) -> Habit:
    """Reads a request for each answer, then sends it; afterwards, if `end`, hangs up, else waits for the other end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        for answer in answers:
            request = await read_message(reader)
            if not request:
                break
            visit.take(request)
            writer.write(answer)
            await writer.drain()
        if not end:
            while data := await reader.read(65536):
                visit.take(data)
        visit.end = "eof"

    return serve


def ok(body: bytes, *headers: bytes) -> bytes:
    """A plain answer."""
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body)
    return b"\r\n".join(lines)


def repeats(answer: bytes) -> Habit:
    """Gives the same answer to every request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        while request := await read_message(reader):
            visit.take(request)
            writer.write(answer)
            await writer.drain()
        visit.end = "eof"

    return serve
