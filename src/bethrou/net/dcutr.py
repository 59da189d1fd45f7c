"""`/libp2p/dcutr`: from a link through a relay to a direct one.

Spec: libp2p/specs relay/DCUtR.md. The side that accepted the circuit (B) asks the side that made it (A): both tell
where others see their listening ports (CONNECT, CONNECT), B measures the round trip, says SYNC, and waits half of it,
so that both connect at the same moment. A is then the initiator. B makes up to three such rounds; before them it
simply dials A, if A says that it has public addresses.

As in go, the protocol is answered, and listed, only while we have a public address of our own to tell: one that we
listen on, or one at which a peer sees a port on which we listen. The circuit stays; links that are used no more end as
they always do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bethrou.errors import BethrouError, DecodeError, DialError, UnsupportedProtocol
from bethrou.events import Emit, HolePunched, HolePunchFailed
from bethrou.net.addresses import is_plain_tcp
from bethrou.net.circuits import direct_link
from bethrou.net.host import Host
from bethrou.net.link import CIRCUIT, DIRECT, Link
from bethrou.net.probing import probe_former
from bethrou.net.punch import MAX_ADDRESSES, punch
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire import dcutr
from bethrou.wire.dcutr import PROTOCOL, SYNC, Kind
from bethrou.wire.identify import believable_addresses
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.protobuf import length_prefixed
from bethrou.wire.reach import is_public

MAX_ROUNDS = 3
"""Rounds on one circuit, in either role (go's B makes three)."""

CONVERSATION_TIMEOUT = 10.0
"""Seconds for what is said in one round; it takes a round trip and a half."""

MAX_PUNCHES = 16
"""Peers with which holes are punched at a time. Others keep their circuit."""

NO_ADDRESS = "no peer sees a port of this host at a public address"
_TAKES_NO_PART = "the peer takes no part: nobody sees it at a public address, or its hole punching is off"


@dataclass(slots=True)
class _Attempt:
    """What is done to get one direct link, as far as it has got."""

    peer: PeerId
    started: float
    """In the loop's seconds."""
    rounds: int = 0
    address: str = ""
    reason: str = ""
    """Of the last failure."""


class Dcutr:
    """Gets rid of circuits, in both roles, for as long as it lives, and tells `emit` of each attempt's outcome.

    `clock` gives seconds of a fine resolution, for the round trip. `public` says which addresses are worth telling and
    may be dialled.
    """

    def __init__(
        self,
        host: Host,
        clock: Callable[[], float],
        emit: Emit,
        public: Callable[[Multiaddr], bool] = is_public,
    ) -> None:
        self._host = host
        self._clock = clock
        self._emit = emit
        self._public = public
        self._tasks = Tasks(host.loop)
        self._busy: set[PeerId] = set()
        self._rounds: Counter[Link] = Counter()
        """How often the peer of a circuit that we made has asked."""
        self._serving = False
        self._stop_watching = host.mapped.watch(self._serve_or_not)
        self._stop_observing = host.observe_links(self._up, self._down)
        self._serve_or_not()

    async def close(self) -> None:
        """Answer no more, and end what is under way."""
        self._stop_observing()
        self._stop_watching()
        if self._serving:
            self._host.unhandle(PROTOCOL)
        await self._tasks.close()

    @property
    def own_addresses(self) -> list[Multiaddr]:
        """What we tell others: public addresses that lead to a port on which we listen."""
        return self._worth_dialling(self._host.own_candidates)

    def _worth_dialling(self, addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
        plain = (address.without_peer() for address in addresses if not address.is_circuit)
        found = dict.fromkeys(
            address
            for address in plain
            if is_plain_tcp(address) and not address.is_dns and self._public(address)
        )
        return list(found)[:MAX_ADDRESSES]

    def _serve_or_not(self) -> None:
        serve = bool(self.own_addresses)
        if serve and not self._serving:
            self._host.handle(PROTOCOL, self._serve)
        elif self._serving and not serve:
            self._host.unhandle(PROTOCOL)
        self._serving = serve

    def _up(self, link: Link) -> None:
        self._serve_or_not()
        if link.path == CIRCUIT and not link.initiator:
            probe_former(self._host.links, link)
            self._tasks.start(self._replace(link), f"direct way to {link.peer_id.short}")

    def _down(self, link: Link, _reason: Exception) -> None:
        self._rounds.pop(link, None)
        if link.path != DIRECT:
            return
        # The peer may have come back on a circuit before we noticed that its direct link was dead.
        for other in self._host.links.get(link.peer_id, ()):
            if other.path == CIRCUIT:
                self._up(other)

    def _has_direct(self, peer: PeerId) -> bool:
        return any(link.path == DIRECT for link in self._host.links.get(peer, ()))

    def _begin(self, peer: PeerId) -> bool:
        """Take one of the places, to be given back by discarding `peer`; whether there is one."""
        if peer in self._busy or len(self._busy) >= MAX_PUNCHES:
            return False
        self._busy.add(peer)
        return True

    def _attempt(self, peer: PeerId) -> _Attempt:
        return _Attempt(peer, self._host.loop.time())

    def _tell(self, attempt: _Attempt) -> None:
        """An attempt has ended: with a direct link, or without one."""
        seconds = self._host.loop.time() - attempt.started
        link = direct_link(self._host.links, attempt.peer)
        peer = str(attempt.peer)
        if link is not None:
            self._emit(HolePunched(peer, str(link.remote), attempt.rounds, seconds))
        else:
            self._emit(HolePunchFailed(peer, attempt.address, attempt.rounds, attempt.reason, seconds))

    # -- B: we accepted the circuit -----------------------------------------------------------------------------------

    async def _replace(self, circuit: Link) -> None:
        peer = circuit.peer_id
        statement = await self._host.statement_of(circuit)
        if self._has_direct(peer) or not self._begin(peer):
            return
        attempt = self._attempt(peer)
        try:
            listed = believable_addresses(statement, peer) if statement is not None else ()
            await self._dial(attempt, self._worth_dialling(listed))
            await self._ask(attempt, circuit)
        except UnsupportedProtocol:
            attempt.reason = _TAKES_NO_PART
        except (BethrouError, TimeoutError) as error:
            attempt.reason = _why(error)  # not by the rules; the circuit serves as before
        finally:
            self._busy.discard(peer)
        if circuit.alive or self._has_direct(peer):  # the peer may be faster, and have ended the circuit
            self._tell(attempt)

    async def _dial(self, attempt: _Attempt, addresses: list[Multiaddr]) -> None:
        """Try without holes: the peer may be reachable, and have used the relay because we are not."""
        if not addresses:
            return
        attempt.address = str(addresses[0])
        try:
            await self._host.dial(attempt.peer, addresses)
        except BethrouError as error:
            attempt.reason = str(error)

    async def _ask(self, attempt: _Attempt, circuit: Link) -> None:
        """Up to `MAX_ROUNDS` rounds until there is a direct link. Raises if the peer breaks off or breaks the rules."""
        while attempt.rounds < MAX_ROUNDS and not self._has_direct(attempt.peer):
            if not self.own_addresses:
                attempt.reason = attempt.reason or NO_ADDRESS
                return
            theirs, round_trip = await self._agree(circuit)
            attempt.rounds += 1
            attempt.address = str(theirs[0]) if theirs else ""
            await asyncio.sleep(round_trip / 2)  # the time that SYNC takes (spec): A connects when it comes
            try:
                await punch(self._host, circuit.peer_id, theirs, initiator=False)
            except DialError as error:
                attempt.reason = str(error)

    async def _agree(self, circuit: Link) -> tuple[list[Multiaddr], float]:
        """Exchange addresses and say SYNC: the peer's addresses, and the round trip in seconds."""
        async with asyncio.timeout(CONVERSATION_TIMEOUT):
            negotiation = await self._host.open(circuit, [PROTOCOL])
            stream, agreed = negotiation.stream, False
            try:
                await negotiation.agreed()
                started = self._clock()
                stream.write(_connect(self.own_addresses))
                # js names nothing where it is behind NAT, and yet connects to us when SYNC comes
                theirs = await self._read_connect(negotiation.reader)
                round_trip = self._clock() - started
                stream.write(length_prefixed(SYNC.encode()))
                stream.close()
                agreed = True
            finally:
                if not agreed:
                    stream.abort()
        return theirs, round_trip

    async def _read_connect(self, reader: ByteReader) -> list[Multiaddr]:
        """Where the peer says that a hole could be punched. There may be no such address."""
        message = dcutr.decode(await reader.read_prefixed(dcutr.MAX_MESSAGE), Kind.CONNECT)
        return self._worth_dialling(message.addresses)

    # -- A: we made the circuit ---------------------------------------------------------------------------------------

    def _serve(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        if link.path != CIRCUIT or not link.initiator:
            stream.abort()
            return
        if self._rounds[link] >= MAX_ROUNDS or not self._begin(link.peer_id):
            stream.reset(RESOURCE_LIMIT)
            return
        self._rounds[link] += 1
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self._tasks.start(self._take_part(link, stream, reader), f"hole to {link.peer_id.short}")

    async def _take_part(self, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        attempt = self._attempt(link.peer_id)
        try:
            theirs = await self._agree_as_asked(stream, reader)
            attempt.rounds = self._rounds[link]
            attempt.address = str(theirs[0])
            await punch(self._host, link.peer_id, theirs, initiator=True)
        except (BethrouError, TimeoutError) as error:
            attempt.reason = _why(error)
        finally:
            self._busy.discard(link.peer_id)
        if link.alive or self._has_direct(link.peer_id):
            self._tell(attempt)

    async def _agree_as_asked(self, stream: YamuxStream, reader: ByteReader) -> list[Multiaddr]:
        """Exchange addresses and wait for SYNC: the peer's addresses. Raises if it breaks off or breaks the rules."""
        agreed = False
        try:
            async with asyncio.timeout(CONVERSATION_TIMEOUT):
                theirs = await self._read_connect(reader)
                if not theirs:
                    raise DecodeError("the peer names no address at which a hole could be punched")
                stream.write(_connect(self.own_addresses))
                dcutr.decode(await reader.read_prefixed(dcutr.MAX_MESSAGE), Kind.SYNC)
            agreed = True
        finally:
            if not agreed:
                stream.abort()
        stream.close()
        return theirs


def _connect(addresses: list[Multiaddr]) -> bytes:
    return length_prefixed(dcutr.connect(addresses).encode())


def _why(error: BethrouError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return f"the peer did not agree on a moment within {CONVERSATION_TIMEOUT:.0f} s"
    return str(error)
