"""TLS between a program and its destination, inside the connection that an exit carries.

`loop.start_tls` would be the way, but uvloop's takes only its own transports. The standard library's protocol does the
work with either loop; it is what asyncio's own `start_tls` is made of.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol

HANDSHAKE_TIMEOUT = 30
"""Seconds. Exit and destination may both be far away."""

SHUTDOWN_TIMEOUT = 5
"""Seconds that the destination has to answer our close_notify."""


class Handshake:
    """TLS towards `server_hostname`, below the program's `protocol`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        server_hostname: str,
    ) -> None:
        self._done: asyncio.Future[None] = loop.create_future()
        self.protocol = SSLProtocol(
            loop,
            protocol,
            context,
            self._done,
            server_side=False,
            server_hostname=server_hostname,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        """To be the protocol of what carries it."""

    async def over(self, transport: asyncio.Transport) -> asyncio.Transport:
        """Shake hands on `transport`, which has told `protocol` of itself; the program's transport.

        Raises `ssl.SSLError` or `OSError`; `transport` is aborted then.
        """
        shaken = False
        try:
            await self._done
            shaken = True
        finally:
            if not shaken:
                transport.abort()
        secure: asyncio.Transport = self.protocol._app_transport
        return secure
