"""One connection to Redis, by redis-py: opened with a bound on every wait, and errors that say whose move it is.

redis-py speaks the protocol. What it leaves to others is here: the addresses of a name are tried in time (RFC 8305), a
`ca` file takes the place of the system's certificates, what is kept of one reply is bounded, and the end waits for
nobody. No text of the server reaches an error: Redis repeats the arguments of a command that it does not know, and
AUTH's is the password.

This module loads redis-py, a tenth of a second and some megabytes: import it only where discovery is enabled.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohappyeyeballs
from redis.asyncio.connection import Connection, DefaultParser
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from bethrou.discovery.redis_address import RedisAddress
from bethrou.errors import AccessRefused, ConfigError, LinkError, LinkLost
from bethrou.net.dialer import STAGGER, said_by
from bethrou.net.tcp import configure_link
from bethrou.printable import printable, quoted

TIMEOUT = 5.0
"""Seconds for connecting (name, TCP and TLS together), and for Redis to carry out a command."""

MAX_REPLY = 32 << 20
"""Bytes that are kept of a reply before it is complete; a longer one costs the connection. Redis keeps no more for a
subscriber (client-output-buffer-limit pubsub), so only where that was raised can a publisher get so far."""

_ERROR_CODE = re.compile(r"[A-Z]{2,20}")


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]
    """redis-py's parser, with a bound, and a count of what came."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self.reads = 0
        """Reads that brought something: any byte is life, also in the middle of a long reply."""

    async def read_from_socket(self) -> bool:
        if self._reader.len() > MAX_REPLY:
            raise InvalidResponse("too long")
        await super().read_from_socket()
        self.reads += 1
        return True


