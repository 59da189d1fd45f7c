"""Connections that leave from this machine itself, because a rule of the configuration says `direct`.

It is the one case in which a name is looked up here. The user decides what such a rule lets through; the exits' policy
says nothing about this machine.
"""

from __future__ import annotations

import asyncio

from bethrou.errors import Failure, RequestError
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy.destination import EarlyBytes, reach
from bethrou.proxy.resolver import CachingResolver
from bethrou.wire.proxy_request import ProxyRequest

DIAL_TIMEOUT = 10.0
"""Seconds for look-up and dial together, as at an exit."""


class DirectDialer:
    """Dials destinations from here; `resolver`, which is its own from then on, looks names up as this machine does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, resolver: CachingResolver) -> None:
        self._loop = loop
        self._resolver = resolver
        self._limits = TimeoutQueue(loop, DIAL_TIMEOUT)

    async def open(self, request: ProxyRequest) -> tuple[asyncio.Transport, EarlyBytes]:
        """A connection to the request's destination. Raises `RequestError`."""
        try:
            with self._limits.limit():
                return await reach(
                    self._loop, request.host, request.port, self._resolver, lambda address, port: None
                )
        except TimeoutError:
            raise RequestError(Failure.TIMEOUT, f"no answer within {DIAL_TIMEOUT:.0f} s") from None

    async def close(self) -> None:
        """End look-ups; dials under way are ended by whoever started them."""
        self._limits.close()
        await self._resolver.close()
