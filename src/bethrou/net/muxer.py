"""The sending half and the switchboard of a Yamux connection: frames into records, events to streams.

Sending follows four rules:

- Small frames (control, and data up to 2 KiB) gather until the end of the loop's turn and leave as one record; a large
  DATA frame leaves at once as a record of its own, together with what has gathered.
- As long as the transport below takes bytes, a stream that writes is served directly. When it does not, streams keep
  their own (short) backlog and are served in turn, one frame each, as soon as it takes bytes again.
- Control frames go ahead of the backlogs, and are never held back.
- Nothing here waits: writers are told to pause through their transports.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from bethrou.errors import LinkLost, MuxerError
from bethrou.net.buffers import Buffers
from bethrou.net.send_limit import HIGHEST, SendLimit
from bethrou.net.stream import YamuxStream
from bethrou.net.tcp import limit_unsent
from bethrou.net.timeouts import TimeoutQueue
from bethrou.wire.secure_channel import MAX_PLAINTEXT, Sealer
from bethrou.wire.yamux.frame import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_SIZE,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    header,
)
from bethrou.wire.yamux.session import Seen, Session, StreamCore

# Implementation constants.
MAX_UNACKNOWLEDGED = 256
"""Streams of ours that the peer has not answered yet; go and rust accept no more (Yamux: ACK backlog)."""

_SMALL = 2048
_BATCH = 16 * 1024
_MIN_FRAME = 16 * 1024  # do not cut a large write for less room than this
_UNPARK_AT_ONCE = 2
_MAX_UNSENT = 8 * 1024 * 1024
LINGER = 30.0
"""Seconds that a closed stream waits for the peer's FIN before it is reset."""


class MuxerEvents(Protocol):
    """Who is told what the peer does to the connection as a whole."""

    def stream_opened(self, stream: YamuxStream) -> None:
        """The peer opened a stream."""

    def pong_received(self, value: int) -> None:
        """The peer answered the ping of `value`."""

    def went_away(self, code: int) -> None:
        """The peer ended the session (GOAWAY)."""

    def failed(self, error: Exception) -> None:
        """The session cannot go on."""


