"""Strangers and members that misuse WebSockets: bounded, told why, and nobody else is harmed.

The other end is the package websockets' frame layer, or bytes written by hand.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.frames import Close, Frame, Opcode

from bethrou.errors import BethrouError, DialError, NetworkKeyMismatch, WebSocketError
from bethrou.net.websocket import WebSocketTransport
from bethrou.wire.multiaddr import Multiaddr
from net.collector import Collector
from net.hosts import Member
from net.loops import BOTH, LoopFactory
from net.memory import memory_pipe

WS = Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws")
KEY = base64.b64encode(b"k" * 16)
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
    + KEY
    + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
NONCE = bytes(24)


def pytest_asyncio_loop_factories() -> dict[str, LoopFactory]:
    return BOTH


class Stranger:
    """A TCP connection to a host's WebSocket port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def open(self) -> None:
        """Through the opening handshake."""
        self.writer.write(REQUEST)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")

    def send(self, opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = True) -> None:
        self.writer.write(Frame(opcode, data, fin).serialize(mask=mask))

    async def rest(self) -> bytes:
        """All that comes until the other end closes."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def closed_with(self) -> tuple[int, str]:
        """The close frame at the end."""
        data = await self.rest()
        end = data.rfind(b"\x88")
        close = Close.parse(data[end + 2 :])
        return close.code, close.reason


@contextlib.asynccontextmanager
async def stranger_at(host: Member) -> AsyncIterator[Stranger]:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    try:
        yield Stranger(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Member]:
    monkeypatch.setattr("bethrou.net.accepting.SILENCE", 0.05)
    member = Member("host", at=WS)
    try:
        yield member
        await still_serves(member)
    finally:
        await member.close()
    assert member.accepting.handshakes == 0


async def still_serves(member: Member) -> None:
    honest = Member("honest")
    try:
        await honest.dial(member.peer_id, [member.address])
    finally:
        await honest.close()


async def refusal(host: Member) -> BethrouError:
    while not host.happenings.refusals:
        await asyncio.sleep(0)
    return host.happenings.refusals[0]


# -- before there is a WebSocket ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: Mozilla/5.0\r\n\r\n",
            "426 Upgrade Required",
            "Connection",
        ),
        (b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * 20_000, "431 Request Header Fields", "16384 bytes"),
        (
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
            "431 Request Header Fields",
            "expected no more",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), "400 Bad Request", "no HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "400 Bad Request", "no HTTP/1.1"),
        (REQUEST.replace(b"13", b"7"), "400 Bad Request", "Version"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", "400 Bad Request", "HTTP"),
    ],
)
async def test_requests_for_something_else(host: Member, request_: bytes, status: str, reason: str) -> None:
    async with stranger_at(host) as stranger:
        stranger.writer.write(request_)
        answer = await stranger.rest()
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert len(answer) < 600
    error = await refusal(host)
    assert isinstance(error, WebSocketError)
    assert reason in str(error)


@pytest.mark.parametrize("sent", [b"", b"G", REQUEST[:-2]])
async def test_requests_that_never_end(host: Member, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr("bethrou.net.websocket_opening.HANDSHAKE_TIMEOUT", 0.05)
    async with stranger_at(host) as stranger:
        stranger.writer.write(sent)
        assert (await stranger.rest()).startswith(b"HTTP/1.1 408 ")
    assert "in time" in str(await refusal(host))
    monkeypatch.undo()


async def test_a_request_cut_off(host: Member) -> None:
    async with stranger_at(host) as stranger:
        stranger.writer.write(REQUEST[:50])
    assert "closed in the middle of the WebSocket handshake" in str(await refusal(host))


# -- before there is a link --------------------------------------------------------------------------------------------


async def text(stranger: Stranger) -> None:
    stranger.send(Opcode.TEXT, b"hello")


async def unmasked(stranger: Stranger) -> None:
    stranger.send(Opcode.BINARY, NONCE, mask=False)


async def too_large(stranger: Stranger) -> None:
    stranger.writer.write(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4) + b"x")


async def unfinished_control(stranger: Stranger) -> None:
    stranger.writer.write(b"\x09\x80" + bytes(4))


async def extension(stranger: Stranger) -> None:
    stranger.writer.write(b"\xc2\x80" + bytes(4))


async def two_messages_in_one(stranger: Stranger) -> None:
    stranger.send(Opcode.BINARY, b"", fin=False)
    stranger.send(Opcode.BINARY, b"")


@pytest.mark.parametrize("spoken", [False, True], ids=["at once", "behind the nonce"])
@pytest.mark.parametrize(
    ("attack", "code", "reason"),
    [
        (text, 1003, "text message"),
        (unmasked, 1002, "without a mask"),
        (too_large, 1009, "at most 16777216"),
        (unfinished_control, 1002, "control frame"),
        (extension, 1002, "extension"),
        (two_messages_in_one, 1002, "begins inside another"),
    ],
)
async def test_broken_rules(
    host: Member,
    attack: Callable[[Stranger], Awaitable[None]],
    code: int,
    reason: str,
    spoken: bool,
) -> None:
    async with stranger_at(host) as stranger:
        await stranger.open()
        if spoken:
            stranger.send(Opcode.BINARY, NONCE)
        await attack(stranger)
        found, said = await stranger.closed_with()
    assert found == code
    assert reason in said
    assert reason in str(await refusal(host))


async def test_a_goodbye_instead_of_a_handshake(host: Member) -> None:
    async with stranger_at(host) as stranger:
        await stranger.open()
        stranger.send(Opcode.CLOSE, Close(1000, "").serialize())
        await stranger.rest()
    await refusal(host)


async def test_a_connection_cut_in_a_frame(host: Member) -> None:
    async with stranger_at(host) as stranger:
        await stranger.open()
        stranger.writer.write(Frame(Opcode.BINARY, NONCE).serialize(mask=True)[:-5])
    assert "without a Close frame" in str(await refusal(host))


async def test_bytes_of_another_network(host: Member) -> None:
    async with stranger_at(host) as stranger:
        await stranger.open()
        stranger.send(Opcode.BINARY, os.urandom(100))
        await stranger.rest()
    assert isinstance(await refusal(host), NetworkKeyMismatch)


# -- floods ------------------------------------------------------------------------------------------------------------


async def test_pings_are_answered_by_few_pongs(host: Member) -> None:
    flood = b"".join(
        Frame(Opcode.PING, str(number).encode()).serialize(mask=True) for number in range(20_000)
    )
    async with stranger_at(host) as stranger:
        await stranger.open()
        stranger.writer.write(flood)
        await stranger.writer.drain()
        pongs = b""
        while b"19999" not in pongs:
            pongs += await stranger.reader.read(65536)
    assert pongs.count(b"\x8a") < 1000


async def test_a_flood_of_tiny_frames_leaves_the_loop_free(host: Member) -> None:
    flood = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 60_000
    async with stranger_at(host) as stranger:
        await stranger.open()
        stranger.send(Opcode.BINARY, b"x", fin=False)
        stranger.writer.write(flood)
        turns = 0
        for _ in range(50):
            await still_serves(host)  # in between
            turns += 1
            if not stranger.writer.transport.get_write_buffer_size():
                break
        assert turns


async def test_pings_whose_answers_are_not_read() -> None:
    loop = asyncio.get_running_loop()
    below, peer = memory_pipe(loop)
    protocol = Collector()
    transport = WebSocketTransport(
        loop, below, protocol, is_client=False, randbytes=os.urandom, scratch=memoryview(bytearray(4096))
    )
    transport.start()
    peer.set_protocol(Collector())
    peer.frozen = True
    ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True)
    while not protocol.lost.done():
        peer.write(ping)
        await asyncio.sleep(0)
        assert below.get_write_buffer_size() < 3 << 20
    assert "does not read the answers" in str(protocol.lost.result())


# -- the other way round -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(answer: bytes, *, end: bool = True) -> AsyncIterator[Multiaddr]:
    """A server that says `answer` to whoever connects."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if end:
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}/ws")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nsad", "502 Bad Gateway"),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n", "301 Moved"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no WebSocket there"),
        (b"HTTP/1.1 200 " + b"a" * 30_000, "16384 bytes without the end"),
        (b"", "closed in the middle of the WebSocket handshake"),
        (b"220 mail.example.org ESMTP\r\n\r\n", "no HTTP"),
    ],
)
async def test_servers_that_speak_something_else(answer: bytes, reason: str) -> None:
    dialer, other = Member("dialer"), Member("other")
    try:
        async with answering(answer) as address:
            with pytest.raises(DialError, match=reason) as caught:
                await dialer.dial(other.peer_id, [address])
            assert str(address) in str(caught.value)
    finally:
        await dialer.close()
        await other.close()


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bethrou.net.websocket_opening.HANDSHAKE_TIMEOUT", 0.05)
    dialer, other = Member("dialer"), Member("other")
    try:
        async with answering(b"HTTP/1.1 101 Switching", end=False) as address:
            with pytest.raises(DialError, match="no answer to the WebSocket request"):
                await dialer.dial(other.peer_id, [address])
    finally:
        await dialer.close()
        await other.close()
