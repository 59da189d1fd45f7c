"""The control socket's server: HTTP/1.1 and JSON for processes of the same user, over a Unix socket.

It gets connections that somebody else has accepted. h11 and what needs it is loaded when the first one comes: most
programs are never asked anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from bethrou.ops.control import Control
from bethrou.ops.http_messages import HttpError, Patience, turned_away

if TYPE_CHECKING:
    from bethrou.ops.control_routes import Metrics, Routes
    from bethrou.ops.http_connection import HttpConnection

MAX_CONNECTIONS = 64
"""Connections at once; more are answered 503."""

PATIENCE = Patience()

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
        patience: Patience = PATIENCE,
    ) -> None:
        self._control = control
        self._tasks = tasks
        self._uid = uid
        self._clock = clock
        self._metrics = metrics
        self._patience = patience
        self._routes: Routes | None = None
        self._connections = 0

    def accept(self, sock: socket.socket) -> None:
        """Serve a connection (non-blocking) that was just accepted."""
        peer = _user_of(sock)
        if peer not in (None, self._uid, _ROOT):
            _turn_away(sock, 403, "Forbidden", "only the user whose program this is, and root, may ask")
        elif self._connections >= MAX_CONNECTIONS:
            _turn_away(sock, 503, "Service Unavailable", f"there are {MAX_CONNECTIONS} connections already")
        else:
            self._connections += 1
            self._tasks.start(self._serve(sock), "control connection")

    async def _serve(self, sock: socket.socket) -> None:
        from bethrou.ops.http_connection import READ_SIZE, HttpConnection

        try:
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=READ_SIZE)
        except OSError:
            self._connections -= 1
            sock.close()
            return
        connection = HttpConnection(reader, writer, self._patience)
        try:
            await self._converse(connection)
        except OSError:
            return  # the peer is gone, or does not read
        finally:
            await connection.close()
            self._connections -= 1

    async def _converse(self, connection: HttpConnection) -> None:
        from bethrou.ops.control_routes import Routes

        routes = self._routes = self._routes or Routes(self._control, self._metrics)
        while True:
            try:
                request = await connection.next_request()
                if request is None:
                    return
                answer = await routes.answer(request)
            except HttpError as error:
                answer = error.answer
            if answer is None:
                await self._stream_events(connection)
                return
            await connection.send(answer)
            if not connection.reusable:
                return

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


def _turn_away(sock: socket.socket, status: int, reason: str, message: str) -> None:
    with contextlib.suppress(OSError), sock:
        sock.send(turned_away(status, reason, message))
