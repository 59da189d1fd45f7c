"""aiohttp over exits: a connector that has the network make its connections."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

from bethrou.errors import NotConnected

if TYPE_CHECKING:
    from bethrou.api.network import Network


class ExitConnector(aiohttp.BaseConnector):
    """For `aiohttp.ClientSession(connector=...)`. `ssl` is as aiohttp's own connector has it: True, False, a context or
    a `Fingerprint`; `options` are those of `aiohttp.BaseConnector`.
    """

    def __init__(
        self,
        network: Network,
        *,
        user: str = "",
        ssl: ssl.SSLContext | aiohttp.Fingerprint | bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._network = network
        self._user = user
        self._usual_ssl = ssl

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        host, port = req.url.raw_host, req.url.port
        assert host is not None and port is not None
        try:
            async with asyncio.timeout(timeout.sock_connect):
                transport, protocol = await self._network.create_connection(
                    lambda: ResponseHandler(self._loop),
                    host,
                    port,
                    ssl=self._context(req),
                    server_hostname=req.server_hostname if req.is_ssl() else None,
                    user=self._user,
                )
        except ssl.CertificateError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except NotConnected as error:
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(None, str(error))) from error
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        self._check_fingerprint(req, transport)
        return protocol

    def _context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        if not req.is_ssl():
            return None
        wanted = req.ssl if req.ssl is not True else self._usual_ssl
        if isinstance(wanted, ssl.SSLContext):
            return wanted
        context = ssl.create_default_context()
        if wanted is not True:  # False, or a fingerprint, which is compared afterwards
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _check_fingerprint(self, req: aiohttp.ClientRequest, transport: asyncio.Transport) -> None:
        wanted = req.ssl if req.ssl is not True else self._usual_ssl
        if not isinstance(wanted, aiohttp.Fingerprint) or not req.is_ssl():
            return
        try:
            wanted.check(transport)
        except aiohttp.ServerFingerprintMismatch:
            transport.abort()
            raise
