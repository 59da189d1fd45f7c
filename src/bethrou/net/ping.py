"""`/ipfs/ping/1.0.0`, the answering side: 32 bytes come, 32 bytes go back, as often as the peer likes.

Spec: libp2p/specs ping/ping.md. js opens such a stream every 10 s on every connection and cuts the connection when
nothing comes back. Our own round trips are measured with Yamux pings (net/link.py), which need no stream.
"""

from __future__ import annotations

import asyncio

from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream

PROTOCOL_ID = "/ipfs/ping/1.0.0"
_SIZE = 32


class PingEcho(asyncio.Protocol):
    """Echoes whole pings. A peer that does not read its answers gets its stream reset."""

    __slots__ = ("_partial", "_stream")

    def __init__(self, stream: YamuxStream) -> None:
        self._stream = stream
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


def serve_ping(_link: Link, stream: YamuxStream, surplus: bytes) -> None:
    """Handler of inbound ping streams."""
    echo = PingEcho(stream)
    stream.set_protocol(echo)
    if surplus:
        echo.data_received(surplus)
