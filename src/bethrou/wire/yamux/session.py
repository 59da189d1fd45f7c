"""One Yamux session as a sans-I/O core: plaintext in, events out, and the rules that a peer must keep.

Spec: hashicorp/yamux spec.md and libp2p/specs yamux/README.md. What is sent is decided outside (net/muxer.py); this
file decides what received frames mean. The connection ends with a `MuxerError` when the peer uses IDs of our parity,
opens an ID that is alive, sends more than its window, or gives credit past 32 bits. It does *not* end for frames of
streams that are gone: they cross with our own FIN or RST on the wire, and every implementation sends some.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from bethrou.errors import MuxerError
from bethrou.wire.yamux.frame import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    FrameReader,
)
from bethrou.wire.yamux.state import Event, State, next_state
from bethrou.wire.yamux.window import ReceiveWindow, WindowBudget

_MAX_CREDIT = 2**32 - 1
_LAST_ID = 2**32 - 2


class Seen(Enum):
    """What a received frame means."""

    OPENED = auto()
    """The peer opened the stream."""
    REFUSED = auto()
    """The peer opened a stream beyond our limit; the value is its ID, to be answered with RST."""
    DATA = auto()
    """The value is a view of received bytes."""
    FIN = auto()
    """The peer ended its direction."""
    RST = auto()
    """The peer ended the stream at once; the value is its code."""
    CREDIT = auto()
    """The peer allows more to be sent."""
    PING = auto()
    """To be answered with the same value, exactly once."""
    PONG = auto()
    """The peer's answer to the ping of that value."""
    GO_AWAY = auto()
    """The peer ends the session; the value is its code."""


class StreamCore:
    """What both sides know of one stream."""

    __slots__ = ("flags", "id", "owner", "send_window", "state", "window")

    def __init__(self, stream_id: int, flags: int, budget: WindowBudget) -> None:
        self.id = stream_id
        self.state = State.OPEN
        self.flags = flags
        """SYN or ACK, owed to the peer on the next frame that is sent."""
        self.send_window = INITIAL_WINDOW
        """Bytes that may still be sent."""
        self.window = ReceiveWindow(budget)
        self.owner: Any = None
        """The transport on top of this stream; None when nobody wants its data any more."""

    def take_flags(self) -> int:
        """The owed flags, once."""
        flags, self.flags = self.flags, 0
        return flags


Occurrence = tuple[Seen, StreamCore | None, Any]


class Session:
    """The streams of one connection.

    `client` is the connection's (and Noise's) initiator: it uses odd IDs. `max_inbound` bounds the streams that the
    peer may have open.
    """

    def __init__(self, client: bool, max_inbound: int, budget: WindowBudget) -> None:
        self.streams: dict[int, StreamCore] = {}
        self.inbound = 0
        """Streams alive that the peer opened."""
        self.unacknowledged = 0
        """Streams that we opened and the peer has not answered yet."""
        self._reader = FrameReader()
        self._next_id = 1 if client else 2
        self._peer_parity = 0 if client else 1
        self._max_inbound = max_inbound
        self._budget = budget
        self._waiting_for_ack: set[int] = set()

    def open(self) -> StreamCore:
        """A new stream of ours; SYN stands in its flags."""
        if self._next_id > _LAST_ID:
            raise MuxerError("this connection has used up its stream numbers")
        core = StreamCore(self._next_id, SYN, self._budget)
        self._next_id += 2
        self.streams[core.id] = core
        self._waiting_for_ack.add(core.id)
        self.unacknowledged += 1
        return core

    def sent_fin(self, core: StreamCore) -> None:
        """We have ended our direction of a stream."""
        self._move(core, Event.SEND_FIN)

    def sent_rst(self, core: StreamCore) -> None:
        """We have ended a stream at once."""
        self._move(core, Event.RESET)

    def receive(self, chunk: memoryview) -> Iterator[Occurrence]:
        """What `chunk` (plaintext, cut anywhere) means, one after the other: each is to be acted on before the next is
        asked for, so that what is in front of an error counts. Raises `MuxerError` for what ends the session.
        """
        for kind, flags, stream_id, length, payload in self._reader.read(chunk):
            if kind == GO_AWAY:
                yield Seen.GO_AWAY, None, length
                continue
            if kind == PING:
                yield Seen.PING if flags & SYN else Seen.PONG, None, length
                continue
            if flags & SYN:
                core = self._accept(stream_id)
                if core is None:
                    yield Seen.REFUSED, None, stream_id
                    continue
                yield Seen.OPENED, core, None
            else:
                known = self.streams.get(stream_id)
                if known is None:
                    continue
                core = known
            if flags & (ACK | RST):
                self._acknowledge(core)
            if kind == DATA:
                if length and core.state.can_receive:
                    core.window.receive(length)
                    yield Seen.DATA, core, payload
            elif length and not flags & RST:
                self._add_credit(core, length)
                yield Seen.CREDIT, core, None
            if flags & FIN and core.state.can_receive:
                self._move(core, Event.RECEIVE_FIN)
                yield Seen.FIN, core, None
            if flags & RST:
                self._move(core, Event.RESET)
                # go >= 0.41 puts the reason where a window update has its credit
                yield Seen.RST, core, 0 if kind == DATA else length

    def _accept(self, stream_id: int) -> StreamCore | None:
        """A new stream of the peer's, or None if it has enough."""
        if stream_id == 0 or stream_id % 2 != self._peer_parity:
            raise MuxerError(f"the peer opened stream {stream_id}, which is not its to open", PROTOCOL_ERROR)
        if stream_id in self.streams:
            raise MuxerError(f"the peer opened stream {stream_id} twice", PROTOCOL_ERROR)
        if self.inbound >= self._max_inbound:
            return None
        core = self.streams[stream_id] = StreamCore(stream_id, ACK, self._budget)
        self.inbound += 1
        return core

    def _acknowledge(self, core: StreamCore) -> None:
        if core.id in self._waiting_for_ack:
            self._waiting_for_ack.remove(core.id)
            self.unacknowledged -= 1

    def _add_credit(self, core: StreamCore, credit: int) -> None:
        if core.send_window + credit > _MAX_CREDIT:
            raise MuxerError(f"the peer gave stream {core.id} more credit than 32 bits hold", PROTOCOL_ERROR)
        core.send_window += credit

    def _move(self, core: StreamCore, event: Event) -> None:
        core.state = next_state(core.state, event)
        if core.state.ended and self.streams.pop(core.id, None) is not None:
            self._acknowledge(core)
            core.window.release()
            if core.id % 2 == self._peer_parity:
                self.inbound -= 1
