"""The address at which metrics can be had: HTTP, `GET /metrics` and nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from bethrou.ops.control import Metrics
from bethrou.ops.control_server import TaskOwner
from bethrou.ops.http_connection import READ_SIZE, serve_connection
from bethrou.ops.http_messages import Answer, HttpError, Request
from bethrou.ops.metrics import CONTENT_TYPE

MAX_CONNECTIONS = 16
"""Connections at once; more are closed."""


class MetricsServer:
    """Serves the text that `metrics` makes. It gets connections that somebody else has accepted.

    `tasks` runs a task for each connection; whoever owns it ends them. `local`: only this machine can connect.
    """

    def __init__(self, metrics: Metrics, tasks: TaskOwner, *, local: bool) -> None:
        self._metrics = metrics
        self._local = local
        self._tasks = tasks
        self._arriving: set[socket.socket] = set()
        """Accepted sockets whose task has not begun."""
        self._connections = 0

    def accept(self, sock: socket.socket) -> None:
        """Serve a connection (non-blocking) that was just accepted."""
        if self._connections >= MAX_CONNECTIONS:
            sock.close()
            return
        self._connections += 1
        self._arriving.add(sock)
        self._tasks.start(self._serve(sock), "metrics connection")

    def close(self) -> None:
        """Let go of connections that no task has taken up; to be called when the tasks have ended."""
        for sock in self._arriving:
            sock.close()

    async def _serve(self, sock: socket.socket) -> None:
        self._arriving.discard(sock)
        opening = asyncio.open_connection(sock=sock, limit=READ_SIZE)
        try:
            await serve_connection(sock, opening, lambda connection: connection.converse(self._answer))
        finally:
            self._connections -= 1

    async def _answer(self, request: Request) -> Answer:
        """Raises HttpError."""
        if request.from_browser:
            raise HttpError(403, "requests of web pages (with an Origin) are refused")
        if self._local and not _is_local(request.host):
            raise HttpError(
                403, "this address is for programs of this machine: name it by its IP address or localhost"
            )
        if request.url.path != "/metrics":
            raise HttpError(404, "there is only /metrics")
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "/metrics takes GET", [("Allow", "GET, HEAD")])
        return Answer(200, self._metrics().encode(), CONTENT_TYPE)


def _is_local(host: str) -> bool:
    """Whether a Host header is one that a program of this machine sends. A page can have a domain lead here (DNS
    rebinding), and then sends no Origin; an IP address, localhost or a name without dots it cannot have.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
