"""What others connect here: which of what a port speaks it is, and its way to a link.

Where a port speaks both plain libp2p and WebSockets, the first bytes tell: every dialer writes first, a nonce of random
bytes or `GET `. One nonce in 2^32 looks like the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from bethrou.errors import BethrouError, HandshakeError, LinkLost
from bethrou.net.addresses import peer_multiaddr
from bethrou.net.buffers import Buffers
from bethrou.net.link import CIRCUIT, DIRECT, Link, Upgraded
from bethrou.net.listening import Port
from bethrou.net.reader import ByteReader, reader_of
from bethrou.net.role_reversal import RoleReversals
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.net.tcp import configure_link
from bethrou.net.tls import HANDSHAKE_TIMEOUT, TlsIdentity, said_by_tls
from bethrou.net.upgrade import Upgrader
from bethrou.wire.multiaddr import Multiaddr

MAX_HANDSHAKES = 1024
"""Accepted connections that may be in their handshake at once; more are closed unheard."""

SILENCE = 2.0
"""Seconds after which somebody who says nothing is taken for a plain dialer that waits for us to speak."""

_REQUEST = b"GET "


class StartLink(Protocol):
    """Makes a link of what has been upgraded."""

    def __call__(
        self, transport: asyncio.Transport, upgraded: Upgraded, remote: Multiaddr, path: str
    ) -> Link: ...


class Accepting:
    """The accepting side of one host. `refused` is told of who did not get through, `start_link` of who did."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        upgrader: Upgrader,
        tls: TlsIdentity,
        buffers: Buffers,
        reversals: RoleReversals,
        refused: Callable[[Multiaddr, BethrouError], None],
        start_link: StartLink,
    ) -> None:
        self._loop = loop
        self._upgrader = upgrader
        self._tls = tls
        self._buffers = buffers
        self._reversals = reversals
        self._refused = refused
        self._start_link = start_link
        self._tasks = Tasks(loop)
        self._arriving: set[socket.socket] = set()
        """Accepted sockets whose task has not begun."""
        self._handshakes = 0
        self._closing = False

    @property
    def handshakes(self) -> int:
        """Connections and circuits that are in their handshake."""
        return self._handshakes

    def stop(self) -> None:
        """Take no more."""
        self._closing = True

    async def close(self) -> None:
        """Take no more, and end what has not become a link."""
        self._closing = True
        await self._tasks.close()
        for sock in self._arriving:
            sock.close()

    def take(self, port: Port, sock: socket.socket) -> None:
        """Somebody has connected to `port`."""
        if self._closing or self._handshakes >= MAX_HANDSHAKES:
            sock.close()
            return
        self._handshakes += 1
        self._arriving.add(sock)
        self._tasks.start(self._accept(port, sock), "accept")

    async def take_circuit(self, stream: YamuxStream, remote: Multiaddr) -> None:
        """Make a link of a stream that a relay has joined to somebody; its protocol has what was read too far."""
        if self._closing or self._handshakes >= MAX_HANDSHAKES:
            stream.reset(RESOURCE_LIMIT)
            return
        self._handshakes += 1
        try:
            await self._upgrade(stream, remote, CIRCUIT)
        finally:
            self._handshakes -= 1

    async def _accept(self, port: Port, sock: socket.socket) -> None:
        self._arriving.discard(sock)
        tls = port.websocket is not None and port.websocket.tls
        remote = peer_multiaddr(sock)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                ByteReader,
                sock,
                ssl=self._tls.server if tls else None,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT if tls else None,
            )
            configure_link(transport)
            await self._serve(port, reader_of(transport), remote)  # uvloop returns another one with TLS
        except BethrouError as error:
            self._refused(remote, error)
        except OSError as error:
            sock.close()
            if tls:
                self._refused(remote, HandshakeError(f"TLS: {said_by_tls(error)}"))
        finally:
            self._handshakes -= 1

    async def _serve(self, port: Port, reader: ByteReader, remote: Multiaddr) -> None:
        """Raises `BethrouError` when it does not come to an upgrade; the connection is then closed."""
        where = port.websocket
        if where is None or (port.plain and not await self._asks_for_websocket(reader, remote)):
            await self._upgrade(reader.transport, remote, DIRECT)
            return
        from bethrou.net.websocket_opening import accept_websocket  # heavy, and not needed by most

        transport = await accept_websocket(
            self._loop, reader, where.path, self._upgrader.randbytes, self._buffers.websocket
        )
        remote = Multiaddr.parse(f"{remote}{'/wss' if where.tls else '/ws'}")
        # js begins to listen a moment after its WebSocket is open: what it is told before that is lost to it.
        await self._first_bytes(reader_of(transport), 1)
        await self._upgrade(transport, remote, DIRECT)

    async def _asks_for_websocket(self, reader: ByteReader, remote: Multiaddr) -> bool:
        if self._reversals.peer_at(remote) is not None:
            return False  # it waits for us to speak
        return await self._first_bytes(reader, len(_REQUEST)) == _REQUEST

    async def _first_bytes(self, reader: ByteReader, size: int) -> bytes:
        """What the peer says first, to be read again; nothing, when it waits for us. Raises `LinkLost`."""
        first: bytes | None = None
        try:
            async with asyncio.timeout(SILENCE):
                first = await reader.read_exactly(size)
        except TimeoutError:
            first = b""
        except (LinkLost, OSError) as error:
            raise LinkLost(f"connection lost before a handshake: {error}") from None
        finally:
            if first is None:
                reader.transport.abort()
        reader.push_back(first)
        return first

    async def _upgrade(self, transport: asyncio.Transport, remote: Multiaddr, path: str) -> None:
        expected = self._reversals.peer_at(remote)
        try:
            if expected is not None:
                upgraded = await self._upgrader.dial(transport, expected)
            else:
                upgraded = await self._upgrader.accept(transport)
        except BethrouError as error:
            self._refused(remote, error)
            return
        self._start_link(transport, upgraded, remote, path)
