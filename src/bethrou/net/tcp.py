"""Options of TCP sockets, where the system has them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

LISTEN_BACKLOG = 4096
"""Connections that may wait to be accepted; asyncio's 100 costs second-long connects when 500 come at a time."""

_USER_TIMEOUT_MS = 30_000
_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger: close() resets the connection
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


def _set(sock: socket.socket, level: int, name: str, value: int) -> None:
    option = vars(socket).get(name)  # absent on systems that lack it
    if option is not None:
        sock.setsockopt(level, option, value)


def keep_alive(sock: socket.socket) -> None:
    """Options of a socket at either end of the network, an application's or a destination's.

    TCP_NODELAY is not among them: both event loops set it themselves. What a listening socket has, the sockets that
    are accepted from it have, too.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def configure_link(transport: asyncio.BaseTransport) -> None:
    """Options of a socket that carries a link."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEPALIVE:
        _set(sock, socket.IPPROTO_TCP, name, value)
    _set(sock, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _USER_TIMEOUT_MS)


def limit_unsent(transport: asyncio.BaseTransport, size: int) -> None:
    """Have the kernel take no more than `size` bytes that it cannot send yet.

    Without it megabytes wait in front of a small request on a slow path. Not every pipe has a socket, and not every
    system the option.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        _set(sock, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", size)


def end_writing(transport: asyncio.WriteTransport) -> None:
    """End our direction. When the connection is gone already, asyncio's raises; it tells its protocol, too."""
    with contextlib.suppress(OSError):
        transport.write_eof()


def reset(transport: asyncio.WriteTransport) -> None:
    """Abort so that the other end sees an error.

    The system sends FIN for a socket that is only closed, and what was cut off would look like what has ended.
    """
    if not transport.is_closing():
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
