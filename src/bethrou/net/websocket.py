"""A WebSocket as an asyncio transport, so that a link runs in it as on a TCP connection.

Data goes into binary messages, one for each write. Close frames end directions: `write_eof` sends ours, and the
peer's is its end of data; whoever closes sends one and ends the connection below. A connection that ends without one
was cut off, and is told as an error.

    connection below -> shared buffer -> frames -> unmasked -> protocol
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from bethrou.errors import WebSocketError
from bethrou.wire.websocket.frames import (
    MASK_SIZE,
    Bytes,
    CloseCode,
    FrameReader,
    Opcode,
    build,
    close_payload,
    read_close,
)

_LARGEST = 128 * 1024  # bytes of a message; a record of the link is half as long
_FRAMES_IN_A_TURN = 256  # frames that are acted on before other connections have their turn
_MAX_UNSENT = 1024 * 1024  # bytes beyond the limit that may wait when we are made to answer pings


class WebSocketTransport(asyncio.Transport):
    """One end of a WebSocket whose handshake is done, on the transport `below`.

    `scratch` is where a read goes, one for all of a loop; `surplus` is what came behind the handshake; `randbytes`
    gives masks. Nothing is read before `start`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        below: asyncio.Transport,
        protocol: asyncio.BaseProtocol,
        *,
        is_client: bool,
        randbytes: Callable[[int], bytes],
        scratch: memoryview,
        surplus: bytes = b"",
    ) -> None:
        super().__init__()
        self._loop = loop
        self._below = below
        self._randbytes = randbytes
        self._scratch = scratch
        self._tls = below.get_extra_info("sslcontext") is not None
        self._is_client = is_client
        self._frames = FrameReader(masked=not is_client)
        self._protocol = protocol
        self._buffered: asyncio.BufferedProtocol | None = None
        self._unread: Bytes = b""  # a piece of the stream that the protocol has not taken
        self._raw: bytes = surplus  # frames not looked at
        self._reading = True
        self._below_paused = False
        self._advance_scheduled = False
        self._close_received = False
        self._eof_told = False
        self._eof_sent = False
        self._closing = False
        self._lost = False
        self._failure: Exception | None = None
        self.set_protocol(protocol)

    def start(self) -> None:
        """Read from here on. What came already is told in the loop's next turn."""
        self._below.set_protocol(_Below(self, self._scratch))
        if self._raw:
            self._pause_below()
            self._wake()

    # -- asyncio.Transport: reading -----------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False
        if not self._closing:
            self._pause_below()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if not self._closing:
                self._wake()

    # -- asyncio.Transport: writing -----------------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        return 0 if self._lost else self._below.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._below.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self._lost:
            self._below.set_write_buffer_limits(high, low)

    def write(self, data: Bytes) -> None:
        if self._closing:
            return
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof()")
        if len(data) <= _LARGEST:
            if data:
                self._send(Opcode.BINARY, data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _LARGEST):
            self._send(Opcode.BINARY, view[start : start + _LARGEST])

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._send_close(CloseCode.NORMAL)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._send_close(CloseCode.NORMAL)
            self._end()

    def abort(self) -> None:
        if self._lost:
            return
        self._forget()
        self._below.abort()

    # -- the transport below ----------------------------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        """The transport below has read `data`, which is its own again afterwards."""
        if self._raw or self._unread:  # TLS may have been reading already when it was told to pause
            self._raw += data
            return
        rest = self._advance(data)
        if len(rest):
            self._raw = bytes(rest)

    def end_received(self) -> bool:
        """The connection below has ended. Whether it stays open for what we send."""
        self._take_rest()
        if not self._close_received and not self._closing:
            self._fail(ConnectionAbortedError("the WebSocket was cut off, without a Close frame"))
            return False
        return not self._tls  # TLS knows no half-open connections

    def connection_lost(self, error: Exception | None) -> None:
        """The connection below is gone."""
        if self._closing and isinstance(error, ssl.SSLError):
            error = None  # of bytes that crossed our goodbye
        self._lost = self._closing = True
        self._unread, self._raw = b"", b""
        self._protocol.connection_lost(self._failure or error)

    def pause_writing(self) -> None:
        """The transport below takes no more for now."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The transport below takes bytes again."""
        self._protocol.resume_writing()

    # -- inside: reading ----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._advance_scheduled:
            self._advance_scheduled = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Act on what was kept; read on when that is done."""
        self._advance_scheduled = False
        if self._closing or not self._reading:
            return
        raw, self._raw = self._raw, b""
        rest = self._advance(memoryview(raw))
        self._raw = bytes(rest)
        if self._reading and not self._closing and not len(rest) and not self._unread and self._below_paused:
            self._below_paused = False
            self._below.resume_reading()

    def _take_rest(self) -> None:
        """Act on all that was kept: TLS tells the end though it was asked to pause, and then closes."""
        left = -1
        while self._reading and not self._closing and len(self._raw) != left:
            left = len(self._raw)
            raw, self._raw = self._raw, b""
            self._raw = bytes(self._advance(memoryview(raw)))

    def _advance(self, data: memoryview) -> memoryview:
        """Act on frames until none is left, the protocol pauses or its turn is over; what is left of `data`."""
        budget = _FRAMES_IN_A_TURN
        ping: bytes | None = None
        try:
            while self._reading and not self._closing:
                if self._unread:
                    self._deliver()
                elif self._close_received:
                    self._tell_eof()
                    break
                elif not len(data):
                    break
                elif not budget:
                    self._pause_below()
                    self._wake()
                    break
                else:
                    budget -= 1
                    taken = self._frames.take(data)
                    data = data[taken.size :]
                    if taken.opcode is Opcode.BINARY:
                        self._unread = taken.payload
                    elif taken.opcode is Opcode.PING:
                        ping = bytes(taken.payload)
                    elif taken.opcode is Opcode.CLOSE:
                        read_close(taken.payload)
                        self._close_received = True
        except WebSocketError as error:
            self._refuse(error)
        if ping is not None:
            self._answer(ping)
        if self._unread:
            self._unread = bytes(self._unread)  # a copy: the buffer is the next read's
        return data[:0] if self._close_received or self._closing else data

    def _deliver(self) -> None:
        payload = self._unread
        if self._buffered is None:
            self._unread = b""
            self._protocol.data_received(bytes(payload))  # type: ignore[attr-defined]
            return
        room = memoryview(self._buffered.get_buffer(len(payload))).cast("B")
        size = min(len(room), len(payload))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        room[:size] = payload[:size]
        self._unread = memoryview(payload)[size:] if size < len(payload) else b""
        self._buffered.buffer_updated(size)

    def _tell_eof(self) -> None:
        if not self._eof_told:
            self._eof_told = True
            if not self._protocol.eof_received():  # type: ignore[attr-defined]
                self.close()

    def _pause_below(self) -> None:
        if not self._below_paused and not self._below.is_closing():
            self._below_paused = True
            self._below.pause_reading()

    # -- inside: writing ----------------------------------------------------------------------------------------------

    def _send(self, opcode: Opcode, payload: Bytes) -> None:
        mask = self._randbytes(MASK_SIZE) if self._is_client else b""
        self._below.write(build(opcode, payload, mask))

    def _send_close(self, code: CloseCode, reason: str = "") -> None:
        if not self._eof_sent and not self._closing:
            self._eof_sent = True
            self._send(Opcode.CLOSE, close_payload(code, reason))

    def _answer(self, ping: bytes) -> None:
        """One pong for all pings of a read (section 5.5.3)."""
        if self._eof_sent or self._closing:
            return
        if self._below.get_write_buffer_size() > _MAX_UNSENT + self.get_write_buffer_limits()[1]:
            self._fail(WebSocketError("the peer sends pings but does not read the answers"))
            return
        self._send(Opcode.PONG, ping)

    # -- inside: the end ----------------------------------------------------------------------------------------------

    def _refuse(self, error: WebSocketError) -> None:
        """The peer broke a rule: say which, and end."""
        self._failure = error
        self._send_close(CloseCode(error.code), str(error))
        self._end()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self.abort()

    def _end(self) -> None:
        self._forget()
        self._below.close()

    def _forget(self) -> None:
        self._closing = True
        self._unread, self._raw = b"", b""


class _Below(asyncio.BufferedProtocol):
    """The protocol of the transport below."""

    def __init__(self, transport: WebSocketTransport, scratch: memoryview) -> None:
        self._transport = transport
        self._scratch = scratch

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        self._transport.received(self._scratch[:nbytes])

    def eof_received(self) -> bool:
        return self._transport.end_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.connection_lost(exc)

    def pause_writing(self) -> None:
        self._transport.pause_writing()

    def resume_writing(self) -> None:
        self._transport.resume_writing()
