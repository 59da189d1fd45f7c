"""One HTTP/1.1 connection of the control socket: requests in, answers out, everything bounded.

h11 knows the grammar; this file moves its bytes and keeps the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import h11

from bethrou.ops.http_messages import Answer, HttpError, Request

MAX_HEAD = 8 * 1024
"""Bytes of a request line with its headers: ours have a hundred."""

MAX_BODY = 64 * 1024
"""Bytes of a request's body: no request needs one, and some programs send one all the same."""

REQUEST_TIMEOUT = 10.0
"""Seconds for a request, from its first byte (of the first one: from connecting) to its last; as many for its answer
to be read."""

IDLE_TIMEOUT = 60.0
"""Seconds until the next request on a connection that has had one."""

READ_SIZE = 4096
"""Bytes read at a time, which is what may come beyond `MAX_HEAD` before it is noticed."""

_FAREWELL = 1.0  # seconds for the last bytes of a connection that ends
_HOST, _ORIGIN = b"host", b"origin"


class HttpConnection:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._used = False
        """Whether a request has begun to come."""
        self._head_only = False
        """Whether the answer to the last request may have no body."""
        # a write is over when the kernel has it: what then still waits here is what the peer does not read
        writer.transport.set_write_buffer_limits(0)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow the answer that was sent."""
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def next_request(self) -> Request | None:
        """The next request; None when the peer has left or has nothing more to say.

        Raises HttpError for a request that cannot be answered; it is the last one.
        """
        if self.reusable:
            self._http.start_next_cycle()
        if self._used and not self._http.trailing_data[0] and not await self._has_come():
            return None
        self._used = True
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await self._read_request()
        except TimeoutError:
            raise HttpError(408, f"the request took longer than {REQUEST_TIMEOUT:g} s") from None
        except h11.RemoteProtocolError as error:
            raise HttpError(error.error_status_hint, str(error)) from None

    async def converse(self, answer_to: Callable[[Request], Awaitable[Answer | None]]) -> bool:
        """Answer one request after the other, as long as they come.

        Returns True when `answer_to` has answered None: the rest is the caller's. Raises OSError when the peer is gone,
        or does not read.
        """
        while True:
            try:
                request = await self.next_request()
                if request is None:
                    return False
                answer = await answer_to(request)
            except HttpError as error:
                answer = error.answer
            if answer is None:
                return True
            await self.send(answer)
            if not self.reusable:
                return False

    async def send(self, answer: Answer) -> None:
        """Send the answer to the last request. Raises OSError when it is not read in time."""
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        if self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(answer.status).phrase
        head = self._http.send(h11.Response(status_code=answer.status, reason=reason, headers=headers))
        body = b"" if self._head_only else self._http.send(h11.Data(data=answer.body)) or b""
        end = self._http.send(h11.EndOfMessage()) or b""
        self._writer.write((head or b"") + body + end)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            await self._writer.drain()

    async def start_stream(self, content_type: str) -> None:
        """Begin an answer whose end is open."""
        headers = [("Content-Type", content_type), ("Cache-Control", "no-store")]
        await self._write(h11.Response(status_code=200, reason="OK", headers=headers))

    async def send_piece(self, data: bytes) -> None:
        """Send more of it; waits for as long as the peer does not read."""
        await self._write(h11.Data(data=data))

    def end_stream(self) -> None:
        """Say that it is complete."""
        if self._http.our_state is h11.SEND_BODY:
            self._writer.write(self._http.send(h11.EndOfMessage()) or b"")

    async def left(self) -> None:
        """Wait until the peer has closed the connection, or its direction of it. What it sends is nobody's."""
        with contextlib.suppress(OSError):
            while await self._reader.read(READ_SIZE):
                continue

    async def close(self) -> None:
        """Close; the last bytes have a second to leave."""
        self._writer.close()
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._writer.wait_closed()
        except OSError:  # not read in time, or the peer is gone
            self._writer.transport.abort()

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _has_come(self) -> bool:
        """Wait for the first bytes of another request."""
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                data = await self._reader.read(READ_SIZE)
        except TimeoutError:
            return False
        self._http.receive_data(data)
        return bool(data)

    async def _read_request(self) -> Request | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None  # closed
        self._head_only = head.method == b"HEAD"
        headers = dict(head.headers)
        size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
        if size > MAX_HEAD:
            raise HttpError(431, f"the request's head is longer than {MAX_HEAD} bytes")
        if self._http.they_are_waiting_for_100_continue:
            await self._write(h11.InformationalResponse(status_code=100, headers=[]))
        await self._skip_body()
        return Request(
            head.method.decode("ascii"),
            head.target.decode("ascii"),
            _ORIGIN in headers,
            headers.get(_HOST, b"").decode("latin-1"),
        )

    async def _skip_body(self) -> None:
        size = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size += len(event.data)
            if size > MAX_BODY:
                raise HttpError(413, f"the request's body is longer than {MAX_BODY} bytes")

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_SIZE))
        return event

    async def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()


async def serve_connection(
    sock: socket.socket,
    opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    converse: Callable[[HttpConnection], Awaitable[object]],
) -> None:
    """Have `converse` speak on the accepted `sock`, of which `opening` makes streams, and close it."""
    try:
        reader, writer = await opening
    except OSError:
        sock.close()
        return
    connection = HttpConnection(reader, writer)
    try:
        await converse(connection)
    except OSError:
        return  # the peer is gone, or does not read
    finally:
        await connection.close()
