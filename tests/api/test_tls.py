"""TLS over a pipe whose reader is slow, whose pieces come at bad moments, and whose peer breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from pathlib import Path
from typing import Any

import pytest

from bethrou.api.tls import TlsTransport, shaken
from e2e.web import NAME, Web
from live.payload import MIB, Payload

SENT = Payload(MIB + 77, seed=9)


class Below(asyncio.Transport):
    """The pipe below, whose other end is the test's own TLS server."""

    def __init__(self, certificate: Path) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.paused = self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        self._incoming.write(data)

    def said(self) -> bytes:
        """What the server has to say since it was last asked."""
        return self._outgoing.read()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Program(asyncio.Protocol):
    """Pauses at each piece, and resumes when it is told to."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ends = 0
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert not self.ends
        self.received += data
        self.transport.pause_reading()  # type: ignore[attr-defined]

    def eof_received(self) -> bool:
        self.ends += 1
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


async def connected(web: Web) -> tuple[Below, Program, TlsTransport]:
    """A connection whose handshake is over."""
    below, program = Below(web.authority), Program()
    context = ssl.create_default_context(cafile=str(web.authority))
    transport = TlsTransport(asyncio.get_running_loop(), program, context, NAME)
    transport.connection_made(below)
    while not transport.ready.done():
        with contextlib.suppress(ssl.SSLWantReadError):
            below.server.do_handshake()
        transport.data_received(below.said())
    assert await shaken(transport) is transport
    return below, program, transport


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("notify", [True, False], ids=["close-notify", "ragged"])
async def test_a_slow_reader_gets_all_before_the_end(web: Web, seed: int, notify: bool) -> None:
    """Pieces, pauses, resumptions and the end in any order, also between a resumption and its effect."""
    below, program, transport = await connected(web)
    rng = random.Random(seed)
    below.server.write(bytes(SENT))
    if notify:
        with pytest.raises(ssl.SSLWantReadError):
            below.server.unwrap()
    wire = below.said()
    while wire or not program.ends:
        if wire and not below.paused and rng.random() < 0.6:
            size = rng.choice([100, 16_000, 100_000, 300_000])
            transport.data_received(wire[:size])
            wire = wire[size:]
            if not wire and rng.random() < 0.5:
                transport.eof_received()
        if rng.random() < 0.7:
            transport.resume_reading()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        if not wire and not notify:
            transport.eof_received()
    assert bytes(program.received) == bytes(SENT)
    assert program.ends == 1
    transport.close()
    assert below.closed
    transport.connection_lost(None)
    assert program.lost == [None]


async def test_what_waits_for_the_reader_is_bounded(web: Web) -> None:
    below, program, transport = await connected(web)
    below.server.write(bytes(SENT))
    wire = below.said()
    fed = 0
    while wire and not below.paused:
        transport.data_received(wire[:16_000])
        fed, wire = fed + 16_000, wire[16_000:]
    assert below.paused
    assert fed < 512 * 1024
    while below.paused:
        transport.resume_reading()
        await asyncio.sleep(0)
    assert program.received


async def test_a_pipe_that_is_gone_delivers_what_has_come_and_says_so_once(web: Web) -> None:
    below, program, transport = await connected(web)
    below.server.write(bytes(SENT)[:200_000])
    transport.data_received(below.said())
    transport.eof_received()
    transport.connection_lost(None)
    assert program.lost == []
    while not program.lost:
        transport.resume_reading()
        await asyncio.sleep(0)
    assert bytes(program.received) == bytes(SENT)[:200_000]
    assert (program.ends, program.lost) == (1, [None])


async def test_a_connection_that_is_cut_is_no_end(web: Web) -> None:
    below, program, transport = await connected(web)
    below.server.write(b"half")
    transport.data_received(below.said())
    transport.connection_lost(ConnectionResetError("cut"))
    assert program.received == b"half"
    assert program.ends == 0
    assert isinstance(program.lost[0], ConnectionResetError)


async def test_bytes_that_are_no_records_end_it(web: Web) -> None:
    below, program, transport = await connected(web)
    transport.data_received(b"this is no TLS record at all")
    assert below.aborted
    assert isinstance(program.lost[0], ssl.SSLError)
    assert program.ends == 0
