"""WebSockets for tests, both ends ours."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bethrou.net.addresses import endpoint
from bethrou.net.buffers import Buffers
from bethrou.net.dialer import connect_tls
from bethrou.net.reader import ByteReader, reader_of
from bethrou.net.tls import TlsIdentity
from bethrou.net.websocket import WebSocketTransport
from bethrou.net.websocket_opening import accept_websocket, open_websocket
from bethrou.wire.multiaddr import Multiaddr
from live.certificates import write_certificates

_ROOM = 64 * 1024


@functools.cache
def test_certificate() -> TlsIdentity:
    """For 127.0.0.1; both ends trust it."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_certificates(Path(folder), "127.0.0.1")
        tls = TlsIdentity(files.certificate, files.key, files.ca)
        assert tls.server and tls.client  # read now
    return tls


@asynccontextmanager
async def websocket_pair(
    tls: TlsIdentity | None = None,
) -> AsyncIterator[tuple[WebSocketTransport, WebSocketTransport]]:
    """A client's and a server's end, over loopback with little room in the kernel."""
    loop = asyncio.get_running_loop()
    scratch = Buffers().websocket
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
        port = server.getsockname()[1]
        address = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}/{'wss' if tls else 'ws'}")

        async def accept() -> WebSocketTransport:
            sock, _ = await loop.sock_accept(server)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
            transport, _ = await loop.connect_accepted_socket(
                ByteReader, sock, ssl=tls.server if tls is not None else None
            )
            return await accept_websocket(loop, reader_of(transport), "", os.urandom, scratch)

        async def dial() -> WebSocketTransport:
            reader = await connect_tls(loop, address, tls)
            reader.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
            return await open_websocket(loop, reader, endpoint(address), os.urandom, scratch)

        right, left = await asyncio.gather(accept(), dial())
    yield left, right
