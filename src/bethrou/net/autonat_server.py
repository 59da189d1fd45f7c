"""AutoNAT v2, the side that is asked: dial a peer back at an address it names, and show it what it gave us.

Spec: libp2p/specs autonat/autonat-v2.md. The dial comes from a connection of its own and an identity that is used
once, so that nothing but the address itself can have led there: no link that is up, and no hole that is open for us.
It must not become a weapon: only public addresses are dialled, who names an address that is not its own has to send
more bytes than the dial costs whoever is there, and all of it is rare.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections import Counter, deque
from collections.abc import Callable

from bethrou.errors import BethrouError, DecodeError
from bethrou.net.addresses import is_plain_tcp
from bethrou.net.dialer import connect
from bethrou.net.host import Host
from bethrou.net.link import DIRECT, Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire import autonat
from bethrou.wire.autonat import (
    DIAL_BACK,
    DIAL_REQUEST,
    MAX_DATA,
    MAX_MESSAGE,
    MIN_DATA,
    MIN_DATA_CHUNK,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    Status,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.protobuf import length_prefixed
from bethrou.wire.reach import is_public

# The limits of go-libp2p (p2p/protocol/autonatv2, defaultSettings).
MAX_PER_MINUTE = 60
MAX_PER_PEER_AND_MINUTE = 12
MAX_DATA_PER_MINUTE = 12
"""Requests for which data is asked."""
MAX_AT_A_TIME = 2
"""Requests of one peer."""

REQUEST_TIMEOUT = 15.0
"""Seconds that a peer has for its request and its data (go, for its own waiting)."""

DIAL_TIMEOUT = 10.0
"""Seconds for connection and handshake."""

DIAL_BACK_TIMEOUT = 5.0
"""Seconds for the nonce to be taken (go)."""

MAX_DELAY = 3.0
"""Seconds of random delay before an address is dialled that is not the peer's: many who ask at the same moment for the
same victim do not hit it at the same moment (go)."""


class MinuteLimit:
    """At most so many requests within any minute, in all and of one peer."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._taken: deque[tuple[float, PeerId]] = deque()
        """Those of the last minute, at most `total`."""

    def take(self, now: float, peer: PeerId) -> bool:
        """Whether `peer` may ask at `now` (seconds of any clock); if so, it counts."""
        while self._taken and self._taken[0][0] <= now - 60.0:
            self._taken.popleft()
        if len(self._taken) >= self._total or sum(who == peer for _, who in self._taken) >= self._per_peer:
            return False
        self._taken.append((now, peer))
        return True


