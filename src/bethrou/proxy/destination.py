"""The exit's side of a destination: look its name up, judge every address, dial those that are permitted."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

import aiohappyeyeballs

from bethrou.errors import Failure, RequestError
from bethrou.proxy.resolver import Resolver
from bethrou.wire.destination import pack_address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Judge = Callable[[Address, int], str | None]
"""Why an address and port may not be dialled, or None."""

_HAPPY_EYEBALLS_DELAY = 0.25  # seconds between attempts (RFC 8305, Connection Attempt Delay)
_MAX_ADDRESSES = 8

_FAILURES = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.REFUSED,
    errno.EHOSTUNREACH: Failure.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Failure.HOST_UNREACHABLE,
    errno.ENETUNREACH: Failure.NET_UNREACHABLE,
    errno.ENETDOWN: Failure.NET_UNREACHABLE,
    errno.EADDRNOTAVAIL: Failure.NET_UNREACHABLE,
    errno.EAFNOSUPPORT: Failure.NET_UNREACHABLE,  # IPv6 on a machine that has none
    errno.EACCES: Failure.DENIED,
    errno.EPERM: Failure.DENIED,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EMFILE: Failure.OVERLOADED,
    errno.ENFILE: Failure.OVERLOADED,
    errno.ENOBUFS: Failure.OVERLOADED,
    errno.ENOMEM: Failure.OVERLOADED,
}

_MOST_TELLING = (
    Failure.OVERLOADED,
    Failure.REFUSED,
    Failure.TIMEOUT,
    Failure.HOST_UNREACHABLE,
    Failure.NET_UNREACHABLE,
    Failure.DENIED,
    Failure.INTERNAL,
)
"""Which failure counts when the addresses of a name fail in different ways: an exit without IPv6 cannot reach half of
them, but what the others said is the answer. What is the exit's own trouble goes first: another one may have none."""

_ERRNO = re.compile(r"\[Errno (\d+)\]")


class EarlyBytes(asyncio.Protocol):
    """Keeps what a destination says before the splice takes over: some servers speak first."""

    __slots__ = ("data", "ended", "lost")

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.lost = True


async def reach(
    loop: asyncio.AbstractEventLoop, host: str, port: int, resolver: Resolver, judge: Judge
) -> tuple[asyncio.Transport, EarlyBytes]:
    """A connection to `host`:`port`. Raises `RequestError` with the failure that the application is told."""
    packed = pack_address(host)
    found = [ipaddress.ip_address(packed)] if packed is not None else await resolver.resolve(host)
    permitted = _permitted_addresses(found, port, judge)
    try:
        if len(permitted) == 1:
            text = host if packed is not None else str(permitted[0])
            transport, early = await loop.create_connection(EarlyBytes, text, port)
        else:
            sock = await aiohappyeyeballs.start_connection(
                [_address_info(address, port) for address in permitted],
                happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY,
                loop=loop,
            )
            transport, early = await loop.create_connection(EarlyBytes, sock=sock)
    except (OSError, RuntimeError) as error:  # RuntimeError: uvloop, of a file descriptor still in its books
        said = error.strerror if isinstance(error, OSError) else None
        raise RequestError(_failure_of(error), said or str(error)) from None
    return transport, early


def _permitted_addresses(found: Sequence[Address], port: int, judge: Judge) -> Sequence[Address]:
    permitted = []
    reason: str | None = None
    for address in found[:_MAX_ADDRESSES]:
        denial = judge(address, port)
        if denial is None:
            permitted.append(address)
        else:
            reason = denial
    if not permitted:
        raise RequestError(Failure.DENIED, reason or "no address is permitted")
    return permitted


def _failure_of(error: OSError | RuntimeError) -> Failure:
    # aiohappyeyeballs joins the errors of several addresses to one text, and drops their numbers if they differ
    known = error.errno if isinstance(error, OSError) else None
    numbers = [known] if known else [int(number) for number in _ERRNO.findall(str(error))]
    failures = [_FAILURES.get(number, Failure.INTERNAL) for number in numbers]
    return min(failures, key=_MOST_TELLING.index, default=Failure.INTERNAL)


def _address_info(address: Address, port: int) -> aiohappyeyeballs.AddrInfoType:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    where = (str(address), port) if address.version == 4 else (str(address), port, 0, 0)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
