"""A carried request as a transport: what a program writes to and reads from, on top of an exit's stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from bethrou.errors import ConnectionCut
from bethrou.net.splice import SpliceEnd
from bethrou.net.tcp import end_writing
from bethrou.proxy.carrier import Opened


class RequestTransport(asyncio.Transport, asyncio.Protocol):
    """Sits on what was `opened`, an exit's stream or a socket, and is its protocol from `begin` on.

    It passes everything on. What it adds: an error at the end is an `OSError`, as programs expect it of a connection;
    `finished` is called once, with how it ended; and EOF is not offered (`can_write_eof`) where the exit speaks only
    1.0.0, which would end both directions at it.
    """

    __slots__ = (
        "_began",
        "_buffered",
        "_finished",
        "_first",
        "_info",
        "_loop",
        "_opened",
        "_pipe",
        "_protocol",
        "_received",
        "_sent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        opened: Opened,
        protocol: asyncio.BaseProtocol,
        finished: Callable[[RequestTransport, SpliceEnd], None],
        info: dict[str, Any],
    ) -> None:
        super().__init__()
        self._loop = loop
        self._opened = opened
        self._pipe = opened.transport
        self._finished = finished
        self._info = info
        self._sent = self._received = 0
        self._began = loop.time()
        self._first: float | None = None
        self.set_protocol(protocol)

    def begin(self) -> None:
        """Take the pipe over, with what has come before, and perhaps its end."""
        opened = self._opened
        self._pipe.set_protocol(self)
        self._protocol.connection_made(self)
        if opened.early:
            self.data_received(opened.early)
        if opened.lost:
            self.connection_lost(None if opened.ended else ConnectionCut("the connection went away"))
        elif opened.ended and not self.eof_received():
            self._pipe.close()

    # -- the protocol of the pipe -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._first = self._loop.time()
        self._received += len(data)
        if self._buffered is None:
            self._protocol.data_received(bytes(data))  # type: ignore[attr-defined]
        else:
            _fill(self._buffered, memoryview(data))

    def eof_received(self) -> bool:
        return bool(self._protocol.eof_received())  # type: ignore[attr-defined]

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        error = exc if exc is None or isinstance(exc, OSError) else ConnectionCut(str(exc))
        failed = "right" if error is not None else ""
        self._finished(self, SpliceEnd(self._sent, self._received, error, failed, self._began, self._first))
        self._protocol.connection_lost(error)

    # -- the transport of the program -------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername`: the destination as it was asked for; `exit`: the peer ID of the exit that carries it."""
        return self._info.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self._pipe.is_reading()

    def pause_reading(self) -> None:
        self._pipe.pause_reading()

    def resume_reading(self) -> None:
        self._pipe.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._pipe.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._pipe.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._pipe.set_write_buffer_limits(high, low)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sent += memoryview(data).nbytes
        self._pipe.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return self._opened.half_close

    def write_eof(self) -> None:
        if not self._opened.half_close:
            raise NotImplementedError("this exit speaks only 1.0.0, and would end both directions")
        end_writing(self._pipe)

    def is_closing(self) -> bool:
        return self._pipe.is_closing()

    def close(self) -> None:
        self._pipe.close()

    def abort(self) -> None:
        self._pipe.abort()


def _fill(protocol: asyncio.BufferedProtocol, data: memoryview) -> None:
    """Hand all of `data` to a protocol that reads into its own buffer."""
    while data:
        buffer = memoryview(protocol.get_buffer(len(data))).cast("B")
        count = min(len(buffer), len(data))
        if not count:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]
