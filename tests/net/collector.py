"""One end of a pipe as tests see it: every call of the transport is written down and checked against the contract."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable

MAY_CALL_BACK = {
    "write": {"pause_writing"},
    "writelines": {"pause_writing"},
    "set_write_buffer_limits": {"pause_writing"},
}
"""What a transport may call from inside a call of the protocol's; everything else comes later."""


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes that differ everywhere."""
    return random.Random(seed).randbytes(size)


class End:
    """A transport with its protocol. Tests call the transport through this, so that the contract can be checked."""

    def __init__(self, transport: asyncio.Transport, protocol: Recorder | None = None) -> None:
        self.transport = transport
        self.inside = ""
        """The transport's method that is being called, if any."""
        self.protocol = protocol or Collector()
        self.protocol.end = self

    def switch(self, protocol: Recorder) -> None:
        """`set_protocol`."""
        protocol.end = self
        self.protocol = protocol
        self._call("set_protocol", self.transport.set_protocol, protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._call("write", self.transport.write, data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self._call("writelines", self.transport.writelines, pieces)

    def write_eof(self) -> None:
        self._call("write_eof", self.transport.write_eof)

    def pause_reading(self) -> None:
        self._call("pause_reading", self.transport.pause_reading)

    def resume_reading(self) -> None:
        self._call("resume_reading", self.transport.resume_reading)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._call("set_write_buffer_limits", self.transport.set_write_buffer_limits, high, low)

    def close(self) -> None:
        self._call("close", self.transport.close)

    def abort(self) -> None:
        self._call("abort", self.transport.abort)

    def _call(self, name: str, method: Callable[..., None], *arguments: object) -> None:
        assert not self.inside
        self.inside = name
        try:
            method(*arguments)
        finally:
            self.inside = ""

    async def send(self, data: bytes, chunk: int = 50_000) -> None:
        """Write `data` in chunks, waiting whenever the transport asks for it."""
        view = memoryview(data)
        for start in range(0, len(view), chunk):
            await self.protocol.writable.wait()
            self.write(view[start : start + chunk])


class Recorder(asyncio.BaseProtocol):
    """What both kinds of protocol share. `keep_open` is its answer to EOF, `keep` whether it holds on to the bytes."""

    end: End | None = None

    def __init__(self, keep_open: bool = True, keep: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.keep_open = keep_open
        self.calls: list[str] = []
        """What the transport called, neighbours of one kind as one."""
        self.size = 0
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self.on_data: Callable[[bytes], None] | None = None
        self.on_eof: Callable[[], None] | None = None
        self._digest = hashlib.sha256()
        self._kept: list[bytes] | None = [] if keep else None
        self._sizes: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def hash(self) -> str:
        """SHA-256 of all bytes so far."""
        return self._digest.hexdigest()

    @property
    def data(self) -> bytes:
        """All bytes so far."""
        return b"".join(self._kept or [])

    async def have(self, size: int) -> None:
        """Wait until `size` bytes have come in all."""
        if self.size < size:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sizes.append((size, future))
            await future

    # -- asyncio.BaseProtocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Only sockets say this; it is no matter here."""

    def eof_received(self) -> bool:
        self._called("eof_received")
        assert not self.eof.done(), "EOF twice"
        self.eof.set_result(None)
        if self.on_eof is not None:
            self.on_eof()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._called("connection_lost")
        self.lost.set_result(exc)
        self.writable.set()

    def pause_writing(self) -> None:
        self._called("pause_writing")
        assert self.writable.is_set(), "paused twice"
        self.writable.clear()

    def resume_writing(self) -> None:
        self._called("resume_writing")
        assert not self.writable.is_set(), "resumed twice"
        self.writable.set()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        assert data
        assert not self.eof.done(), "data behind EOF"
        self._digest.update(data)
        self.size += len(data)
        if self._kept is not None:
            self._kept.append(data)
        for size, future in self._sizes:
            if self.size >= size and not future.done():
                future.set_result(None)
        if self.on_data is not None:
            self.on_data(data)

    def _called(self, what: str) -> None:
        assert not self.lost.done(), f"{what} after connection_lost"
        inside = self.end.inside if self.end is not None else ""
        assert not inside or what in MAY_CALL_BACK.get(inside, ()), f"{what} from inside {inside}"
        if not self.calls or self.calls[-1] != what:
            self.calls.append(what)


class Collector(Recorder, asyncio.Protocol):
    """A protocol that is given data."""

    def data_received(self, data: bytes) -> None:
        self._called("data_received")
        self._take(bytes(data))


class BufferedCollector(Recorder, asyncio.BufferedProtocol):
    """A protocol whose buffer, of `size` bytes, is filled again and again."""

    def __init__(self, size: int = 65536, keep_open: bool = True, keep: bool = True) -> None:
        super().__init__(keep_open, keep)
        self._buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        assert not self.lost.done()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._called("data_received")
        assert 0 < nbytes <= len(self._buffer)
        data = bytes(self._buffer[:nbytes])
        self._buffer[:nbytes] = bytes(nbytes)
        self._take(data)