class RedisConnection(Connection):
    """A connection, to be opened once. After an error, or a cancelled wait, it can only be ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: RedisAddress, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(
            host=address.host,
            port=address.port,
            username=address.user if address.password else None,
            password=address.password or None,
            # We keep time: redis-py does so by asyncio.wait_for, which before Python 3.12 can lose a cancellation.
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT,
            parser_class=_Parser,
            driver_info=None,
            protocol=2,
        )
        self._loop = loop
        self._address = address
        self._where = f"Redis at {printable(str(address))}"
        self._tls = tls
        self._transport: asyncio.WriteTransport | None = None

    @property
    def usable(self) -> bool:
        """Whether it is open, as far as anybody has told us."""
        if self._reader is None or self._writer is None:
            return False
        return not (self._reader.at_eof() or self._writer.transport.is_closing())

    @property
    def reads(self) -> int:
        """How often something came so far."""
        assert isinstance(self._parser, _Parser)
        return self._parser.reads

    async def open(self) -> None:
        """Connect and log in. Raises `AccessRefused` or `LinkLost`."""
        async with self._in_time("log in"):
            await self.connect_check_health()

    async def carry_out(self, doing: str, *command: str | bytes) -> Any:
        """The reply to a command; `doing` names it in errors. Raises `AccessRefused` or `LinkLost`."""
        async with self._in_time(doing):
            await self.send_command(*command)
            return await self.read_response()

    async def next_reply(self, timeout: float) -> Any:
        """What comes next, asked for or not; None when nothing is complete in `timeout` seconds, [] for an error.

        Raises `LinkLost`, or `AccessRefused` where TLS tells so late that it wants a certificate of ours.
        """
        try:
            return await self.read_response(timeout=timeout)
        except ResponseError:
            return []
        except RedisError as error:
            raise self._explained(error, "listen") from None

    async def ask_for_life(self) -> None:
        """Have Redis say something; `next_reply` gets it."""
        async with self._in_time("listen"):
            await self.send_command("PING")

    async def end(self) -> None:
        """Close it now, whatever state it is in."""
        await self.disconnect(nowait=True)
        if self._transport is not None:
            # redis-py only asks it to close, and TLS would wait half a minute for a server that may be frozen.
            self._transport.abort()

    @contextlib.asynccontextmanager
    async def _in_time(self, doing: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TIMEOUT):
                yield
        except TimeoutError:
            raise LinkLost(f"{self._where} does not answer within {TIMEOUT:g} s") from None
        except RedisError as error:
            raise self._explained(error, doing) from None

    def _explained(self, error: RedisError, doing: str) -> LinkError:
        """What redis-py's `error` means, without the server's own words; `doing` is what was tried."""
        where = self._where
        if isinstance(error.__cause__, LinkError):
            return error.__cause__
        if isinstance(error, AuthenticationError | NoPermissionError | ResponseError):
            return self._refusal(error, doing)
        if isinstance(error, BusyLoadingError):
            return LinkLost(f"{where} is still loading its data")
        if isinstance(error, InvalidResponse):
            return LinkLost(f"{where} sends what makes no sense, or more than {MAX_REPLY >> 20} MiB at once")
        cause = error.__context__
        if isinstance(cause, ssl.SSLError) and not _is_end(cause):
            return AccessRefused(f"TLS with {where} failed: {_tls_reason(cause)}")
        if isinstance(cause, OSError):
            return LinkLost(f"{where}: {said_by(cause)}")
        return LinkLost(f"{where} closed the connection")

    def _refusal(self, error: RedisError, doing: str) -> AccessRefused:
        where = self._where
        user = "the default user" if self._address.user is None else f"user {quoted(self._address.user, 60)}"
        if isinstance(error, NoPermissionError):
            return AccessRefused(f"{where} does not let {user} {doing}: its access list (ACL) lacks that")
        code = error.status_code or str(error).partition(" ")[0]
        if code == "NOAUTH" or (isinstance(error, AuthenticationError) and not self._address.password):
            return AccessRefused(f"{where} wants a password")
        if code == "WRONGPASS":
            return AccessRefused(f"{where} does not accept the password of {user}, or knows no such user")
        if isinstance(error, AuthenticationError):
            return AccessRefused(f"{where} has no password for {user}, yet one is configured")
        if code == "DENIED":
            return AccessRefused(f"{where} is in protected mode and lets in nobody from other machines")
        shown = code if _ERROR_CODE.fullmatch(code) and code != self._address.password else "an error"
        return AccessRefused(f"{where} answers {shown} when asked to {doing}")

    async def _connect(self) -> None:
        """redis-py's hook. What is raised here reaches `explained` as the cause of redis-py's own error."""
        try:
            self._reader, self._writer = await self._open_streams()
        except UnicodeError:
            raise LinkLost(f"{self._where}: that is no name that can be looked up") from None
        except ssl.SSLError as error:
            if _is_end(error):
                raise LinkLost(f"{self._where} closed the connection") from None
            raise AccessRefused(f"TLS with {self._where} failed: {_tls_reason(error)}") from None
        except (OSError, RuntimeError) as error:
            raise LinkLost(f"{self._where}: {said_by(error)}") from None
        self._transport = self._writer.transport
        configure_link(self._transport)

    async def _open_streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        found = await self._loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=STAGGER, loop=self._loop)
        name = None if self._tls is None else self._address.host
        try:
            return await asyncio.open_connection(sock=sock, ssl=self._tls, server_hostname=name)
        except RuntimeError:  # uvloop, of a file descriptor still in its books
            sock.close()
            raise


class RedisServer:
    """Where connections are opened to. ConfigError at construction when the certificates are unusable."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: RedisAddress, ca: Path | None = None
    ) -> None:
        self.address = address
        self._loop = loop
        self._tls = _tls_context(ca) if address.tls else None

    def connection(self) -> RedisConnection:
        """A new connection, not yet open."""
        return RedisConnection(self._loop, self.address, self._tls)


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        what = "no certificates in PEM format" if isinstance(error, ssl.SSLError) else said_by(error)
        raise ConfigError(f"discovery ca {quoted(str(ca))}: {what}") from None


def _is_end(error: ssl.SSLError) -> bool:
    """Whether the other side just went away: a server that is being stopped does so in mid-handshake."""
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {printable(error.verify_message, 200)}"
    return printable((error.reason or "no reason given").replace("_", " ").lower(), 100)
