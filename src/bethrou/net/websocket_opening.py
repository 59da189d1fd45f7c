"""From a fresh TCP or TLS connection to a WebSocket, in either role: a short conversation in HTTP.

It is loaded only where WebSockets are used: the package websockets takes 5 MB and 25 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.errors import LinkLost, WebSocketError
from bethrou.net.addresses import Endpoint
from bethrou.net.reader import ByteReader
from bethrou.net.websocket import WebSocketTransport
from bethrou.wire.websocket.handshake import (
    HEAD_END,
    MAX_HEAD,
    ClientHandshake,
    RequestRefused,
    ServerHandshake,
    no_request,
    too_long,
    too_slow,
)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for the request to come whole, and for the answer to ours."""


async def open_websocket(
    loop: asyncio.AbstractEventLoop,
    reader: ByteReader,
    where: Endpoint,
    randbytes: Callable[[int], bytes],
    scratch: memoryview,
) -> WebSocketTransport:
    """Ask for a WebSocket on the connection that `reader` reads. The new transport's protocol is a `ByteReader`.

    Raises `WebSocketError` or `LinkLost`; the connection is then aborted.
    """
    below = reader.transport
    done = False
    try:
        handshake = ClientHandshake(where.server_name, where.port, where.path or "/", tls=where.tls)
        reader.write(handshake.request())
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            handshake.check(await _read_head(reader))
        transport = _take_over(loop, reader, randbytes, scratch, is_client=True)
        done = True
        return transport
    except RequestRefused:
        raise WebSocketError(f"no WebSocket there: {MAX_HEAD} bytes without the end of an answer") from None
    except TimeoutError:
        raise LinkLost(f"no answer to the WebSocket request within {HANDSHAKE_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise LinkLost(f"connection lost during the WebSocket handshake: {error}") from None
    finally:
        if not done:
            below.abort()


async def accept_websocket(
    loop: asyncio.AbstractEventLoop,
    reader: ByteReader,
    path: str,
    randbytes: Callable[[int], bytes],
    scratch: memoryview,
) -> WebSocketTransport:
    """Answer the request for a WebSocket that is to come. `path`: the only one that is served, if not "".

    Raises `WebSocketError` (somebody who asked for something else was told so) or `LinkLost`.
    """
    done = False
    try:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                head = await _read_head(reader)
            answer = ServerHandshake(path).answer(head)
        except TimeoutError:
            raise too_slow() from None
        reader.write(answer)
        transport = _take_over(loop, reader, randbytes, scratch, is_client=False)
        done = True
        return transport
    except RequestRefused as error:
        reader.write(error.answer)
        reader.transport.close()
        done = True
        raise
    except OSError as error:
        raise LinkLost(f"connection lost during the WebSocket handshake: {error}") from None
    finally:
        if not done:
            reader.transport.abort()


async def _read_head(reader: ByteReader) -> bytes:
    """Everything up to the empty line; what is behind it stays."""
    head = b""
    while True:
        data = await reader.read_some()
        if not data:
            raise LinkLost("the connection was closed in the middle of the WebSocket handshake")
        head += data
        end = head.find(HEAD_END)
        if end >= 0:
            end += len(HEAD_END)
            reader.push_back(head[end:])
            return head[:end]
        if len(head) > MAX_HEAD:
            raise too_long()
        if not head[:64].isascii() or b"\0" in head[:64]:
            raise no_request()  # somebody speaks something else


def _take_over(
    loop: asyncio.AbstractEventLoop,
    reader: ByteReader,
    randbytes: Callable[[int], bytes],
    scratch: memoryview,
    *,
    is_client: bool,
) -> WebSocketTransport:
    surplus = reader.detach()
    if reader.ended and not surplus:
        raise LinkLost("the connection was closed right after the WebSocket handshake")
    inside = ByteReader()
    transport = WebSocketTransport(
        loop,
        reader.transport,
        inside,
        is_client=is_client,
        randbytes=randbytes,
        scratch=scratch,
        surplus=surplus,
    )
    inside.connection_made(transport)
    transport.start()
    return transport
