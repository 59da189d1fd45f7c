"""The control socket's server: HTTP/1.1 and JSON for processes of the same user, over a Unix socket.

It gets connections that somebody else has accepted. h11 and what needs it is loaded when the first one comes: most
programs are never asked anything.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from bethrou.ops.control import Control, Metrics
from bethrou.ops.http_messages import turned_away

if TYPE_CHECKING:
    from bethrou.ops.control_routes import Routes
    from bethrou.ops.http_connection import HttpConnection

MAX_CONNECTIONS = 64
"""Connections at once; as many more are answered 503 at a time, and what comes beyond that is closed."""

_FAREWELL = 1.0  # seconds in which a connection that is refused has to read why
_STRANGER = "only the user whose program this is, and root, may ask"
_FULL = f"there are {MAX_CONNECTIONS} connections already"
_CREDENTIALS = struct.Struct("3i")  # Linux' struct ucred: process, user, group
_ROOT = 0


class TaskOwner(Protocol):
    """Who runs tasks and ends them."""

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `coroutine` as a task called `name`."""


class ControlServer:
    """Serves `control` to this user (`uid`) and root. `clock` gives the time of day in seconds.

    `tasks` runs a task for each connection; whoever owns it ends them.
    """

    def __init__(
        self,
        control: Control,
        tasks: TaskOwner,
        uid: int,
        clock: Callable[[], float],
        metrics: Metrics | None = None,
    ) -> None:
        self._control = control
        self._tasks = tasks
        self._uid = uid
        self._clock = clock
        self._metrics = metrics
        self._routes: Routes | None = None
        self._arriving: set[socket.socket] = set()
        """Accepted sockets whose task has not begun."""
        self._connections = 0
        self._leaving = 0
        """Connections that are refused and have not left yet."""

    def accept(self, sock: socket.socket) -> None:
        """Serve a connection (non-blocking) that was just accepted."""
        self._arriving.add(sock)
        peer = _user_of(sock)
        if peer not in (None, self._uid, _ROOT):
            self._turn_away(sock, turned_away(HTTPStatus.FORBIDDEN, _STRANGER))
        elif self._connections >= MAX_CONNECTIONS:
            self._turn_away(sock, turned_away(HTTPStatus.SERVICE_UNAVAILABLE, _FULL))
        else:
            self._connections += 1
            self._tasks.start(self._serve(sock), "control connection")

    def close(self) -> None:
        """Let go of connections that no task has taken up; to be called when the tasks have ended."""
        for sock in self._arriving:
            sock.close()

    def _turn_away(self, sock: socket.socket, answer: bytes) -> None:
        if self._leaving >= MAX_CONNECTIONS:
            self._arriving.discard(sock)
            sock.close()
            return
        self._leaving += 1
        self._tasks.start(self._refuse(sock, answer), "refused control connection")

    async def _refuse(self, sock: socket.socket, answer: bytes) -> None:
        """Send `answer` and close, but not before the peer has: it would lose the answer while it still sends."""
        self._arriving.discard(sock)
        loop = asyncio.get_running_loop()
        try:
            sock.send(answer)
            sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_FAREWELL):
                while await loop.sock_recv(sock, len(answer)):
                    continue
        except OSError:
            return  # gone, or it has had its time
        finally:
            sock.close()
            self._leaving -= 1

    async def _serve(self, sock: socket.socket) -> None:
        from bethrou.ops.http_connection import READ_SIZE, serve_connection

        self._arriving.discard(sock)
        opening = asyncio.open_unix_connection(sock=sock, limit=READ_SIZE)
        try:
            await serve_connection(sock, opening, self._converse)
        finally:
            self._connections -= 1

    async def _converse(self, connection: HttpConnection) -> None:
        from bethrou.ops.control_routes import Routes

        routes = self._routes = self._routes or Routes(self._control, self._metrics)
        if await connection.converse(routes.answer):
            await self._stream_events(connection)

    async def _stream_events(self, connection: HttpConnection) -> None:
        """Send events until the peer leaves or the server ends."""
        from bethrou.ops.event_stream import CONTENT_TYPE, EventStream

        events = EventStream(self._clock)
        unsubscribe = self._control.subscribe(events.put)
        leaving = self._tasks.start(connection.left(), "end of control connection")
        leaving.add_done_callback(lambda _: events.end())
        try:
            await connection.start_stream(CONTENT_TYPE)
            while (piece := await events.next_piece()) is not None:
                await connection.send_piece(piece)
        finally:
            unsubscribe()
            leaving.cancel()
            connection.end_stream()


def _user_of(sock: socket.socket) -> int | None:
    """The user at the other end; None where the system does not say it this way."""
    if sys.platform != "linux":
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
