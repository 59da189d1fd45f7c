"""Accepting connections: bounded, and never stopped by a shortage of file descriptors.

The accept loop is our own because neither event loop's does what a server needs when descriptors run out: it must
say so once, keep serving what is connected, and go on accepting when there are descriptors again.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from bethrou.errors import ConfigError
from bethrou.net.tcp import LISTEN_BACKLOG, keep_alive

_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SHORTAGE_PAUSE = 0.5  # seconds between attempts while descriptors are short
# Connections accepted in one turn of the loop: those that are here are finished before more come in.
_BURST = 8


def open_listening_socket(
    host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
) -> socket.socket:
    """A non-blocking listening socket. Raises `ConfigError` when the address cannot be had."""
    try:
        found = socket.getaddrinfo(
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    actual, kind, proto, _, where = found[0]
    sock = socket.socket(actual, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if actual == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        keep_alive(sock)  # what is accepted inherits it, at no price
        sock.bind(where)
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return sock


def bind_beside(listening: socket.socket) -> socket.socket:
    """A non-blocking socket that is bound to the port on which `listening` listens, to connect from there.

    SO_REUSEPORT on both allows it. The listening socket has it only from here on: it was bound without, so that a
    second instance of ours is refused the port instead of sharing it without a word. Raises `OSError`.
    """
    sock = socket.socket(listening.family, listening.type, listening.proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(listening.getsockname())
    except OSError:
        sock.close()
        raise
    return sock


class Acceptor:
    """Accepts from one listening socket until closed; `accepted` gets each new (non-blocking) socket.

    `shortage(True)` is called when file descriptors run out, `shortage(False)` when accepting goes on. `busy` says
    whether so much has begun that more is to be taken on one by one: what has begun takes memory.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        accepted: Callable[[socket.socket], None],
        shortage: Callable[[bool], None],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.socket = sock
        self._loop = loop
        self._accepted = accepted
        self._shortage = shortage
        self._busy = busy
        self._short = False
        self._timer: asyncio.TimerHandle | None = None
        loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening. What was accepted stays."""
        if self.socket.fileno() < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        else:
            self._loop.remove_reader(self.socket.fileno())
        self.socket.close()

    def _accept(self) -> None:
        for _ in range(1 if self._busy() else _BURST):
            try:
                connection, _ = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORTAGE:
                    raise
                self._rest()
                return
            if self._short:
                self._short = False
                self._shortage(False)
            connection.setblocking(False)
            self._accepted(connection)

    def _rest(self) -> None:
        """Let the waiting connections wait: descriptors come back when others end."""
        if not self._short:
            self._short = True
            self._shortage(True)
        self._loop.remove_reader(self.socket.fileno())
        self._timer = self._loop.call_later(_SHORTAGE_PAUSE, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._loop.add_reader(self.socket.fileno(), self._accept)
