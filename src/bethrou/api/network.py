"""The network as a Python program sees it: connections to anywhere, each through the exit that its request chooses."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from bethrou.api.request_transport import RequestTransport
from bethrou.assembly import keyfiles
from bethrou.assembly.client_core import ClientCore
from bethrou.config import ClientConfig, client_config, load_client_config
from bethrou.errors import DecodeError, Failure, NotConnected, RequestError
from bethrou.events import Emit, Event
from bethrou.net.splice import SpliceEnd
from bethrou.proxy.carrier import Carrier, Ended, Opened, report
from bethrou.snapshots import ExitSnapshot
from bethrou.wire.destination import check_host, check_port, join_address
from bethrou.wire.proxy_request import ProxyRequest
from bethrou.wire.user_name import UserName

if TYPE_CHECKING:  # extras: who uses them has them
    from bethrou.api.aiohttp_connector import ExitConnector
    from bethrou.api.httpx_transport import ExitTransport

P = TypeVar("P", bound=asyncio.BaseProtocol)

MAX_CONNECTIONS = 32_768
"""Connections at once, as of a client's applications."""

_BUFFER = 64 * 1024  # bytes that a StreamReader keeps, as asyncio's does


class Network:
    """A member of a private network, for the length of an `async with`; made by `bethrou.connect`.

    Everything happens in the loop that runs the block. Errors: `ConfigError` and `KeyFileError` at its beginning;
    `NotConnected` for a connection that cannot be made. All of them are `BethrouError`s.
    """

    def __init__(
        self,
        config: ClientConfig | Mapping[str, Any] | str | Path,
        state: Path | None = None,
        emit: Emit | None = None,
    ) -> None:
        self._given = config
        self._state = state
        self._emit: Emit = emit if emit is not None else _tell_nobody
        self._core: ClientCore | None = None
        self._connections: set[RequestTransport] = set()

    async def __aenter__(self) -> Network:
        config = await asyncio.to_thread(_configuration, self._given)
        path = keyfiles.find_network_key() if config.key is None else config.key
        key = await asyncio.to_thread(keyfiles.read_network_key, path)
        in_list = config.operator is not None
        identity = await asyncio.to_thread(keyfiles.client_identity, config.identity, in_list)
        self._core = ClientCore(asyncio.get_running_loop(), config, key, identity, self._emit, self._state)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection and link."""
        core, self._core = self._core, None
        for connection in list(self._connections):
            connection.abort()
        if core is not None:
            await core.close()

    @property
    def exits(self) -> tuple[ExitSnapshot, ...]:
        """The exits that are known, those with a link first."""
        core = self._running
        now = asyncio.get_running_loop().time()
        known = sorted(core.pool.exits.values(), key=lambda exit_: exit_.link is None)
        return tuple(exit_.snapshot(now) for exit_ in known)

    async def ready(self, timeout: float = 10.0) -> None:
        """Wait until an exit can be asked. Raises `NotConnected` after `timeout` seconds.

        Not needed: a connection waits for an exit by itself, as long as `routing.wait` says.
        """
        if not await self._running.pool.wait_for_exit(timeout):
            raise NotConnected(Failure.NO_EXIT, f"no exit could be reached within {timeout:g} s")

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        user: str = "",
        limit: int = _BUFFER,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from an exit to `host`:`port`, which the exit looks up; used as `asyncio.open_connection`'s.

        `ssl`: True for TLS with the usual certificates, or a context. `user` chooses the exit as the user name of
        a SOCKS connection does: "tag=eu,session=7". Raises `NotConnected`, and with `ssl` `ssl.SSLError`.
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_connection(
            lambda: protocol, host, port, ssl=ssl, server_hostname=server_hostname, user=user
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str,
        port: int,
        *,
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        user: str = "",
    ) -> tuple[asyncio.Transport, P]:
        """The same with a protocol of yours, as `loop.create_connection`."""
        request, name = self._request(host, port, user)
        protocol = protocol_factory()
        if not ssl:
            return await self._open(request, name, protocol), protocol
        from bethrou.api.tls import TlsTransport, shaken

        context = ssl if isinstance(ssl, tls.SSLContext) else tls.create_default_context()
        transport = TlsTransport(asyncio.get_running_loop(), protocol, context, server_hostname or host)
        await self._open(request, name, transport)
        return await shaken(transport), protocol

    def httpx_transport(
        self, *, verify: tls.SSLContext | bool = True, user: str = "", **pool: Any
    ) -> ExitTransport:
        """A transport for `httpx.AsyncClient(transport=...)`. Needs the extra `bethrou[httpx]`."""
        from bethrou.api.httpx_transport import ExitTransport

        return ExitTransport(self, verify=verify, user=user, **pool)

    def aiohttp_connector(self, *, user: str = "", **options: Any) -> ExitConnector:
        """A connector for `aiohttp.ClientSession(connector=...)`. Needs the extra `bethrou[aiohttp]`."""
        from bethrou.api.aiohttp_connector import ExitConnector

        return ExitConnector(self, user=user, **options)

    # -- inside -----------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> ClientCore:
        if self._core is None:
            raise NotConnected(
                Failure.NO_EXIT, "the network is not open: use it inside its `async with` block"
            )
        return self._core

    def _request(self, host: str, port: int, user: str) -> tuple[ProxyRequest, UserName]:
        carrier = self._running.carrier
        try:
            name = UserName.parse(user.encode())
            return carrier.request(check_host(host), check_port(port), name), name
        except (DecodeError, RequestError) as error:
            raise NotConnected(Failure.BAD_REQUEST, f"nobody could ask for that: {error}") from None

    async def _open(
        self, request: ProxyRequest, name: UserName, protocol: asyncio.BaseProtocol
    ) -> RequestTransport:
        carrier = self._running.carrier
        if len(self._connections) >= MAX_CONNECTIONS:
            raise NotConnected(Failure.OVERLOADED, f"{MAX_CONNECTIONS} connections are open")
        ended = carrier.reporter(request, carrier.loop.time())
        try:
            opened = await carrier.open(request, name, carrier.rule(request, name))
        except RequestError as error:
            ended(error.exit, error.failure.value, str(error))
            destination = join_address(request.host, request.port)
            raise NotConnected(error.failure, f"{destination}: {error}", error.exit) from None
        except asyncio.CancelledError:
            ended("", "aborted", "the program gave up")
            raise
        return self._take(carrier, request, opened, ended, protocol)

    def _take(
        self,
        carrier: Carrier,
        request: ProxyRequest,
        opened: Opened,
        ended: Ended,
        protocol: asyncio.BaseProtocol,
    ) -> RequestTransport:
        def over(transport: RequestTransport, end: SpliceEnd) -> None:
            self._connections.discard(transport)
            carrier.release(opened)
            report(opened.peer, "exit", end, ended)

        info = {"peername": (request.host, request.port), "exit": opened.peer}
        transport = RequestTransport(carrier.loop, opened, protocol, over, info)
        self._connections.add(transport)
        transport.begin()
        return transport


def _configuration(given: ClientConfig | Mapping[str, Any] | str | Path) -> ClientConfig:
    if isinstance(given, ClientConfig):
        return given
    if isinstance(given, Mapping):
        return client_config(given)
    return load_client_config(given)


def _tell_nobody(event: Event) -> None:
    pass
