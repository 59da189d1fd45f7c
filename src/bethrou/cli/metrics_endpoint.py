"""`--metrics`: what counts, its listening socket, and the tasks that serve it."""

from __future__ import annotations

import asyncio

from bethrou.config import HostPort
from bethrou.events import DescriptorsShort
from bethrou.net.listener import Acceptor, open_listening_socket
from bethrou.net.tasks import Tasks
from bethrou.ops.control import Control, Metrics
from bethrou.ops.event_feed import EventFeed


class MetricsEndpoint:
    """Counts what `feed` tells, and serves it at `listen`. Raises ConfigError for an address that cannot be had."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listen: HostPort, control: Control, feed: EventFeed
    ) -> None:
        # loaded only by those who want it
        from bethrou.ops.metrics import ProgramMetrics
        from bethrou.ops.metrics_server import MetricsServer

        sock = open_listening_socket(listen.host, listen.port)
        self.address = HostPort(*sock.getsockname()[:2])
        """Where it is served, port chosen."""
        counted = ProgramMetrics(control.status)
        self.text: Metrics = counted.text
        self._unsubscribe = feed.subscribe(counted.note)
        self._tasks = Tasks(loop)
        self._server = MetricsServer(counted.text, self._tasks, local=listen.is_loopback)
        self._acceptor = Acceptor(
            loop, sock, self._server.accept, lambda short: feed(DescriptorsShort("metrics", short))
        )

    @classmethod
    def offer(
        cls, loop: asyncio.AbstractEventLoop, listen: HostPort | None, control: Control, feed: EventFeed
    ) -> MetricsEndpoint | None:
        """One, if it is asked for."""
        return None if listen is None else cls(loop, listen, control, feed)

    async def close(self) -> None:
        """End every conversation, and count no more."""
        self._unsubscribe()
        self._acceptor.close()
        await self._tasks.close()
        self._server.close()
