"""Opening links: all addresses of a peer, staggered, the first finished handshake wins.

A connect alone proves nothing (something else may listen there, or a frozen peer's kernel answers for it), so the
race goes to the end of the upgrade. Losers are closed.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

import aiohappyeyeballs

from bethrou.errors import BethrouError, DialError, LinkLost
from bethrou.net.addresses import endpoint, family_of, tcp_endpoint
from bethrou.net.listener import bind_beside
from bethrou.net.reader import ByteReader, reader_of
from bethrou.net.tcp import configure_link
from bethrou.net.tls import HANDSHAKE_TIMEOUT as TLS_TIMEOUT
from bethrou.net.tls import TlsIdentity, said_by_tls
from bethrou.wire.multiaddr import Multiaddr

CONNECT_TIMEOUT = 5.0
"""Seconds for one address, name look-up included."""

STAGGER = 0.25
"""Seconds that the next address waits for the one before (RFC 8305, Connection Attempt Delay)."""

MAX_ADDRESSES = 32
"""Addresses of one peer that are tried."""

HEAD_START = 1.0
"""Seconds that addresses without a relay have before circuits are tried, too: a relay costs time and somebody's
traffic. When none of them is left, circuits do not wait."""

MAX_CIRCUITS = 8
"""Circuits to one peer that are tried."""

_BEFORE_CIRCUITS = round(HEAD_START / STAGGER)

Result = TypeVar("Result")


_PORT_IN_USE = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""There is, or was until a moment ago, a connection between the same two ports."""


async def connect(
    loop: asyncio.AbstractEventLoop, address: Multiaddr, beside: Sequence[socket.socket] = ()
) -> asyncio.Transport:
    """A TCP connection to `address`; a `ByteReader` keeps what comes. Raises `LinkLost` or `AddressError`.

    It comes from the port of one of the listening sockets in `beside`, if it can: then the peer sees, and tells us,
    where a NAT puts that port.
    """
    where = endpoint(address)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            found = await _look_up(loop, address, where.host, where.port)
            sock = await _start_connection(loop, found, beside)
    except TimeoutError:
        raise LinkLost(f"{address}: no answer within {CONNECT_TIMEOUT:.0f} s") from None
    except UnicodeError:
        raise LinkLost(f"{address}: no such host: {where.host} is no name that can be looked up") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: uvloop, of a file descriptor still in its books
        raise LinkLost(f"{address}: {said_by(error)}") from None
    return await _made_transport(loop, sock, address)


async def connect_tls(
    loop: asyncio.AbstractEventLoop, address: Multiaddr, tls: TlsIdentity | None
) -> ByteReader:
    """What reads a new connection to `address`, with TLS on it if `tls` says whom to trust.

    Raises `LinkLost`, `AddressError` or, where our own certificates cannot be used, `ConfigError`.
    """
    return await start_tls(loop, await connect(loop, address), address, tls)


async def start_tls(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, address: Multiaddr, tls: TlsIdentity | None
) -> ByteReader:
    """What reads the connection `transport` to `address`, as in `connect_tls`."""
    if tls is None:
        return reader_of(transport)
    inside = ByteReader()
    secured: asyncio.Transport | None = None
    try:
        secured = await loop.start_tls(
            transport,
            inside,
            tls.client,
            server_hostname=endpoint(address).server_name,
            ssl_handshake_timeout=TLS_TIMEOUT,
        )
    except (OSError, ValueError) as error:
        raise LinkLost(f"{address}: TLS: {said_by_tls(error)}") from None
    finally:
        if secured is None:
            transport.abort()
    if secured is None:
        raise LinkLost(f"{address}: the connection was closed during the TLS handshake")
    inside.connection_made(secured)
    return inside


async def connect_beside(
    loop: asyncio.AbstractEventLoop, address: Multiaddr, listening: socket.socket, patience: float
) -> asyncio.Transport:
    """A TCP connection to an IP address from the port of `listening` and no other, within `patience` seconds.

    Raises `LinkLost` or `AddressError`.
    """
    host, port = tcp_endpoint(address)
    sock: socket.socket | None = None
    try:
        sock = bind_beside(listening)
        async with asyncio.timeout(patience):
            await loop.sock_connect(sock, (host, port))
        connected, sock = sock, None
    except TimeoutError:
        raise LinkLost(f"{address}: no answer within {patience:.0f} s") from None
    except (OSError, RuntimeError) as error:
        raise LinkLost(f"{address}: {said_by(error)}") from None
    finally:
        if sock is not None:
            sock.close()
    return await _made_transport(loop, connected, address)


