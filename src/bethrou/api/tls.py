"""TLS between a program and its destination, inside the connection that an exit carries.

`loop.start_tls` would be the way, but uvloop's takes only its own transports; and both loops' TLS can lose the last
bytes of a transfer whose reader pauses, and tell it EOF. This one is the `ssl` module between two pipes, and nothing
else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any

HANDSHAKE_TIMEOUT = 30.0
"""Seconds. Exit and destination may both be far away."""

_READ_SIZE = 64 * 1024
_MOST_WAITING = 256 * 1024  # bytes of records that may wait while the program does not read


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """TLS as a client, over a pipe whose protocol this is, under the program's `protocol`, whose transport it becomes.

    The program is told of the connection when the handshake is over. An end without close_notify is an end, as for
    asyncio: few servers say it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        server_hostname: str,
    ) -> None:
        super().__init__()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when the handshake is over, or raises why there is none: `ssl.SSLError`, `OSError`."""
        self._loop = loop
        self._protocol = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._shaken = False
        self._reading = True
        self._wakeup = False
        self._below_paused = False
        self._ended = False
        """Whether no more will come from below."""
        self._told_end = False
        self._lost = False
        """Whether the pipe below is gone."""
        self._closing = False
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT, self._too_slow)

    # -- the protocol of the pipe below -------------------------------------------------------------------------------

    _below: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = transport  # type: ignore[assignment]  # uvloop's are no asyncio.Transport
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._advance()
        self._hold_below()

    def eof_received(self) -> bool:
        self._ended = True
        if not self._shaken:
            self._fail(ConnectionResetError("the destination closed during the TLS handshake"))
            return False
        self._advance()
        return not self._closing

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._lost = True
        if not self._shaken:
            self._fail(exc or ConnectionResetError("the connection was lost during the TLS handshake"))
        elif exc is not None or self._closing or self._told_end:
            self._tell_lost(exc)
        else:
            self._advance()  # what has come whole is delivered, however slowly it is read

    def pause_writing(self) -> None:
        if self._shaken:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._shaken:
            self._protocol.resume_writing()

    # -- the transport of the program ---------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's: `sslcontext`, `ssl_object`, `peercert`, `cipher`; else what the pipe says."""
        match name:
            case "sslcontext":
                return self._tls.context
            case "ssl_object":
                return self._tls
            case "peercert":
                return self._tls.getpeercert()
            case "cipher":
                return self._tls.cipher()
            case _:
                return self._below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if not self._wakeup:
                self._wakeup = True
                self._loop.call_soon(self._go_on)

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._below.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and len(data):
            self._tls.write(data)
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False  # TLS 1.3 could, asyncio's does not, and few peers expect it

    def write_eof(self) -> None:
        raise NotImplementedError("TLS ends both directions at once")

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._lost:
            self._loop.call_soon(self._tell_lost, None)
            return
        self._say_goodbye()
        self._below.close()

    def abort(self) -> None:
        self._closing = True
        self._timer.cancel()
        self._below.abort()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        self._wakeup = False
        self._advance()
        self._hold_below()

    def _advance(self) -> None:
        if not self._shaken:
            self._shake_hands()
        if self._shaken:
            self._deliver()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ValueError) as error:
            self._flush()  # the alert that says why
            self._fail(error)
            return
        self._flush()
        self._timer.cancel()
        self._shaken = True
        self._protocol.connection_made(self)
        if not self.ready.done():
            self.ready.set_result(None)

    def _deliver(self) -> None:
        """What has come, as long as the program reads; at its end EOF."""
        while self._reading and not self._closing and not self._told_end:
            try:
                data = self._tls.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                if self._ended:
                    self._tell_end()
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self._below.abort()
                self._tell_lost(error)
                return
            if data:
                self._protocol.data_received(data)  # type: ignore[attr-defined]
            else:
                self._tell_end()
        self._flush()  # the answer to a key update, perhaps
        if self._lost and (self._told_end or self._closing):
            self._tell_lost(None)

    def _tell_end(self) -> None:
        self._told_end = True
        if not self._protocol.eof_received():  # type: ignore[attr-defined]
            self.close()

    def _hold_below(self) -> None:
        """Have nothing more come while much waits."""
        much = self._incoming.pending > _MOST_WAITING
        if much != self._below_paused:
            self._below_paused = much
            if much:
                self._below.pause_reading()
            else:
                self._below.resume_reading()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._lost:
            self._below.write(self._outgoing.read())

    def _say_goodbye(self) -> None:
        self._timer.cancel()
        if self._shaken:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # writes close_notify; the peer's is not waited for
            self._flush()

    def _fail(self, error: Exception) -> None:
        self._timer.cancel()
        if not self.ready.done():
            self.ready.set_exception(error)
        self._closing = True
        self._below.abort()

    def _too_slow(self) -> None:
        self._fail(TimeoutError(f"no TLS handshake within {HANDSHAKE_TIMEOUT:g} s"))

    def _tell_lost(self, error: Exception | None) -> None:
        if self._shaken:
            self._shaken = False
            self._closing = True
            self._protocol.connection_lost(error)


async def shaken(transport: TlsTransport) -> TlsTransport:
    """Wait for the handshake.

    Raises `ssl.SSLError` or `OSError`; the pipe is aborted then, and when this is cancelled.
    """
    done = False
    try:
        await transport.ready
        done = True
        return transport
    finally:
        if not done:
            transport.abort()
