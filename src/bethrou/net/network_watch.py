"""Notices that this machine has other addresses, or has slept: links that look alive may be dead.

On Linux the kernel tells of addresses at once (rtnetlink, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR); elsewhere they
are looked at every few seconds. Sleep shows in the clock that goes on during it (CLOCK_BOOTTIME) against the one that
does not.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from bethrou.net.interfaces import local_addresses

LOOK = 3.0
"""Seconds between two looks at the clocks and, where the kernel does not tell, at the addresses."""

SLEPT = 5.0
"""Seconds of sleep after which links are worth a look."""

SETTLE = 0.3
"""Seconds that news are gathered for: one change of the network is a dozen messages."""

_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100


def slept_so_far() -> float:
    """Seconds that the machine has slept since it was booted; always 0 where the system does not say."""
    boottime: int | None = vars(time).get("CLOCK_BOOTTIME")
    return 0.0 if boottime is None else time.clock_gettime(boottime) - time.monotonic()


class NetworkWatch:
    """Calls `changed` soon after the network may have changed, until `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
        slept: Callable[[], float] = slept_so_far,
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._slept = slept
        self._slept_then = slept()
        self._awoke = False
        self._addresses = local_addresses()
        self._settling: asyncio.TimerHandle | None = None
        self._socket = _open_netlink()
        if self._socket is not None:
            loop.add_reader(self._socket.fileno(), self._told)
        self._timer = loop.call_later(LOOK, self._look)

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._settling is not None:
            self._settling.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _told(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(65536):
                continue
        except (
            OSError
        ):  # nothing more to read, or more was said than fits: all that matters is that something was
            self._soon()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK, self._look)
        slept = self._slept()
        if slept - self._slept_then >= SLEPT:
            self._awoke = True
        self._slept_then = slept
        if self._awoke or self._socket is None:
            self._soon()

    def _soon(self) -> None:
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLE, self._compare)

    def _compare(self) -> None:
        self._settling = None
        try:
            addresses = local_addresses()
        except OSError:  # no descriptor left to ask with
            return
        if addresses != self._addresses or self._awoke:
            self._addresses, self._awoke = addresses, False
            self._changed()


def _open_netlink() -> socket.socket | None:
    """A socket that becomes readable when an address of this machine comes or goes; None where there is no such."""
    family: int | None = vars(socket).get("AF_NETLINK")
    if family is None:
        return None
    try:
        sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        sock.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    except OSError:
        sock.close()
        return None
    return sock
