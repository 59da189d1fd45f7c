"""A relay for members: reservations, and circuits between whoever asks and whoever has reserved.

Spec: libp2p/specs relay/circuit-v2.md. The relay joins two streams, in which the members' own private network, Noise
and Yamux run: it sees ciphertext, and how much of it. A circuit is one `Splice`: a reader that is slow stops its own
writer and nobody else, and FIN is passed on.

What a member sends right behind CONNECT, or behind its STATUS, belongs to the circuit and is carried along.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bethrou.errors import BethrouError, DecodeError, LinkError
from bethrou.events import CircuitEnded, Emit
from bethrou.net.addresses import is_loopback
from bethrou.net.circuits import direct_link
from bethrou.net.host import Host
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.negotiation import NEGOTIATION_FAILED, OutboundNegotiation, propose
from bethrou.net.probing import probe_former
from bethrou.net.reader import ByteReader
from bethrou.net.relay_limits import Allowance, RelayLimits
from bethrou.net.splice import Splice, SpliceEnd
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.net.timeouts import TimeoutQueue
from bethrou.snapshots import RelayingSnapshot
from bethrou.wire.circuit import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    Voucher,
)
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import by_worth

# Implementation constants.
RESERVATION_TIME = 3600
"""Seconds that a reservation is good for (go and rust have the same)."""

REQUEST_TIMEOUT = 10.0
"""Seconds that a member has to say what it wants, once the stream is negotiated."""

STOP_TIMEOUT = 15.0
"""Seconds that the target of a circuit has to take it."""

MAX_REQUESTS = 1024
MAX_REQUESTS_OF_LINK = 64
"""Requests under way, in all and of one link; more are reset. A client dials 16 exits at a time."""

CHATTER = 2048
"""Bytes on a circuit that mean nothing: the two ends ping each other every few seconds."""

MAX_ADDRESSES = 8
"""Addresses of ours that a reservation names."""


@dataclass(eq=False, slots=True)
class _Circuit:
    """One circuit, from the moment it is asked for."""

    source: PeerId
    target: PeerId
    started: float
    allowance: Allowance
    splice: Splice | None = None
    timer: asyncio.TimerHandle | None = None
    carried: tuple[int, int] = (0, 0)
    """Bytes to and from the target, as far as they are counted."""
    noted: tuple[int, float] = (0, 0.0)
    """Bytes in all, and when, as of the last time that they had become many more."""

    def quiet_since(self, now: float) -> float:
        """Since when next to nothing has passed, as far as somebody has looked; it is busy while it is opened."""
        if self.splice is None:
            return now
        passed = self.splice.bytes_from_left + self.splice.bytes_from_right
        if passed - self.noted[0] > CHATTER:
            self.noted = (passed, now)
        return self.noted[1]


class RelayService:
    """Relays on `host`, whose `identity` signs vouchers. `now` gives Unix time in seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        identity: Identity,
        emit: Emit,
        limits: RelayLimits,
        now: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.reservations: dict[PeerId, Link] = {}
        """Who can be reached, and on which link."""
        self._loop = loop
        self._host = host
        self._identity = identity
        self._emit = emit
        self._now = now
        self._allowance = Allowance(limits.rate, loop.time())
        self._circuits: set[_Circuit] = set()
        self._from: Counter[PeerId] = Counter()
        self._to: Counter[PeerId] = Counter()
        """Circuits by source and by target."""
        self._requests: Counter[Link] = Counter()
        self._carried = 0
        """Bytes of circuits that have ended, both directions together."""
        self._draining = False
        self._tasks = Tasks(loop)
        self._deadlines = TimeoutQueue(loop, REQUEST_TIMEOUT)
        self._answers = TimeoutQueue(loop, STOP_TIMEOUT)
        self._expiries = TimeoutQueue(loop, RESERVATION_TIME)
        self._stop_observing = host.observe_links(lambda link: None, self._link_down)
        host.handle(HOP_PROTOCOL, self._take)

    @property
    def active(self) -> int:
        """Circuits, those that are being opened included."""
        return len(self._circuits)

    def snapshot(self) -> RelayingSnapshot:
        """What is relayed now, and what may be."""
        limits = self.limits
        alive = (circuit.splice for circuit in self._circuits if circuit.splice is not None)
        return RelayingSnapshot(
            reservations=len(self.reservations),
            circuits=len(self._circuits),
            relayed=self._carried + sum(each.bytes_from_left + each.bytes_from_right for each in alive),
            max_reservations=limits.reservations,
            max_circuits=limits.circuits,
            max_circuits_per_peer=limits.circuits_per_peer,
            rate=limits.rate,
            circuit_rate=limits.circuit_rate,
            duration=limits.duration,
            data=limits.data,
        )

    def idle_for(self, seconds: float) -> bool:
        """Whether all circuits have been quiet for `seconds`, as far as somebody has looked."""
        now = self._loop.time()
        quiet = [now - circuit.quiet_since(now) for circuit in self._circuits]
        return min(quiet, default=seconds) >= seconds

    def drain(self) -> None:
        """Take no new reservations and circuits."""
        self._draining = True

    async def close(self) -> None:
        """End every circuit at once, and relay no more."""
        self._host.unhandle(HOP_PROTOCOL)
        self._stop_observing()
        for circuit in list(self._circuits):
            self._end(circuit, "the relay is stopping")
        await self._tasks.close()
        for queue in (self._deadlines, self._answers, self._expiries):
            queue.close()
        self.reservations.clear()

    # -- requests ---------------------------------------------------------------------------------------------------

    def _take(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        if self._requests[link] >= MAX_REQUESTS_OF_LINK or len(self._tasks) >= MAX_REQUESTS:
            stream.reset(RESOURCE_LIMIT)
            return
        self._requests[link] += 1
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        task = self._tasks.start(self._serve(link, stream, reader), f"relay for {link.peer_id.short}")
        reader.on_lost = task.cancel

    async def _serve(self, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        try:
            with self._deadlines.limit():
                message = await reader.read_prefixed(MAX_MESSAGE)
            answer = await self._answer(link, stream, reader, message)
        except (BethrouError, TimeoutError):
            stream.reset(NEGOTIATION_FAILED)
        else:
            if answer is not None:
                reader.on_lost = None
                stream.write(answer.encode())
                stream.close()
        finally:
            self._requests[link] -= 1
            if not self._requests[link]:
                del self._requests[link]

    async def _answer(
        self, link: Link, stream: YamuxStream, reader: ByteReader, message: bytes
    ) -> HopMessage | None:
        """What to say to a request; None when it has become a circuit."""
        try:
            request = HopMessage.decode(message)
        except DecodeError:
            return _status(Status.MALFORMED_MESSAGE)
        if request.type is HopType.RESERVE:
            return self._reserve(link)
        if request.type is not HopType.CONNECT:
            return _status(Status.UNEXPECTED_MESSAGE)
        if request.peer is None:
            return _status(Status.MALFORMED_MESSAGE)
        refusal = self._why_not(link, request.peer)
        if refusal is not None:
            return _status(refusal)
        return await self._connect(link, stream, reader, request.peer)

    # -- reservations -----------------------------------------------------------------------------------------------

    def _reserve(self, link: Link) -> HopMessage:
        peer = link.peer_id
        if link.path == CIRCUIT:
            return _status(Status.PERMISSION_DENIED)
        if self._draining or (
            peer not in self.reservations and len(self.reservations) >= self.limits.reservations
        ):
            return _status(Status.RESERVATION_REFUSED)
        if self.reservations.get(peer) is not link:
            probe_former(self._host.links, link)
        self.reservations[peer] = link
        self._expiries.start(peer, lambda: self._expire(peer))
        expire = int(self._now()) + RESERVATION_TIME
        voucher = Voucher(self._host.peer_id, peer, expire).seal(self._identity)
        reservation = Reservation(expire, self._addresses(link), voucher)
        return HopMessage(
            HopType.STATUS, reservation=reservation, limit=self.limits.announced, status=Status.OK
        )

    def _addresses(self, link: Link) -> tuple[Multiaddr, ...]:
        """Where this relay can be reached: rust takes no reservation that does not say so."""
        near = is_loopback(link.remote)
        own = [*self._host.seen_addresses, *self._host.listen_addresses]
        useful = [each for each in own if not each.is_circuit and (near or not is_loopback(each))]
        return tuple(each.with_peer(self._host.peer_id) for each in by_worth(useful)[:MAX_ADDRESSES])

    def _expire(self, peer: PeerId) -> None:
        del self.reservations[peer]

    def _link_down(self, link: Link, _reason: Exception) -> None:
        """A reservation dies with the peer's last link."""
        peer = link.peer_id
        if self.reservations.get(peer) is link:
            other = direct_link(self._host.links, peer)
            if other is not None:
                self.reservations[peer] = other
            else:
                del self.reservations[peer]
                self._expiries.stop(peer)

    # -- circuits ---------------------------------------------------------------------------------------------------

    def _why_not(self, link: Link, target: PeerId) -> Status | None:
        """What speaks against a circuit to `target`."""
        source = link.peer_id
        if link.path == CIRCUIT or source == target:
            return Status.PERMISSION_DENIED
        if target not in self.reservations:
            return Status.NO_RESERVATION
        full = len(self._circuits) >= self.limits.circuits
        busiest = max(self._from[source], self._to[target])
        if self._draining or full or busiest >= self.limits.circuits_per_peer:
            return Status.RESOURCE_LIMIT_EXCEEDED
        return None

    async def _connect(
        self, link: Link, stream: YamuxStream, reader: ByteReader, target: PeerId
    ) -> HopMessage | None:
        """Join `stream` to one of the target's. What to say when that fails."""
        reader.pause()  # what comes in advance waits in its stream, where it is bounded
        now = self._loop.time()
        circuit = _Circuit(link.peer_id, target, now, Allowance(self.limits.circuit_rate, now))
        self._count(circuit, 1)
        joined = False
        try:
            stop = await self._stop(self.reservations[target], link.peer_id)
            joined = stop is not None
        finally:
            if not joined:
                self._count(circuit, -1)
        if stop is None:
            return _status(Status.CONNECTION_FAILED)
        self._join(circuit, stream, reader, stop)
        return None

    async def _stop(self, link: Link, source: PeerId) -> OutboundNegotiation | None:
        """Have the peer at the other end of `link` take a circuit; None when it does not."""
        request = StopMessage(StopType.CONNECT, source, self.limits.announced)
        taken, stream = False, None
        try:
            with self._answers.limit():
                stream = await link.open_stream()
                negotiation = propose(stream, [STOP_PROTOCOL], request.encode())
                await negotiation.agreed()
                answer = StopMessage.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
            taken = answer.type is StopType.STATUS and answer.status == Status.OK
            return negotiation if taken else None
        except (BethrouError, TimeoutError):
            return None
        finally:
            if not taken and stream is not None:
                stream.abort()

    def _join(
        self, circuit: _Circuit, stream: YamuxStream, reader: ByteReader, stop: OutboundNegotiation
    ) -> None:
        reader.on_lost = None
        stream.write(_status(Status.OK, self.limits).encode())
        if self.limits.duration:
            reason = f"the relay's limit of {self.limits.duration} s is reached"
            circuit.timer = self._loop.call_later(self.limits.duration, self._end, circuit, reason)
        measured = self.limits.rate or self.limits.circuit_rate or self.limits.data
        circuit.splice = Splice(
            self._loop,
            stream,
            stop.stream,
            lambda end: self._ended(circuit, end),
            from_left=reader.detach(),
            from_right=stop.reader.detach(),
            left_ended=reader.ended,
            right_ended=stop.reader.ended,
            left_lost=reader.lost,
            right_lost=stop.reader.lost,
            meter=(lambda to_target, size: self._measure(circuit, to_target, size)) if measured else None,
        )

    def _measure(self, circuit: _Circuit, to_target: bool, size: int) -> float:
        """Bytes have come: for how long that side is not to be read."""
        there, back = circuit.carried
        circuit.carried = (there + size, back) if to_target else (there, back + size)
        if self.limits.data and max(circuit.carried) > self.limits.data:
            reason = f"the relay's limit of {self.limits.data} bytes is reached"
            if circuit.splice is None:  # it is just being made, of what was sent in advance
                self._loop.call_soon(self._end, circuit, reason)
            self._end(circuit, reason)
        now = self._loop.time()
        return max(circuit.allowance.take(size, now), self._allowance.take(size, now))

    def _end(self, circuit: _Circuit, reason: str) -> None:
        if circuit.splice is not None:
            circuit.splice.abort(LinkError(reason))

    def _ended(self, circuit: _Circuit, end: SpliceEnd) -> None:
        if circuit.timer is not None:
            circuit.timer.cancel()
        self._count(circuit, -1)
        self._carried += end.from_left + end.from_right
        self._emit(
            CircuitEnded(
                source=str(circuit.source),
                target=str(circuit.target),
                reason="" if end.error is None else str(end.error),
                sent=end.from_left,
                received=end.from_right,
                seconds=self._loop.time() - circuit.started,
            )
        )

    def _count(self, circuit: _Circuit, change: int) -> None:
        if change > 0:
            self._circuits.add(circuit)
        else:
            self._circuits.discard(circuit)
        for counter, peer in ((self._from, circuit.source), (self._to, circuit.target)):
            counter[peer] += change
            if not counter[peer]:
                del counter[peer]


def _status(status: Status, limits: RelayLimits | None = None) -> HopMessage:
    return HopMessage(HopType.STATUS, limit=None if limits is None else limits.announced, status=status)
