"""`/ipfs/ping/1.0.0`, the answering side: 32 bytes come, 32 bytes go back, as often as the peer likes.

Spec: libp2p/specs ping/ping.md. js opens such a stream every 10 s on every connection and cuts the connection when
nothing comes back. Our own round trips are measured with Yamux pings (net/link.py), which need no stream.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from bethrou.net.link import Link
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream

PROTOCOL_ID = "/ipfs/ping/1.0.0"

MAX_STREAMS = 8
"""Ping streams that a peer may have open on a link; go allows 2, and no implementation opens more than 1."""

_SIZE = 32


class PingEcho(asyncio.Protocol):
    """Echoes whole pings. A peer that does not read its answers gets its stream reset."""

    __slots__ = ("_lost", "_partial", "_stream")

    def __init__(self, stream: YamuxStream, lost: Callable[[], None]) -> None:
        self._stream = stream
        self._lost = lost
        self._partial = b""

    def data_received(self, data: bytes) -> None:
        received = self._partial + bytes(data)
        whole = len(received) // _SIZE * _SIZE
        self._partial = received[whole:]
        if whole:
            self._stream.write(received[:whole])

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._stream.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


class PingService:
    """Answers the pings of all links."""

    def __init__(self) -> None:
        self._open: Counter[Link] = Counter()

    def serve(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        """Handler of inbound ping streams."""
        if self._open[link] >= MAX_STREAMS:
            stream.reset(RESOURCE_LIMIT)
            return
        self._open[link] += 1
        echo = PingEcho(stream, lambda: self._ended(link))
        stream.set_protocol(echo)
        if surplus:
            echo.data_received(surplus)

    def _ended(self, link: Link) -> None:
        self._open[link] -= 1
        if not self._open[link]:
            del self._open[link]
