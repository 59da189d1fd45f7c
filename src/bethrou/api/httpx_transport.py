"""httpx over exits: its own pool and HTTP, on connections that the network makes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from bethrou.api.request_transport import RequestTransport
from bethrou.api.tls import TlsTransport, shaken
from bethrou.errors import Failure, NotConnected

if TYPE_CHECKING:
    from bethrou.api.network import Network

_CHUNK = 64 * 1024


class ExitTransport(httpx.AsyncHTTPTransport):
    """For `httpx.AsyncClient(transport=...)`. `options` are those of `httpx.AsyncHTTPTransport`, without proxies and
    local addresses: which way a connection takes is what the exit is chosen for.
    """

    def __init__(
        self,
        network: Network,
        *,
        verify: ssl.SSLContext | bool = True,
        user: str = "",
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits = httpx.Limits(max_connections=100, max_keepalive_connections=20),  # noqa: B008
        retries: int = 0,
    ) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http1=http1,
            http2=http2,
            retries=retries,
            network_backend=_Backend(network, user),
        )


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, network: Network, user: str) -> None:
        self._network = network
        self._user = user

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        with _as_httpcores(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                reader, writer = await self._network.open_connection(host, port, user=self._user)
        return _Stream(reader, writer)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, below: _Stream | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._below = below  # a StreamWriter that nobody holds closes its transport

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _as_httpcores(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _as_httpcores(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                for start in range(0, len(buffer), _CHUNK):
                    self._writer.write(buffer[start : start + _CHUNK])
                    await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = TlsTransport(loop, protocol, ssl_context, server_hostname or "")
        below = self._writer.transport
        assert isinstance(below, RequestTransport)
        with _as_httpcores(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                below.set_protocol(transport)
                transport.connection_made(below)
                await shaken(transport)
        return _Stream(reader, asyncio.StreamWriter(transport, protocol, reader, loop), self)

    def get_extra_info(self, info: str) -> Any:
        if (
            info == "is_readable"
        ):  # of an idle connection: whether the server has closed it, or talks out of turn
            return self._reader.at_eof() or self._writer.transport.is_closing()
        return self._writer.get_extra_info({"server_addr": "peername"}.get(info, info))


@contextlib.contextmanager
def _as_httpcores(
    late: type[httpcore.TimeoutException], failed: type[httpcore.NetworkError]
) -> Iterator[None]:
    """What our connections raise, under httpcore's names, which httpx turns into its own."""
    try:
        yield
    except NotConnected as error:
        raise (late if error.failure is Failure.TIMEOUT else failed)(str(error)) from error
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:  # ssl.SSLError among them
        raise failed(str(error)) from error
