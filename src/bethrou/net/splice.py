"""One pump for everything: two transports joined so that what one receives the other sends.

Its whole specification: bytes go across; EOF on one side ends the other's writing; a side that cannot send stops the
other's reading; an error on one side resets both at once, but what that side had sent whole, EOF included, the other
still gets. SOCKS clients, exits and relays use it alike. There is no task in it: each transport's callbacks call the
other transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from bethrou.errors import StreamReset
from bethrou.net.tcp import end_writing, keep_alive, reset


class SpliceEnd(NamedTuple):
    """How a splice ended. Bytes are counted as they were received."""

    from_left: int
    from_right: int
    error: Exception | None
    """None: both sides ended their direction in peace."""
    failed_side: str
    """"left", "right", or "" without an error."""
    began: float
    """When it began, in the loop's seconds."""
    first_answer: float | None
    """When the first byte came from the right, or None."""

    def first_byte_after(self, started: float) -> float | None:
        """Seconds from `started` until the right side's first byte, or None."""
        return None if self.first_answer is None else self.first_answer - started


class Splice:
    """Joins `left` and `right`. `finished` is called once, when both transports are done with.

    Bytes that were read too far before go in as `from_left` and `from_right`. `left_ended` and `right_ended` say that
    a side's EOF was seen before the splice took over, `left_lost` and `right_lost` that its transport is gone. A side
    with a scratch buffer reads to it, which is for sockets whose other side consumes at once what it is given (a
    `YamuxStream`); one without is given data by its transport.

    `hold_fin_from_left`: seconds for which EOF from `left` is held back while `right` still sends: a peer that ends
    the whole stream at the first EOF (Go's `/bethrou/proxy/1.0.0`) would otherwise lose its answer.

    `meter` is told of all bytes as they come, and whether from `left`; for as many seconds as it returns that side is
    not read.
    """

    __slots__ = (
        "_error",
        "_failed_side",
        "_finished",
        "_held_timer",
        "_hold",
        "_left",
        "_loop",
        "_meter",
        "_right",
        "began",
        "first_answer",
        "last_activity",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        left: asyncio.Transport,
        right: asyncio.Transport,
        finished: Callable[[SpliceEnd], None],
        *,
        left_scratch: memoryview | None = None,
        right_scratch: memoryview | None = None,
        from_left: bytes = b"",
        from_right: bytes = b"",
        left_ended: bool = False,
        right_ended: bool = False,
        left_lost: bool = False,
        right_lost: bool = False,
        hold_fin_from_left: float | None = None,
        meter: Callable[[bool, int], float] | None = None,
    ) -> None:
        self._loop = loop
        self._meter = meter
        self._finished: Callable[[SpliceEnd], None] | None = finished
        self._hold = hold_fin_from_left
        self._held_timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._failed_side = ""
        self.began = self.last_activity = loop.time()
        """When it began, and when the last byte came, in the loop's seconds."""
        self.first_answer: float | None = None
        """When the first byte came from `right`."""
        self._left = _make_side(self, left, left_scratch)
        self._right = _make_side(self, right, right_scratch)
        self._left.other, self._right.other = self._right, self._left
        left.set_protocol(self._left)
        right.set_protocol(self._right)
        if from_left:
            self._left.forward(from_left)
        if from_right:
            self._right.forward(from_right)
        if left_lost or right_lost:
            for side, lost in ((self._left, left_lost), (self._right, right_lost)):
                if lost:
                    self.lost(side, None)
            return
        if left_ended:
            self.ended(self._left)
        if right_ended:
            self.ended(self._right)

    @property
    def bytes_from_left(self) -> int:
        """Bytes received from `left` so far."""
        return self._left.received

    @property
    def bytes_from_right(self) -> int:
        """Bytes received from `right` so far."""
        return self._right.received

    def keep_right_alive(self) -> None:
        """Have the system find out whether the other end of `right` is still there (SO_KEEPALIVE)."""
        if not self._right.lost and not self._right.transport.is_closing():
            keep_alive(self._right.transport.get_extra_info("socket"))

    def abort(self, error: Exception) -> None:
        """End both sides at once."""
        self._blame(self._left, error)
        self._abort()

    # -- what the sides tell ----------------------------------------------------------------------------------------

    def measure(self, side: _Side, size: int) -> None:
        """`side` has received so many bytes: read no more of it for a while if the meter says so."""
        assert self._meter is not None
        delay = self._meter(side is self._left, size)
        if delay > 0:
            side.stop(_METERED)
            self._loop.call_later(delay, self._go_on, side)

    def ended(self, side: _Side) -> None:
        """`side` has sent all it had."""
        if side.ended:
            return
        side.ended = True
        if side is self._left and self._hold is not None and not self._right.ended:
            self._held_timer = self._loop.call_later(self._hold, self._release_fin)
            return
        self._pass_end_on(side)
        if side is self._right and self._held_timer is not None:
            self._release_fin()

    def lost(self, side: _Side, error: Exception | None) -> None:
        """`side`'s transport is gone."""
        side.lost = True
        if error is None and not self._is_over:
            # closed before both directions had ended: the application is gone, or the stream was reset
            error = StreamReset("closed before its end")
        if error is not None and not self._both_ended:
            self._blame(side, error)
            if not side.ended:
                self._abort()
            elif not side.other.lost:
                side.other.transport.close()  # it still gets what `side` had sent; what it sends is for nobody
        if self._left.lost and self._right.lost:
            self._finish()

    # -- inside -----------------------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._error is not None or self._both_ended

    @property
    def _both_ended(self) -> bool:
        return self._left.ended and self._right.ended

    def _go_on(self, side: _Side) -> None:
        if self._finished is not None:
            side.go_on(_METERED)

    def _release_fin(self) -> None:
        if self._held_timer is None:
            return
        assert self._hold is not None
        quiet = self._loop.time() - self._right.last_received
        if not self._right.transport.is_reading():
            quiet = 0.0  # it is our side that takes nothing for now
        if not self._right.ended and quiet < self._hold:
            self._held_timer = self._loop.call_later(self._hold - quiet, self._release_fin)
            return
        self._held_timer.cancel()
        self._held_timer = None
        self._pass_end_on(self._left)

    def _pass_end_on(self, side: _Side) -> None:
        if (
            not side.other.lost
            and not side.other.transport.is_closing()
            and side.other.transport.can_write_eof()
        ):
            end_writing(side.other.transport)
        if self._left.ended and self._right.ended and self._held_timer is None:
            self._left.transport.close()
            self._right.transport.close()

    def _blame(self, side: _Side, error: Exception) -> None:
        if self._error is None and self._finished is not None and not self._both_ended:
            self._error = error
            self._failed_side = "left" if side is self._left else "right"
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None

    def _abort(self) -> None:
        for each in (self._left, self._right):
            if not each.lost:
                reset(each.transport)

    def _finish(self) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            end = SpliceEnd(
                self._left.received,
                self._right.received,
                self._error,
                self._failed_side,
                self.began,
                self.first_answer,
            )
            # undo the circles, so that memory comes back at once and not when the collector runs
            for side in (self._left, self._right):
                del side.other, side.splice, side.transport
            finished(end)


