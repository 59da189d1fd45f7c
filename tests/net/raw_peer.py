"""A member of the network that keeps no rules: a true handshake, and then whatever bytes a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.errors import LinkLost
from bethrou.net.reader import ByteReader
from bethrou.net.securities import NOISE
from bethrou.net.upgrade import Upgrader
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.psk import NetworkKey
from bethrou.wire.secure_channel import MAX_PLAINTEXT
from bethrou.wire.yamux.frame import ACK, DATA, PING, SYN, FrameReader
from net.hosts import KEY, PIPE, upgrader
from wire.yamux.frames import Read, data, pong


class RawPeer(asyncio.Protocol):
    """The peer's side of a link, frame by frame. Answers pings unless told not to."""

    def __init__(self) -> None:
        self.frames: list[Read] = []
        self.answers_pings = True
        self.goodbye = ""
        """With what words the host ended the session, where the security has words for it."""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._reader = FrameReader()
        self._received = bytearray()
        self._news: asyncio.Future[None] | None = None

    @classmethod
    async def dial(
        cls, port: int, name: str = "raw", key: NetworkKey = KEY, security: str = NOISE
    ) -> RawPeer:
        """Connect to a host on this machine."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(ByteReader, "127.0.0.1", port)
        return await cls().over(transport, upgrader(name, key, [security]))

    async def over(self, transport: asyncio.Transport, upgrader: Upgrader, initiator: bool = True) -> RawPeer:
        """Shake hands on a transport."""
        dialling = upgrader.dial(transport, None) if initiator else upgrader.accept(transport)
        upgraded = await dialling
        self.transport = transport
        self._seal = upgraded.sealer.seal
        self._open = upgraded.opener.read
        self._keystream = upgraded.receive_keystream
        self._received += upgraded.surplus
        transport.set_protocol(self)
        self._read()
        return self

    # -- what it sends ----------------------------------------------------------------------------------------------

    def send(self, *frames: bytes) -> None:
        """Send frames, as many records as it takes."""
        plain = memoryview(b"".join(frames))
        for start in range(0, len(plain), MAX_PLAINTEXT):
            self.transport.write(self._seal(plain[start : start + MAX_PLAINTEXT]))

    def open_pipe(self, stream: int, payload: bytes = b"") -> None:
        """Open a stream of `PIPE`, as rust does, with `payload` behind the proposal."""
        self.send(data(stream, HEADER + frame(PIPE) + payload, SYN))

    def send_raw(self, wire: bytes) -> None:
        """Send bytes that are no record."""
        self.transport.write(wire)

    # -- what it gets -----------------------------------------------------------------------------------------------

    def data_of(self, stream: int) -> bytes:
        """All payload received on a stream."""
        return b"".join(
            payload for kind, _, each, _, payload in self.frames if (kind, each) == (DATA, stream)
        )

    def flags_of(self, stream: int) -> int:
        """All flags seen on a stream."""
        flags = 0
        for _, each_flags, each, _, _ in self.frames:
            flags |= each_flags if each == stream else 0
        return flags

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to be received, or the end."""
        while not condition() and not self.lost.done():
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        assert condition(), f"the link ended: {self.lost.result()!r}"

    async def round_trip(self) -> None:
        """Wait until the host has read everything sent so far."""
        value = sum(1 for kind, *_ in self.frames if kind == PING) + 1_000_000
        self.send(bytes((0, PING, 0, SYN)) + bytes(4) + value.to_bytes(4, "big"))
        await self.until(lambda: any(each[:2] == (PING, ACK) and each[3] == value for each in self.frames))

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._received += self._keystream.xor(data)
        self._read()
        self._tell()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self._tell()

    def _read(self) -> None:
        while True:
            received = memoryview(bytes(self._received))
            try:
                plain, position = self._open(received, 0, len(received))
            except LinkLost as goodbye:
                self.goodbye = str(goodbye)
                return
            del self._received[:position]
            if plain is None:
                return
            for kind, flags, stream, length, payload in self._reader.read(plain):
                self.frames.append((kind, flags, stream, length, bytes(payload)))
                if kind == PING and flags & SYN and self.answers_pings:
                    self.send(pong(length))

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