class AutonatServer:
    """Answers dial requests of all links, for as long as it lives. `public` says what may be dialled.

    `clock` gives seconds of a fine resolution, for the link that is made; `rng` chance.
    """

    def __init__(
        self,
        host: Host,
        rng: random.Random,
        clock: Callable[[], float],
        public: Callable[[Multiaddr], bool] = is_public,
    ) -> None:
        self._host = host
        self._rng = rng
        self._clock = clock
        self._public = public
        self._tasks = Tasks(host.loop)
        self._limit = MinuteLimit(MAX_PER_MINUTE, MAX_PER_PEER_AND_MINUTE)
        self._data_limit = MinuteLimit(MAX_DATA_PER_MINUTE, MAX_DATA_PER_MINUTE)
        self._serving: Counter[PeerId] = Counter()
        host.handle(DIAL_REQUEST, self._serve)

    async def close(self) -> None:
        """Answer no more, and end what is under way."""
        self._host.unhandle(DIAL_REQUEST)
        await self._tasks.close()

    def _serve(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        peer = link.peer_id
        if (
            link.path != DIRECT
            or self._serving[peer] >= MAX_AT_A_TIME
            or not self._limit.take(self._host.loop.time(), peer)
        ):
            _say(stream, DialResponse(Status.E_REQUEST_REJECTED))
            stream.close()
            return
        self._serving[peer] += 1
        self._tasks.start(self._converse(link, stream, reader), f"dial request of {peer.short}")

    async def _converse(self, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        try:
            _say(stream, await self._answer(link, stream, reader))
            stream.close()
        except (BethrouError, TimeoutError):
            stream.abort()
        finally:
            self._serving[link.peer_id] -= 1
            if not self._serving[link.peer_id]:
                del self._serving[link.peer_id]

    async def _answer(self, link: Link, stream: YamuxStream, reader: ByteReader) -> DialResponse:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            request = autonat.decode(await reader.read_prefixed(MAX_MESSAGE))
            if not isinstance(request, DialRequest):
                raise DecodeError("an autonat conversation has to begin with a request")
            index, address = self._choose(request)
            if address is None:
                return DialResponse(Status.E_DIAL_REFUSED)
            foreign = _ip(address) != _ip(link.remote)
            if foreign:
                if not self._data_limit.take(self._host.loop.time(), link.peer_id):
                    return DialResponse(Status.E_REQUEST_REJECTED)
                await self._take_data(stream, reader, index)
        if foreign:
            await asyncio.sleep(self._rng.uniform(0.0, MAX_DELAY))
        return DialResponse(Status.OK, index, await self._dial(link.peer_id, address, request.nonce))

    def _choose(self, request: DialRequest) -> tuple[int, Multiaddr | None]:
        """The first address that we dial, and its place."""
        for index, address in enumerate(request.addresses):
            if address is None or not is_plain_tcp(address) or address.is_dns:
                continue
            if self._public(address):
                return index, address
        return 0, None

    async def _take_data(self, stream: YamuxStream, reader: ByteReader, index: int) -> None:
        left = self._rng.randint(MIN_DATA, MAX_DATA)
        _say(stream, DialDataRequest(index, left))
        while left > 0:
            message = autonat.decode(await reader.read_prefixed(MAX_MESSAGE))
            if not isinstance(message, DialDataResponse):
                raise DecodeError("a peer that was asked for data has to send it")
            if len(message.data) < min(left, MIN_DATA_CHUNK):
                raise DecodeError(f"data came in pieces of {len(message.data)} bytes")
            left -= len(message.data)

    async def _dial(self, peer: PeerId, address: Multiaddr, nonce: int) -> DialStatus:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                transport = await connect(self._host.loop, address)
                upgraded = await self._host.stranger().dial(transport, peer)
        except (BethrouError, TimeoutError):
            return DialStatus.E_DIAL_ERROR
        link = Link(
            self._host.loop,
            transport,
            upgraded,
            buffers=self._host.buffers,
            budget=self._host.budget,
            remote=address,
            on_stream=_refuse,
            clock=self._clock,
        )
        link.start(upgraded)
        try:
            async with asyncio.timeout(DIAL_BACK_TIMEOUT):
                await _show(link, nonce)
        except (BethrouError, TimeoutError):
            return DialStatus.E_DIAL_BACK_ERROR
        finally:
            link.close()
            await link.flushed
        return DialStatus.OK


async def _show(link: Link, nonce: int) -> None:
    """Hand the nonce over, and wait until it is taken."""
    message = length_prefixed(autonat.encode_dial_back(nonce))
    negotiation = propose(await link.open_stream(), [DIAL_BACK], message)
    negotiation.stream.write_eof()
    await negotiation.agreed()
    await negotiation.reader.read_prefixed(MAX_MESSAGE)


def _refuse(_link: Link, stream: YamuxStream) -> None:
    """Who is dialled back may ask who we are, and is not told."""
    stream.set_protocol(asyncio.Protocol())
    stream.abort()


def _say(stream: YamuxStream, message: autonat.Message) -> None:
    stream.write(length_prefixed(message.encode()))


def _ip(address: Multiaddr) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    host = address.host
    return None if host is None or address.is_dns else ipaddress.ip_address(host.partition("%")[0])