_METERED, _CONGESTED = 1, 2  # why a side is not read: its allowance is used up; the other side is full


class _Side(asyncio.BaseProtocol):
    """What both kinds of side share: one transport's protocol."""

    __slots__ = ("_stopped", "ended", "last_received", "lost", "other", "received", "splice", "transport")

    other: _Side

    def __init__(self, splice: Splice, transport: asyncio.Transport) -> None:
        self.splice = splice
        self.transport = transport
        self.received = 0
        self.last_received = splice.last_activity
        self.ended = False
        self.lost = False
        self._stopped = 0

    def forward(self, data: bytes | memoryview) -> None:
        splice = self.splice
        now = self.last_received = splice.last_activity = splice._loop.time()
        if not self.received and self is splice._right:
            splice.first_answer = now
        self.received += len(data)
        other = self.other
        if not other.lost:
            other.transport.write(data)
        if splice._meter is not None:
            splice.measure(self, len(data))

    def stop(self, reason: int) -> None:
        """Do not read this side, for one more reason."""
        if not self.lost:
            self._stopped |= reason
            self.transport.pause_reading()

    def go_on(self, reason: int) -> None:
        """A reason is gone: read on if there is no other."""
        self._stopped &= ~reason
        if not self.lost and not self._stopped:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        self.splice.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.splice.lost(self, exc)

    def pause_writing(self) -> None:
        self.other.stop(_CONGESTED)

    def resume_writing(self) -> None:
        self.other.go_on(_CONGESTED)


class _StreamSide(_Side, asyncio.Protocol):
    """A side whose transport brings data in buffers of their own."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self.forward(data)


class _SocketSide(_Side, asyncio.BufferedProtocol):
    """A side whose transport reads to the shared scratch buffer; the other side consumes or copies at once."""

    __slots__ = ("_scratch",)

    def __init__(self, splice: Splice, transport: asyncio.Transport, scratch: memoryview) -> None:
        super().__init__(splice, transport)
        self._scratch = scratch

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        self.forward(self._scratch[:nbytes])


def _make_side(splice: Splice, transport: asyncio.Transport, scratch: memoryview | None) -> _Side:
    return _StreamSide(splice, transport) if scratch is None else _SocketSide(splice, transport, scratch)
