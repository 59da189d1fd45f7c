"""A link: one authenticated, encrypted, multiplexed connection to a peer, on any transport.

The link is the protocol of the transport below (a TCP connection, a relayed circuit) and owns what runs on it:
pnet, records (Noise or TLS), Yamux. The receiving path is a chain of calls without a task or a queue in it::

    socket -> shared buffer -> XOR (pnet) -> record -> plaintext of its own -> Yamux frames -> streams' protocols

Liveness: a ping every 5 s, and any byte received is life; 8 s of silence after a ping end the link, so that a frozen
peer is noticed within 15 s.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bethrou.errors import LinkLost, MuxerError, PeerError
from bethrou.net.addresses import local_end
from bethrou.net.buffers import Buffers
from bethrou.net.muxer import Muxer
from bethrou.net.stream import YamuxStream
from bethrou.net.tcp import end_writing, reset
from bethrou.wire.identify import Identify
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.pnet import ROOM, Keystream
from bethrou.wire.secure_channel import Opener, Sealer, SecureSession
from bethrou.wire.yamux.frame import NORMAL
from bethrou.wire.yamux.session import Session
from bethrou.wire.yamux.window import WindowBudget

# Implementation constants.
PING_INTERVAL = 5.0
"""Seconds between pings."""

PING_TIMEOUT = 8.0
"""Seconds without a byte, counted from a ping, after which the peer counts as gone."""

MAX_INBOUND_STREAMS = 32_768
"""Streams that a peer may have open here at once: three times what a busy client holds."""

DIRECT = "direct"
CIRCUIT = "circuit"
"""How a peer is reached: by a connection of its own, or by way of a relay."""

_EAGER_PINGS = 3  # sent one after the other when a link is new, for a first idea of the round trip
_ROUND_TRIPS = 9  # the latest ones, whose median is the link's round trip
_STALL_LIMIT = 30.0
_CLOSE_GRACE = 2.0  # seconds for the last bytes of a link that is closed


@dataclass(frozen=True, repr=False)
class Upgraded:
    """What an upgrade (net/upgrade.py) leaves for the link."""

    session: SecureSession
    security: str
    """The name of what encrypts: noise or tls."""
    initiator: bool
    receive_keystream: Keystream
    sealer: Sealer
    opener: Opener
    surplus: bytes
    """Bytes read too far, pnet protection already taken off."""
    plaintext_surplus: bytes
    """Decrypted bytes read too far, when multistream-select chose the muxer."""
    round_trip: float
    """Seconds that one message of the handshake took to be answered."""


class Link(asyncio.BufferedProtocol):
    """One link. `on_stream` is called with each stream that the peer opens, and sets its protocol.

    `path` says how the peer is reached (`DIRECT` or `CIRCUIT`), `remote` the address as seen here. `clock` gives
    seconds with a fine resolution, for round trips (uvloop's own time has milliseconds).
    """

    # More attributes than the interpreter keeps compactly without: one to two KiB of each link.
    __slots__ = (
        "_buffers",
        "_clock",
        "_failure",
        "_keystream",
        "_last_received",
        "_loop",
        "_median",
        "_muxer",
        "_on_stream",
        "_opener",
        "_partial",
        "_patience",
        "_ping_clock",
        "_ping_pending",
        "_ping_sent",
        "_ping_value",
        "_pongs",
        "_round_trips",
        "_sealer",
        "_stalled",
        "_timer",
        "_transport",
        "bytes_received",
        "closed",
        "flushed",
        "initiator",
        "local",
        "on_round_trip",
        "path",
        "peer_id",
        "public_key",
        "remote",
        "security",
        "statement",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        upgraded: Upgraded,
        *,
        buffers: Buffers,
        budget: WindowBudget,
        remote: Multiaddr,
        on_stream: Callable[[Link, YamuxStream], None],
        clock: Callable[[], float],
        path: str = DIRECT,
    ) -> None:
        self.peer_id = upgraded.session.peer_id
        self.public_key = upgraded.session.public_key
        self.initiator = upgraded.initiator
        self.remote = remote
        self.path = path
        self.security = upgraded.security
        """What encrypts it: noise or tls."""
        self.local = local_end(transport)
        """Our end of the connection; None where it is no TCP connection of its own."""
        self.bytes_received = 0
        self.statement: Identify | None = None
        """What the peer last said of itself (identify or push), as soon as it has."""
        self.closed: asyncio.Future[Exception] = loop.create_future()
        """Done when the link is gone, with the reason."""
        self.on_round_trip: Callable[[float], None] | None = None
        """Called with each round trip that was measured, in seconds."""
        self.flushed: asyncio.Future[None] = loop.create_future()
        """Done when its transport is gone, too: the last bytes are with the peer, or will never be."""
        self._loop = loop
        self._clock = clock
        self._transport = transport
        self._on_stream = on_stream
        self._buffers = buffers
        self._keystream = upgraded.receive_keystream
        self._sealer = upgraded.sealer
        self._opener = upgraded.opener
        self._partial: bytes = b""
        self._last_received = loop.time()
        self._ping_sent = 0.0
        self._ping_clock = 0.0
        self._ping_value = 0
        self._ping_pending = False
        self._patience = PING_TIMEOUT
        self._round_trips: tuple[float, ...] = (upgraded.round_trip,)  # a deque takes more than half a KiB
        self._median = upgraded.round_trip
        self._pongs = 0
        self._stalled: dict[YamuxStream, float] = {}
        session = Session(upgraded.initiator, MAX_INBOUND_STREAMS, budget)
        self._muxer = Muxer(loop, transport, upgraded.sealer, session, buffers, self, clock)
        self._muxer.round_trip = upgraded.round_trip
        self._failure: Exception | None = None
        self._timer = loop.call_later(PING_INTERVAL, self._tick)

    def __repr__(self) -> str:
        return f"<Link {self.peer_id.short} {self.path} {self.remote} streams={self.stream_count}>"

    def start(self, upgraded: Upgraded) -> None:
        """Begin, with what the upgrade had read too far."""
        if self._transport.is_closing():
            self.flushed.set_result(None)
            self._lose(LinkLost("the peer closed the connection right after the handshake"))
            return
        self._transport.set_protocol(self)
        self._ping()
        if upgraded.plaintext_surplus:
            self._act_on(memoryview(upgraded.plaintext_surplus))
        if upgraded.surplus and self._failure is None:
            self._receive_surplus(upgraded.surplus)

    # -- what the host and its users see ----------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether streams can be opened."""
        return self._failure is None

    @property
    def round_trip(self) -> float:
        """The median of the last round trips, in seconds."""
        return self._median

    @property
    def stream_count(self) -> int:
        """Streams alive, in both directions."""
        return self._muxer.stream_count

    @property
    def bytes_sent(self) -> int:
        """Plaintext bytes sent, multiplexing included."""
        return self._muxer.bytes_sent

    async def open_stream(self) -> YamuxStream:
        """A new stream. Waits while the peer has too many of ours to answer. Raises `LinkLost`."""
        return await self._muxer.open_stream()

    def room(self) -> asyncio.Future[None]:
        """Done when `try_open_stream` may succeed, or the link is gone. Who then opens none calls `pass_room_on`."""
        return self._muxer.room()

    def pass_room_on(self) -> None:
        """Let the next one who waits for room have it."""
        self._muxer.pass_room_on()

    def try_open_stream(self) -> YamuxStream | None:
        """A new stream, if there is one to be had without waiting."""
        return self._muxer.try_open_stream()

    def probe(self, patience: float) -> None:
        """Ask the peer for a sign of life at once, and take it for gone after `patience` seconds without one."""
        if self._failure is None and not (self._ping_pending and self._patience <= patience):
            self._patience = patience
            if not self._ping_pending:
                self._ping()
            self._ping_sent = self._loop.time()
            self._timer.cancel()
            self._timer = self._loop.call_later(patience + 0.01, self._tick)

    def close(self, reason: str = "closed here") -> None:
        """Say goodbye and close. Every stream ends; go, js and rust do the same when they hear the goodbye.

        The transport ends when the peer ends it: closed from here with bytes of the peer unread, the system would
        answer with a TCP RST and throw away what is still on its way to the peer.
        """
        if self._failure is None:
            self._muxer.go_away(NORMAL)
            self._end(LinkLost(reason))
            if not self._transport.is_closing():
                words = self._sealer.farewell()
                if words:
                    self._transport.write(words)
                end_writing(self._transport)
                self._loop.call_later(_CLOSE_GRACE, self._transport.abort)

    def abort(self, error: Exception) -> None:
        """Close without another word."""
        if self._failure is None:
            self._lose(error)
            self._transport.abort()

    # -- asyncio.BufferedProtocol: the transport below --------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        partial = self._partial
        start = ROOM + len(partial)
        if partial:
            self._buffers.receive[ROOM:start] = partial
        return self._buffers.receive_view[start:]

    def buffer_updated(self, nbytes: int) -> None:
        if self._failure is not None:
            return  # closed: only the peer's end of the transport is waited for
        start = ROOM + len(self._partial)
        end = start + nbytes
        self.bytes_received += nbytes
        self._last_received = self._loop.time()
        self._keystream.xor_in_place(self._buffers.receive, self._buffers.receive_address, start, end)
        self._read(end)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # go closes with a TCP RST as a matter of course: an error here is a normal end
        if not self.flushed.done():
            self.flushed.set_result(None)
        self._lose(LinkLost("the peer closed the connection" if exc is None else f"connection lost: {exc}"))

    def pause_writing(self) -> None:
        self._muxer.pause_writing()

    def resume_writing(self) -> None:
        self._muxer.resume_writing()

    # -- MuxerEvents ------------------------------------------------------------------------------------------------

    def stream_opened(self, stream: YamuxStream) -> None:
        self._on_stream(self, stream)

    def pong_received(self, value: int) -> None:
        if not self._ping_pending or value != self._ping_value:
            return
        self._ping_pending = False
        self._patience = PING_TIMEOUT
        self._round_trips = (*self._round_trips[1 - _ROUND_TRIPS :], self._clock() - self._ping_clock)
        self._median = statistics.median(self._round_trips)
        self._pongs += 1
        self._muxer.round_trip = min(self._muxer.round_trip, self._round_trips[-1])
        if self._pongs < _EAGER_PINGS:
            self._ping()
        if self.on_round_trip is not None:
            self.on_round_trip(self._round_trips[-1])

    def went_away(self, code: int) -> None:
        self.abort(LinkLost(f"the peer ended the session (code {code:#x})"))

    def failed(self, error: Exception) -> None:
        self.abort(error)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _receive_surplus(self, surplus: bytes) -> None:
        while surplus and self._failure is None:
            room = self.get_buffer(-1)
            piece, surplus = surplus[: len(room)], surplus[len(room) :]
            room[: len(piece)] = piece
            self._read(ROOM + len(self._partial) + len(piece))

    def _read(self, end: int) -> None:
        """Act on the records in the shared buffer up to `end`; keep what is unfinished."""
        view, read = self._buffers.receive_view, self._opener.read
        position = ROOM
        while True:
            try:
                plaintext, position = read(view, position, end)
            except (PeerError, LinkLost) as error:
                self._refuse(error)
                return
            if plaintext is None:
                break
            self._act_on(plaintext)
            if self._failure is not None:
                return
        self._partial = bytes(view[position:end])

    def _refuse(self, error: PeerError | LinkLost) -> None:
        """What came is no record, or the last one: say so where the security has a word for it, and end."""
        words = self._sealer.farewell(error)
        if words:
            self._transport.write(words)
            self._lose(error)
        else:
            self.abort(error)

    def _act_on(self, plaintext: memoryview) -> None:
        """Pass decrypted bytes on; a peer that breaks the rules loses the link, and nothing else."""
        try:
            self._muxer.receive(plaintext)
        except MuxerError as error:
            if self._failure is None:
                self._muxer.go_away(error.code)
                self.abort(error)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._ping_pending:
            silence = now - max(self._last_received, self._ping_sent)
            if silence >= self._patience:
                self._end(LinkLost(f"the peer has been silent for {now - self._last_received:.0f} s"))
                # Only closed, it would hold its pair of ports while the system sends again what nobody answers. The
                # next link to this peer may need just that pair (a hole in a NAT).
                reset(self._transport)
                return
            self._timer = self._loop.call_later(self._patience - silence + 0.01, self._tick)
        else:
            self._ping()
            self._timer = self._loop.call_later(PING_INTERVAL, self._tick)
        self._end_stalled_streams(now)

    def _ping(self) -> None:
        self._ping_value = (self._ping_value + 1) & 0xFFFFFFFF
        self._ping_pending = True
        self._ping_sent = self._loop.time()
        self._ping_clock = self._clock()
        self._muxer.ping(self._ping_value)

    def _end_stalled_streams(self, now: float) -> None:
        """Reset streams whose peer has gone without a word: FIN from it, our bytes waiting, no credit for 30 s."""
        before, self._stalled = self._stalled, {}
        for stream in self._muxer.stalled_streams():
            # A slow reader has no credit to spare either whenever somebody looks, but it gives some now and then.
            self._stalled[stream] = now if stream.credited else before.get(stream, now)
            stream.credited = False
        for stream, since in self._stalled.items():
            if now - since >= _STALL_LIMIT:
                stream.reset(0)

    def _lose(self, error: Exception) -> None:
        """Have it over with, and close the transport."""
        if self._failure is not None:
            return
        self._end(error)
        if not self._transport.is_closing():
            self._transport.close()
            self._loop.call_later(_CLOSE_GRACE, self._transport.abort)

    def _end(self, error: Exception) -> None:
        self._failure = error
        self._timer.cancel()
        self._muxer.close(error)
        if not self.closed.done():
            self.closed.set_result(error)
