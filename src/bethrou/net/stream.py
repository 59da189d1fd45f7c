"""A Yamux stream as an asyncio transport: a pipe like any other for whoever is on top of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bethrou.errors import StreamReset
from bethrou.wire.yamux.session import StreamCore
from bethrou.wire.yamux.state import State

if TYPE_CHECKING:
    from bethrou.net.muxer import Muxer

RESOURCE_LIMIT = 0x1002
"""RST code of a stream that there is no room for (go-libp2p core/network, stream error codes)."""

_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
_COPY_BELOW = 16 * 1024  # a view this small would keep a record's whole buffer alive while it waits


class YamuxStream(asyncio.Transport):
    """One stream. Beyond the contract of `asyncio.Transport`:

    - `write` has consumed or copied its data when it returns.
    - `close` sends what is waiting, for as long as the peer takes some of it every 30 s, then FIN; the peer has 30 s
      to end its direction, then the stream is reset. Bytes that arrive behind our FIN are answered with RST.
    - `abort` and `reset(code)` send RST at once.
    - What came whole, FIN included, is delivered even if the stream or the link is lost before its reader takes it.
    - After `connection_lost` nothing is delivered; the error is a `StreamReset`, a `LinkLost`, or None.
    - While reading is paused the peer gets no credit, for as long as that takes; it costs at most the window.
    """

    __slots__ = (
        "_backlog",
        "_backlog_size",
        "_buffered",
        "_closing",
        "_core",
        "_eof_delivered",
        "_eof_pending",
        "_fin_waiting",
        "_held",
        "_high",
        "_inbox",
        "_inbox_size",
        "_last_word",
        "_lost",
        "_low",
        "_muxer",
        "_parked",
        "_protocol",
        "_reading",
        "_wakeup",
        "_writer_paused",
        "credited",
        "queued",
    )

    def __init__(self, muxer: Muxer, core: StreamCore) -> None:
        super().__init__()
        self.queued = False
        """Whether the muxer has this stream in its queue."""
        self.credited = False
        """Whether the peer has allowed more since the link last looked for stalled streams."""
        self._muxer = muxer
        self._core = core
        self._protocol: asyncio.BaseProtocol | None = None
        self._buffered: asyncio.BufferedProtocol | None = None
        self._reading = True
        self._inbox: deque[memoryview | bytearray] | None = None
        self._inbox_size = 0
        self._wakeup = False
        self._eof_pending = False
        self._eof_delivered = False
        self._last_word: Exception | None = None
        self._backlog: deque[bytes | memoryview] | None = None
        self._backlog_size = 0
        self._held = b""
        self._fin_waiting = False
        self._writer_paused = False
        self._parked = False
        self._high, self._low = _HIGH_WATER, _LOW_WATER
        self._closing = False
        self._lost = False

    def __repr__(self) -> str:
        return f"<YamuxStream {self._core.id} {self._core.state.name} backlog={self._backlog_size}>"

    # -- the transport's contract: reading --------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`stream_id`: the Yamux stream number."""
        return self._core.id if name == "stream_id" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None
        if self._inbox or self._eof_pending:
            self._wake()

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if not self._closing and (self._inbox or self._eof_pending or self._core.window.owing):
                self._wake()

    # -- the transport's contract: writing --------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        return self._backlog_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_if_full()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._fin_waiting or not self._core.state.can_send:
            if self._lost or self._closing or self._core.state is State.RESET:
                return
            raise RuntimeError("cannot write after write_eof()")
        if self._held:
            data, self._held = self._held + data, b""
        view = memoryview(data)
        if not view:
            return
        sent = 0
        if not self._backlog and not self._muxer.congested:
            sent = self._muxer.send_data(self._core, view)
            if sent == len(view):
                return
        if self._backlog is None:
            self._backlog = deque()
        left = len(view) - sent
        self._backlog.append(bytes(view[sent:]))
        self._backlog_size += left
        if not self._muxer.waiting.add(left):
            self.reset(RESOURCE_LIMIT)
            return
        if self._core.send_window:
            self._muxer.enqueue(self)
        self._pause_if_full()

    def hold(self, data: bytes) -> None:
        """Have a few bytes leave in one frame with what is written next, at the latest when `release` is called."""
        self._held += data

    def release(self) -> None:
        """Write what is still held."""
        if self._held:
            self.write(b"")

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._fin_waiting or not self._core.state.can_send:
            return
        self.release()
        self._fin_waiting = True
        if not self._backlog:
            self._muxer.send_fin(self._core)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._drop_inbox()
        self.write_eof()
        if self._backlog:
            self._muxer.start_farewell(self)
        else:
            self._finish(None)

    def abort(self) -> None:
        self.reset(0)

    def reset(self, code: int) -> None:
        """End the stream at once with an RST code (wire: go-libp2p's stream error codes; 0 = no reason)."""
        if not self._lost:
            self._closing = True
            self._muxer.reset(self._core, code)
            self._finish(StreamReset("the stream was reset by us", code) if code else None)

    # -- what the muxer tells ---------------------------------------------------------------------------------------

    def receive_data(self, data: memoryview) -> None:
        """Bytes from the peer, within the window."""
        if self._closing:
            return  # what waits is sent first; what comes behind our FIN is answered with RST
        if self._reading and not self._inbox and self._protocol is not None:
            self._deliver(data)
        else:
            self._keep(data)

    def receive_fin(self) -> None:
        """The peer ends its direction."""
        self._eof_pending = True
        if self._reading and not self._inbox and self._protocol is not None:
            self._deliver_eof()

    def receive_reset(self, code: int) -> None:
        """The peer ended the stream at once."""
        self._end(StreamReset(f"the peer reset the stream (code {code:#x})", code))

    def receive_credit(self) -> None:
        """The peer allows more."""
        self.credited = True
        if self._backlog:
            self._muxer.enqueue(self)

    def link_lost(self, error: Exception) -> None:
        """The link is gone, and with it the stream."""
        self._end(error)

    def serve(self) -> None:
        """It is this stream's turn to send one frame from its backlog."""
        if not self._backlog:
            return
        piece = memoryview(self._backlog[0])
        sent = self._muxer.send_turn(self._core, piece)
        self._backlog_size -= sent
        self._muxer.waiting.remove(sent)
        if sent and self._closing:
            self._muxer.start_farewell(self)  # slow is not gone: the time runs from the last bytes
        if sent == len(piece):
            self._backlog.popleft()
        elif sent:
            self._backlog[0] = piece[sent:]
        if self._backlog:
            if self._core.send_window:
                self._muxer.enqueue(self)
        elif self._fin_waiting:
            self._muxer.send_fin(self._core)
            if self._closing:
                self._muxer.end_farewell(self)
                self._finish(None)
        self._resume_writer()

    def park(self) -> bool:
        """The link is full: have the writer wait before there is a backlog. Whether `unpark` is to follow.

        Not one that has asked for a longer backlog than usual (`set_write_buffer_limits`): it shall have it.
        """
        if self._parked or self._lost or self._protocol is None or self._high > _HIGH_WATER:
            return False
        self._parked = True
        if not self._writer_paused:
            self._writer_paused = True
            self._protocol.pause_writing()
        return True

    def unpark(self) -> None:
        """The link takes bytes again."""
        self._parked = False
        self._resume_writer()

    @property
    def stalled(self) -> bool:
        """Whether bytes wait for credit although the peer has ended its direction.

        go closes a stream that way when its application is gone: it reads no more and never says so.
        """
        return bool(self._backlog) and self._core.send_window == 0 and self._core.state is State.FIN_RECEIVED

    # -- inside -----------------------------------------------------------------------------------------------------

    def _pause_if_full(self) -> None:
        if self._backlog_size > self._high and not self._writer_paused:
            self._writer_paused = True
            self.get_protocol().pause_writing()

    def _deliver(self, data: memoryview | bytearray) -> None:
        size = len(data)
        if self._buffered is None:
            self._protocol.data_received(data)  # type: ignore[union-attr]
        else:
            size = self._fill(self._buffered, memoryview(data))
        self._core.window.consume(size)
        if self._reading and not self._closing:
            self._muxer.grant(self._core)

    def _fill(self, protocol: asyncio.BufferedProtocol, data: memoryview) -> int:
        """Hand `data` to a protocol that reads into its own buffer; how much it took before it paused or left."""
        taken, size = 0, len(data)
        while taken < size:
            buffer = memoryview(protocol.get_buffer(size - taken)).cast("B")
            count = min(len(buffer), size - taken)
            if not count:
                raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:count] = data[taken : taken + count]
            protocol.buffer_updated(count)
            taken += count
            if self._buffered is not protocol or not self._reading or self._closing:
                break
        if taken < size and not self._closing:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.appendleft(data[taken:])
            self._count_kept(size - taken)
            self._wake()
        return taken

    def _deliver_eof(self) -> None:
        if self._eof_delivered or self._closing:
            return
        self._eof_delivered = True
        keep_open = self.get_protocol().eof_received()  # type: ignore[attr-defined]
        if self._last_word is not None:
            self._closing = True
            self._finish(self._last_word)
        elif not keep_open:
            self.close()

    def _keep(self, data: memoryview) -> None:
        if self._inbox is None:
            self._inbox = deque()
        last = self._inbox[-1] if self._inbox else None
        if len(data) >= _COPY_BELOW:
            self._inbox.append(data)
        elif isinstance(last, bytearray) and len(last) < _COPY_BELOW:
            last += data
        else:
            self._inbox.append(bytearray(data))
        self._count_kept(len(data))

    def _count_kept(self, size: int) -> None:
        self._inbox_size += size
        if not self._muxer.waiting.add(size):
            self.reset(RESOURCE_LIMIT)

    def _wake(self) -> None:
        if not self._wakeup:
            self._wakeup = True
            self._muxer.loop.call_soon(self._deliver_inbox)

    def _deliver_inbox(self) -> None:
        self._wakeup = False
        if self._closing or not self._reading:
            return
        self._muxer.grant(self._core)  # whoever reads on has taken what came before it paused
        while self._inbox and self._reading and not self._closing:
            data = self._inbox.popleft()
            self._inbox_size -= len(data)
            self._muxer.waiting.remove(len(data))
            self._deliver(data)
        if self._closing or not self._reading:
            return
        if self._eof_pending and not self._inbox:
            self._deliver_eof()

    def _resume_writer(self) -> None:
        if self._writer_paused and not self._parked and self._backlog_size <= self._low and not self._lost:
            self._writer_paused = False
            self.get_protocol().resume_writing()

    def _drop_inbox(self) -> None:
        self._muxer.waiting.remove(self._inbox_size)
        self._inbox_size = 0
        self._inbox = None

    def _drop_backlog(self) -> None:
        self._muxer.waiting.remove(self._backlog_size)
        self._backlog_size = 0
        self._backlog = None

    def _end(self, error: Exception) -> None:
        """The stream is over, by no doing of ours."""
        if self._eof_pending and not self._eof_delivered and not self._closing:
            # All that the peer had to say is here: whoever reads late still gets it, and hears of the error behind it.
            self._last_word = error
            self._drop_backlog()
        else:
            self._closing = True
            self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._core.owner = None
        self._drop_inbox()
        self._drop_backlog()
        self._muxer.end_farewell(self)
        self._muxer.linger(self._core)
        if self._protocol is not None:
            self._muxer.loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        """Tell whoever is on top now: a reader may have handed over since the stream was lost."""
        self.get_protocol().connection_lost(error)
