"""Where applications connect: one port for SOCKS5, SOCKS4 and HTTP, told apart by the first byte.

    socket --> handshake (10 s) --> route --> reply --> splice

Each connection begins as SOCKS (`socks_server.py`); one that turns out to speak HTTP is handed over with what it has
said (`http_server.py`, which is loaded by the first). What is neither gets an answer that it may understand, and one
line in the log.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from bethrou.events import DescriptorsShort, Emit, StrangerRefused
from bethrou.net.listener import Acceptor
from bethrou.net.tasks import Tasks
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy import application
from bethrou.proxy.access import Access
from bethrou.proxy.carrier import Carrier
from bethrou.proxy.socks_server import SocksConnection
from bethrou.snapshots import ConnectionSnapshot

if TYPE_CHECKING:  # it brings h11, which few clients need
    from bethrou.proxy.http_server import HttpServer

MANY = 128
"""Connections that wait for their request to be carried out, beyond which others are taken on one by one: five thousand
at a time would take half as much memory again."""

MAX_CONNECTIONS = 32_768
"""Applications' connections at once; more are closed."""


class FrontDoor:
    """Serves one listening socket; `carrier` carries out what is asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, carrier: Carrier, access: Access, emit: Emit) -> None:
        self.loop = loop
        self.access = access
        """May be changed; who is connected stays."""
        self.carrier = carrier
        self.connections = carrier.connections
        """All that are alive."""
        self.handshakes = TimeoutQueue(loop, application.HANDSHAKE_TIMEOUT)
        self.draining = False
        """Whether nothing new is taken."""
        self._emit = emit
        self._tasks = Tasks(loop)
        self._acceptor: Acceptor | None = None
        self._http: HttpServer | None = None

    def listen(self, sock: socket.socket) -> None:
        """Serve a listening socket."""
        self._acceptor = Acceptor(
            self.loop,
            sock,
            self._accepted,
            lambda short: self._emit(DescriptorsShort("socks", short)),
            lambda: len(self._tasks) >= MANY,
        )

    def drain(self) -> None:
        """Accept no more applications, and no more requests of those that could send another one."""
        self.draining = True
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in list(self.connections):
            connection.drain()

    def snapshots(self) -> list[ConnectionSnapshot]:
        """The connections that carry a request, or wait for one to be carried."""
        now = self.loop.time()
        seen = [connection.snapshot(now) for connection in self.connections]
        return [snapshot for snapshot in seen if snapshot is not None]

    def close_connection(self, identifier: str) -> bool:
        """End the connection whose request has this ID. Whether there was one."""
        for connection in self.connections:
            if connection.request is not None and connection.request.id == identifier:
                connection.abort("closed by the user")
                return True
        return False

    def idle_for(self, seconds: float) -> bool:
        """Whether no connection has moved a byte for `seconds`; requests on their way count as moving."""
        now = self.loop.time()
        return all(connection.idle_since(now) >= seconds for connection in self.connections)

    async def close(self) -> None:
        """End every connection at once."""
        self.drain()
        self.handshakes.close()
        for connection in list(self.connections):
            connection.abort()
        if self._http is not None:
            await self._http.close()
        await self._tasks.close()

    # -- what connections ask of it ----------------------------------------------------------------------------------

    def stranger(self, address: str, reason: str) -> None:
        """Something connected that speaks nothing that is spoken here, or must not come in."""
        self._emit(StrangerRefused("socks", address, reason))

    def speaks_http(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection that has begun with `data` as HTTP."""
        if self._http is None:
            from bethrou.proxy.http_server import HttpServer

            self._http = HttpServer(self)
        self._http.serve(transport, data)

    # -- one connection ----------------------------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        if len(self.connections) >= MAX_CONNECTIONS:
            sock.close()
            return
        self._tasks.start(self._serve(sock), "socks connection")

    async def _serve(self, sock: socket.socket) -> None:
        try:
            _, connection = await self.loop.connect_accepted_socket(lambda: SocksConnection(self), sock)
        except OSError:
            sock.close()
            return
        wanted = await connection.wanted
        if wanted is not None and not connection.lost:
            task = asyncio.current_task()
            assert task is not None
            connection.on_lost = task.cancel
            await self.carrier.carry(connection, wanted.host, wanted.port, connection.name)
