"""Being reached through a relay: reserving a place on it, and taking the circuits that it brings.

Spec: libp2p/specs relay/circuit-v2.md, Reservation and Stop protocol. A reservation ends with the link on which it was
made, so whoever wants to stay reachable keeps that link and reserves again (net/relay_keeper.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from bethrou.errors import BethrouError, DecodeError, LinkLost, PeerError
from bethrou.net.circuits import ask_relay, through
from bethrou.net.host import Host
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.negotiation import NEGOTIATION_FAILED
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.net.timeouts import TimeoutQueue
from bethrou.wire.circuit import (
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    Voucher,
    describe_status,
)
from bethrou.wire.peer_id import PeerId

# Implementation constants.
RESERVE_TIMEOUT = 10.0
"""Seconds that a relay has to answer RESERVE."""

REQUEST_TIMEOUT = 10.0
"""Seconds that a relay has to say whose circuit it brings, once the stream is negotiated."""

MAX_ARRIVING = 256
"""Circuits that one relay brings at once and that have not become links yet; more are reset."""


class ReservationRefused(PeerError):
    """A relay gives no reservation. `full`: there may be a place later."""

    def __init__(self, message: str, full: bool) -> None:
        super().__init__(message)
        self.full = full


async def reserve(host: Host, link: Link, now: Callable[[], float]) -> Reservation:
    """Ask the relay at the other end of `link` to bring circuits to us. `now` gives Unix time in seconds.

    Raises `PeerError` when it refuses or says what cannot be (a forged voucher, a time that is past), else `LinkError`.
    """
    try:
        async with asyncio.timeout(RESERVE_TIMEOUT):
            answer, negotiation = await ask_relay(link, HopMessage(HopType.RESERVE))
    except TimeoutError:
        raise LinkLost(f"the relay did not answer within {RESERVE_TIMEOUT:.0f} s") from None
    negotiation.stream.close()
    if answer.status != Status.OK:
        full = answer.status in (Status.RESERVATION_REFUSED, Status.RESOURCE_LIMIT_EXCEEDED)
        raise ReservationRefused(f"the relay says: {describe_status(answer.status)}", full)
    if answer.reservation is None:
        raise DecodeError("the relay says that it has reserved, but not what")
    _verify(answer.reservation, host.peer_id, link.peer_id, now())
    host.circuits.terms.reserved(link.peer_id, answer.reservation, answer.limit)
    return answer.reservation


def _verify(reservation: Reservation, we: PeerId, relay: PeerId, now: float) -> None:
    if reservation.expire <= now:
        raise DecodeError("the relay's reservation is over already: one of the two clocks is wrong")
    if reservation.voucher:
        voucher = Voucher.open(reservation.voucher)
        if voucher.relay != relay or voucher.peer != we:
            raise DecodeError("the relay's voucher is for somebody else")


class StopService:
    """Takes the circuits that relays bring, as links of `host`. `reserved` says whether we asked a peer to relay."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: Host, reserved: Callable[[PeerId], bool]
    ) -> None:
        self._host = host
        self._reserved = reserved
        self._arriving: Counter[Link] = Counter()
        self._tasks = Tasks(loop)
        self._deadlines = TimeoutQueue(loop, REQUEST_TIMEOUT)
        host.handle(STOP_PROTOCOL, self._take)

    def drain(self) -> None:
        """Take no new circuits."""
        self._host.unhandle(STOP_PROTOCOL)

    async def close(self) -> None:
        """Take no more. Links belong to the host."""
        self._host.unhandle(STOP_PROTOCOL)
        await self._tasks.close()
        self._deadlines.close()

    def _take(self, relay: Link, stream: YamuxStream, surplus: bytes) -> None:
        if self._arriving[relay] >= MAX_ARRIVING:
            stream.reset(RESOURCE_LIMIT)
            return
        self._arriving[relay] += 1
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self._tasks.start(self._serve(relay, stream, reader), f"circuit by {relay.peer_id.short}")

    async def _serve(self, relay: Link, stream: YamuxStream, reader: ByteReader) -> None:
        try:
            status = await self._judge(relay, reader)
            stream.write(StopMessage(StopType.STATUS, status=status).encode())
            if status is Status.OK:
                await self._host.accepting.take_circuit(stream, through(relay))
            else:
                stream.close()
        except (BethrouError, TimeoutError):
            stream.reset(NEGOTIATION_FAILED)
        finally:
            self._arriving[relay] -= 1
            if not self._arriving[relay]:
                del self._arriving[relay]

    async def _judge(self, relay: Link, reader: ByteReader) -> Status:
        """What to say to the relay. Raises `BethrouError` and `TimeoutError` where there is nothing to say."""
        with self._deadlines.limit():
            message = await reader.read_prefixed(MAX_MESSAGE)
        try:
            request = StopMessage.decode(message)
        except DecodeError:
            return Status.MALFORMED_MESSAGE
        if request.type is not StopType.CONNECT:
            return Status.UNEXPECTED_MESSAGE
        if request.peer is None or request.peer == self._host.peer_id:
            return Status.MALFORMED_MESSAGE
        if relay.path == CIRCUIT or not self._reserved(relay.peer_id):
            return Status.PERMISSION_DENIED
        return Status.OK
