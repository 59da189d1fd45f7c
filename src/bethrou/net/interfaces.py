"""The addresses of this machine's own interfaces, from the C library's getifaddrs (Linux, macOS, BSD).

The standard library can name interfaces but not their addresses.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

MAX_AGE = 5.0
"""How old the list may get, in seconds. Reading it costs some 0.1 ms; addresses change once in hours."""


class _IfAddrs(ctypes.Structure):
    """struct ifaddrs (man 3 getifaddrs): the same fields in the same order on all these systems."""


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("destination", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]

_IPV4_OFFSET = 4  # sockaddr_in: family (and length), port, address
_IPV6_OFFSET = 8  # sockaddr_in6: family (and length), port, flow information, address


def local_addresses() -> frozenset[Address]:
    """Return every IPv4 and IPv6 address of every interface, up or down, without zones. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot list this machine's addresses: {os.strerror(number)}")
    try:
        found = set()
        entry = first
        while entry:
            address = _read_sockaddr(entry.contents.address)
            if address is not None:
                found.add(address)
            entry = entry.contents.next
        return frozenset(found)
    finally:
        libc.freeifaddrs(first)


def _read_sockaddr(pointer: int | None) -> Address | None:
    if not pointer:
        return None
    # BSDs begin with a byte of length and a byte of family, Linux with a 16-bit family.
    head = ctypes.string_at(pointer, 2)
    family = head[1] if sys.platform != "linux" else int.from_bytes(head, sys.byteorder)
    if family == socket.AF_INET:
        return IPv4Address(ctypes.string_at(pointer + _IPV4_OFFSET, 4))
    if family == socket.AF_INET6:
        return IPv6Address(ctypes.string_at(pointer + _IPV6_OFFSET, 16))
    return None


class OwnAddresses:
    """This machine's addresses, read again when the list is older than `MAX_AGE`."""

    def __init__(self, now: float, read: Callable[[], frozenset[Address]] = local_addresses) -> None:
        """Read the list for the first time; `now` is the loop's time in seconds. Raises OSError."""
        self._read = read
        self._addresses = read()
        self._read_at = now

    def current(self, now: float) -> frozenset[Address]:
        """Return the addresses as of the last `MAX_AGE` seconds; the same object while nothing changed."""
        if now - self._read_at >= MAX_AGE:
            self._read_at = now
            try:
                addresses = self._read()
            except OSError:
                # It needs a socket: with none left the old list is the best there is, and the next try near.
                return self._addresses
            if addresses != self._addresses:
                self._addresses = addresses
        return self._addresses