class Muxer:
    """One Yamux session on a transport whose records `sealer` encrypts. `LINGER` bounds farewells."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        sealer: Sealer,
        session: Session,
        buffers: Buffers,
        events: MuxerEvents,
        clock: Callable[[], float],
    ) -> None:
        self.loop = loop
        self.round_trip = 0.1
        """The smallest round trip seen on this link, in seconds: what windows are measured by."""
        self.bytes_sent = 0
        self._transport = transport
        self._sealer = sealer
        self._session = session
        self.waiting = buffers.waiting
        """What may wait in the streams of this process."""
        self._scratch = buffers.frame
        self._events = events
        self._clock = clock
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._flush_scheduled = False
        self._paused = False
        self._ready: deque[YamuxStream] = deque()
        self._unanswered: list[StreamCore] = []
        self._lingering = TimeoutQueue(loop, LINGER)
        self._bulk: dict[YamuxStream, None] = {}
        """Streams that have sent large frames since the transport was last full, in order."""
        self._parked: deque[YamuxStream] | None = None
        """Streams whose writers wait until the transport takes bytes again; an empty deque takes 760 bytes."""
        self._limit = SendLimit()
        self._largest_frame = 0
        self._written = 0
        self._lost: Exception | None = None
        self._ack_waiters: deque[asyncio.Future[None]] | None = None
        self._apply_limit()

    # -- streams ----------------------------------------------------------------------------------------------------

    @property
    def stream_count(self) -> int:
        """Streams alive in both directions."""
        return len(self._session.streams)

    @property
    def congested(self) -> bool:
        """Whether a write must wait its turn."""
        return self._paused or bool(self._ready)

    def stalled_streams(self) -> list[YamuxStream]:
        """Streams whose bytes wait for credit although the peer has ended its direction."""
        owners = (core.owner for core in self._session.streams.values())
        return [owner for owner in owners if owner is not None and owner.stalled]

    async def open_stream(self) -> YamuxStream:
        """A new stream of ours. Waits while the peer has `MAX_UNACKNOWLEDGED` of ours to answer.

        Raises `LinkLost` when the link is gone.
        """
        while (stream := self.try_open_stream()) is None:
            if self._lost is not None:
                raise LinkLost(f"the link is gone: {self._lost}")
            try:
                await self.room()
            except asyncio.CancelledError:
                self.pass_room_on()  # if this one's turn had come, it is the next one's
                raise
        return stream

    def room(self) -> asyncio.Future[None]:
        """Done when there may be room for another stream, or the link is gone. Who does not use it passes it on."""
        waiter = self.loop.create_future()
        if self._ack_waiters is None:
            self._ack_waiters = deque()
        self._ack_waiters.append(waiter)
        return waiter

    def pass_room_on(self) -> None:
        """Somebody had been given room and does not use it."""
        self._wake_openers()

    def try_open_stream(self) -> YamuxStream | None:
        """A new stream of ours, or None when the link is gone or the peer has too many to answer."""
        if self._lost is not None or self._session.unacknowledged >= MAX_UNACKNOWLEDGED:
            return None
        core = self._session.open()
        stream = core.owner = YamuxStream(self, core)
        return stream

    def receive(self, plaintext: memoryview) -> None:
        """Act on decrypted bytes. Raises `MuxerError` for what ends the session."""
        for what, core, value in self._session.receive(plaintext):
            if core is None:
                self._receive_session_event(what, value)
            elif what is Seen.DATA:
                if core.owner is not None:
                    core.owner.receive_data(value)
                else:
                    self.reset(core, 0)  # closed here: the peer must learn that its bytes go nowhere
            elif what is Seen.CREDIT:
                if core.owner is not None:
                    core.owner.receive_credit()
            elif what is Seen.OPENED:
                core.owner = YamuxStream(self, core)
                self._unanswered.append(core)
                self._schedule_flush()
                self._events.stream_opened(core.owner)
            elif what is Seen.FIN:
                self._forget_if_over(core)
                if core.owner is not None:
                    core.owner.receive_fin()
            elif what is Seen.RST:
                self._forget_if_over(core)
                if core.owner is not None:
                    core.owner.receive_reset(value)
            if self._lost is not None:
                return
        if self._ack_waiters:
            self._wake_openers()
        if self._ready and not self._paused:
            self._serve()

    def _receive_session_event(self, what: Seen, value: int) -> None:
        if what is Seen.PING:
            self._gather(header(PING, ACK, 0, value))
        elif what is Seen.PONG:
            self._events.pong_received(value)
        elif what is Seen.GO_AWAY:
            self._events.went_away(value)
        elif what is Seen.REFUSED:
            self._gather(header(WINDOW_UPDATE, RST, value, 0))

    def _forget_if_over(self, core: StreamCore) -> None:
        if core.state.ended:
            self._lingering.stop(core)

    def _wake_openers(self) -> None:
        free = MAX_UNACKNOWLEDGED - self._session.unacknowledged
        while free > 0 and self._ack_waiters:
            waiter = self._ack_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    # -- what streams ask for ---------------------------------------------------------------------------------------

    def send_data(self, core: StreamCore, data: memoryview) -> int:
        """Send as much of `data` as the window and the transport take; return how many bytes."""
        sent, size = 0, len(data)
        while sent < size and core.send_window and not self._paused:
            sent += self._send_frame(core, data[sent:] if sent else data)
        return sent

    def send_fin(self, core: StreamCore) -> None:
        """End our direction of a stream."""
        if core.state.can_send and self._lost is None:
            self._gather(header(WINDOW_UPDATE, core.take_flags() | FIN, core.id, 0))
            self._session.sent_fin(core)
            self._forget_if_over(core)

    def reset(self, core: StreamCore, code: int) -> None:
        """End a stream at once; `code` is the RST code (0 = no reason)."""
        if not core.state.ended and self._lost is None:
            if not core.flags & SYN:  # the peer has never heard of a stream that still owes its SYN
                self._gather(header(WINDOW_UPDATE, core.take_flags() | RST, core.id, code))
            self._session.sent_rst(core)
            self._lingering.stop(core)
            if self._ack_waiters:
                self._wake_openers()

    def grant(self, core: StreamCore) -> None:
        """Send credit for what the stream's reader took, if it is worth a frame."""
        if core.state.can_receive:
            credit = core.window.grant(self._clock(), self.round_trip)
            if credit and self._lost is None:
                self._gather(header(WINDOW_UPDATE, core.take_flags(), core.id, credit))

    def linger(self, core: StreamCore) -> None:
        """Nobody is on top of the stream any more: give the peer `LINGER` seconds to end it too."""
        if not core.state.ended:
            self._lingering.start(core, lambda: self.reset(core, 0))

    def start_farewell(self, stream: YamuxStream) -> None:
        """A stream is closing with bytes left to send: it has `LINGER` seconds to send more of them."""
        self._lingering.start(stream, lambda: stream.reset(0))

    def end_farewell(self, stream: YamuxStream) -> None:
        """The stream has sent all, or was reset."""
        self._lingering.stop(stream)
        self._bulk.pop(stream, None)

    def enqueue(self, stream: YamuxStream) -> None:
        """Serve the stream's backlog in turn."""
        if not stream.queued:
            stream.queued = True
            self._ready.append(stream)
            if not self._paused:
                self._schedule_flush()

    # -- sending ----------------------------------------------------------------------------------------------------

    def ping(self, value: int) -> None:
        """Send a ping; `pong_received` tells of the answer."""
        self._gather(header(PING, SYN, 0, value))

    def go_away(self, code: int) -> None:
        """Tell the peer that the session ends."""
        self._gather(header(GO_AWAY, 0, 0, code))
        self.flush()

    def pause_writing(self) -> None:
        """The transport below takes no more for now."""
        self._paused = True
        self._limit.filled(self._clock(), self._drained)
        # Whoever sends in bulk would read more now only to have it copied to a backlog.
        if self._bulk and self._parked is None:
            self._parked = deque()
        for stream in self._bulk:
            if stream.park() and self._parked is not None:
                self._parked.append(stream)
        self._bulk.clear()

    def resume_writing(self) -> None:
        """The transport below takes bytes again."""
        self._paused = False
        if self._limit.emptied(self._clock(), self._drained):
            self._apply_limit()
        self._serve()
        self._unpark()

    def _unpark(self) -> None:
        """Let a few of the parked writers go on, those first who have waited longest; more in the next turn."""
        for _ in range(_UNPARK_AT_ONCE):
            if self._parked and not self._paused:
                self._parked.popleft().unpark()
        if self._parked and not self._paused:
            self._schedule_flush()

    @property
    def _drained(self) -> int:
        """Bytes that the transport has got rid of."""
        return self._written - self._transport.get_write_buffer_size()

    def _apply_limit(self) -> None:
        limit = self._limit.value
        self._transport.set_write_buffer_limits(high=limit, low=limit // 4)
        self._largest_frame = MAX_PLAINTEXT if limit >= HIGHEST else limit // 2
        limit_unsent(self._transport, limit)

    def close(self, error: Exception) -> None:
        """The link is gone: every stream ends with `error`."""
        if self._lost is not None:
            return
        self._lost = error
        self._lingering.close()
        self._ready.clear()
        self._parked = None
        self._bulk.clear()
        self._gathered.clear()
        for core in list(self._session.streams.values()):
            owner = core.owner
            self._session.sent_rst(core)
            if owner is not None:
                owner.link_lost(error)
        while self._ack_waiters:
            waiter = self._ack_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _serve(self) -> None:
        """One frame for each waiting stream in turn, until none waits or the transport is full."""
        while self._ready and not self._paused:
            stream = self._ready.popleft()
            stream.queued = False
            stream.serve()

    def send_turn(self, core: StreamCore, data: memoryview) -> int:
        """One frame's worth of `data`: a stream's turn."""
        return self._send_frame(core, data) if core.send_window and not self._paused else 0

    def _send_frame(self, core: StreamCore, data: memoryview) -> int:
        size = min(len(data), core.send_window, self._largest_frame)
        if size <= _SMALL:
            core.send_window -= size
            self._gather(header(DATA, core.take_flags(), core.id, size) + data[:size])
            return size
        self._bulk[core.owner] = None
        room = MAX_PLAINTEXT - self._gathered_size - HEADER_SIZE
        if room < size and room < _MIN_FRAME:
            self._seal_gathered()
            room = MAX_PLAINTEXT - HEADER_SIZE
        size = min(size, room)
        core.send_window -= size
        scratch = self._scratch
        start = 0
        if self._gathered:
            start = self._gathered_size
            scratch[:start] = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
        HEADER.pack_into(scratch, start, 0, DATA, core.take_flags(), core.id, size)
        start += HEADER_SIZE
        scratch[start : start + size] = data[:size]
        self._write(scratch[: start + size])
        return size

    def _gather(self, frame: bytes) -> None:
        self._gathered.append(frame)
        self._gathered_size += len(frame)
        if self._gathered_size >= _BATCH:
            self._seal_gathered()
        elif not self._flush_scheduled:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        if self._lost is None:
            self.flush()
            if self._ready and not self._paused:
                self._serve()
            if self._parked and not self._paused:
                self._unpark()

    def flush(self) -> None:
        """Send what has gathered; streams that the peer opened are acknowledged now if nothing else did."""
        if self._unanswered:
            for core in self._unanswered:
                if core.flags & ACK and not core.state.ended:
                    self._gather(header(WINDOW_UPDATE, core.take_flags(), core.id, 0))
            self._unanswered.clear()
        self._seal_gathered()

    def _seal_gathered(self) -> None:
        if self._gathered:
            plaintext = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            self._write(plaintext)

    def _write(self, plaintext: memoryview | bytes) -> None:
        if self._lost is not None:
            return
        self.bytes_sent += len(plaintext)
        record = self._sealer.seal(plaintext)
        self._written += len(record)
        self._transport.write(record)
        if self._paused and self._transport.get_write_buffer_size() > _MAX_UNSENT:
            self._events.failed(MuxerError("the peer makes us answer but does not read the answers"))