async def _start_connection(
    loop: asyncio.AbstractEventLoop,
    found: Sequence[aiohappyeyeballs.AddrInfoType],
    beside: Sequence[socket.socket],
) -> socket.socket:
    if beside:
        try:
            return await aiohappyeyeballs.start_connection(
                found,
                happy_eyeballs_delay=STAGGER,
                loop=loop,
                socket_factory=lambda info: _socket_beside(info, beside),
            )
        except OSError as error:
            if error.errno not in _PORT_IN_USE:
                raise
    return await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=STAGGER, loop=loop)


def _socket_beside(info: aiohappyeyeballs.AddrInfoType, beside: Sequence[socket.socket]) -> socket.socket:
    family, kind, proto, _, where = info
    listening = next((sock for sock in beside if sock.family == family and leads_out(sock, where[0])), None)
    return socket.socket(family, kind, proto) if listening is None else bind_beside(listening)


def leads_out(listening: socket.socket, host: str) -> bool:
    """Whether the IP address `host` can be reached from the address to which `listening` is bound."""
    bound = ipaddress.ip_address(listening.getsockname()[0].partition("%")[0])
    return not bound.is_loopback or ipaddress.ip_address(host.partition("%")[0]).is_loopback


async def _made_transport(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Multiaddr
) -> asyncio.Transport:
    transport: asyncio.Transport | None = None
    try:
        if sock.getsockname() == sock.getpeername():
            # From a port to that same port TCP connects a socket to itself (simultaneous open).
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        transport, _ = await loop.create_connection(ByteReader, sock=sock)
        configure_link(transport)
    except OSError as error:
        if transport is not None:
            transport.abort()
        sock.close()
        raise LinkLost(f"{address}: {said_by(error)}") from None
    return transport


def said_by(error: Exception) -> str:
    """What a failed connect says, for people."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)  # asyncio's own text says only that the call failed
    return error.strerror or str(error)


async def _look_up(
    loop: asyncio.AbstractEventLoop, address: Multiaddr, host: str, port: int
) -> Sequence[aiohappyeyeballs.AddrInfoType]:
    if not address.is_dns:
        family = family_of(address)
        where = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]
    return await loop.getaddrinfo(host, port, family=family_of(address), type=socket.SOCK_STREAM)


async def race(
    addresses: Sequence[Multiaddr],
    attempt: Callable[[Multiaddr], Coroutine[None, None, Result]],
    discard: Callable[[Result], None],
) -> Result:
    """Run `attempt` for each address, `STAGGER` seconds apart or as soon as all before have failed.

    Circuits begin `HEAD_START` seconds later than the others. Returns the first result; any other goes to `discard`.
    Raises `DialError` with every address's reason. When it returns or raises, no attempt is left running.
    """
    if not addresses:
        raise DialError("no address is known")
    failures: list[str] = []
    waiting = _in_order(addresses)
    loop = asyncio.get_running_loop()
    circuits_from = loop.time() + HEAD_START
    running: set[asyncio.Task[Result]] = set()
    winner: asyncio.Task[Result] | None = None
    try:
        while waiting or running:
            pause = circuits_from - loop.time() if waiting and waiting[0].is_circuit else 0.0
            if waiting and (pause <= 0 or not running):
                address = waiting.pop(0)
                running.add(asyncio.create_task(attempt(address), name=f"dial {address}"))
                pause = STAGGER
            done, _ = await asyncio.wait(
                running, timeout=pause if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                running.discard(task)
                if not isinstance(error, BethrouError):
                    raise error
                failures.append(str(error))
        raise DialError("; ".join(failures))
    finally:
        await _end_losers(running, winner, discard)


def _in_order(addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
    """As many as are tried; circuits stand where their time has come if nothing fails."""
    direct = [address for address in addresses if not address.is_circuit]
    circuits = [address for address in addresses if address.is_circuit][:MAX_CIRCUITS]
    direct = direct[: MAX_ADDRESSES - len(circuits)]
    return [*direct[:_BEFORE_CIRCUITS], *circuits, *direct[_BEFORE_CIRCUITS:]]


async def _end_losers(
    running: set[asyncio.Task[Result]],
    winner: asyncio.Task[Result] | None,
    discard: Callable[[Result], None],
) -> None:
    losers = [task for task in running if task is not winner]
    for task in losers:
        task.cancel()
    for outcome in await asyncio.gather(*losers, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            discard(outcome)
