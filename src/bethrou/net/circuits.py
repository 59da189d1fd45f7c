"""Circuits that we open: a link to the relay, and on it a stream that the relay joins to one of the target.

Spec: libp2p/specs relay/circuit-v2.md. Inside the stream the whole stack runs once more, private network included, so
that a relay sees ciphertext only. Who is at the other end is what the handshake proves there, whatever a relay says.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from bethrou.errors import AddressError, BethrouError, DecodeError, DialError, LinkError
from bethrou.net.link import CIRCUIT, Link, Upgraded
from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.net.relay_terms import RelayTerms
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.net.upgrade import Upgrader
from bethrou.wire.circuit import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    HopMessage,
    HopType,
    Limit,
    Status,
    describe_status,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

ANSWER_TIMEOUT = 20.0
"""Seconds that a relay has to answer CONNECT: it waits up to 15 s for the target itself."""

IDLE = 30.0
"""Seconds for which a link to a relay is kept when no circuit leads over it any more: the next one may come soon."""


@dataclass(frozen=True, eq=False, slots=True)
class Circuit:
    """A stream of the link to a relay, joined to the target. Its protocol has what was read too far."""

    stream: YamuxStream
    relay: Link
    remote: Multiaddr
    """The way to the target, without its peer ID, as in go."""


class Circuits:
    """Opens circuits, over links to relays that are there (`links`) or that it has dialled with `dial` and then owns.

    `dial` raises `BethrouError`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        links: Mapping[PeerId, Sequence[Link]],
        dial: Callable[[PeerId, Multiaddr], Coroutine[None, None, Link]],
    ) -> None:
        self.terms = RelayTerms()
        """What relays have told of their circuits."""
        self._loop = loop
        self._links = links
        self._dial = dial
        self._tasks = Tasks(loop)
        self._dialling: dict[Multiaddr, asyncio.Task[Link | BethrouError]] = {}
        self._users: Counter[Link] = Counter()
        """Circuits, and attempts at one, on each link to a relay."""
        self._own: dict[Link, asyncio.TimerHandle | None] = {}
        """Links that are here for circuits alone, with the timer of those that have none."""

    async def connect(
        self, target: PeerId, address: Multiaddr, upgrader: Upgrader
    ) -> tuple[Circuit, Upgraded]:
        """A circuit to `target`, and what it was upgraded to. It is to be given back with `release`.

        Raises what `open` raises and what upgrades raise.
        """
        attempts: list[Circuit] = []

        async def attempt() -> YamuxStream:
            attempts.append(await self.open(target, address))
            return attempts[-1].stream

        try:
            _, upgraded = await upgrader.connect(attempt, target)
            return attempts.pop(), upgraded
        finally:
            for failed in attempts:
                self.release(failed)

    async def open(self, target: PeerId, address: Multiaddr) -> Circuit:
        """A circuit to `target` by way of the relay that `address` names; to be given back with `release`.

        Raises `AddressError`, `PeerError` or `LinkError`.
        """
        way = address.relay
        relay = way.peer_id if way is not None else None
        if way is None or relay is None or way.is_circuit or relay == target:
            raise AddressError(f"{address}: no way through one relay (/…/p2p/RELAY/p2p-circuit/p2p/ID)")
        link = await self._link_to(relay, way)
        remote = through(link)
        self._users[link] += 1
        stream: YamuxStream | None = None
        try:
            stream, limit = await ask_for_circuit(link, target)
        except DialError as error:
            raise DialError(f"{address}: {error}") from None
        finally:
            if stream is None:
                self._leave(link)
        self.terms.opened(relay, limit)
        return Circuit(stream, link, remote)

    def release(self, circuit: Circuit) -> None:
        """The circuit is gone."""
        self._leave(circuit.relay)

    def claim(self, link: Link) -> bool:
        """Somebody else needs this link to a relay: it is not closed when the last circuit is gone.

        Whether it was here for circuits alone until now.
        """
        if link not in self._own:
            return False
        timer = self._own.pop(link)
        if timer is not None:
            timer.cancel()
        return True

    def disclaim(self, link: Link) -> None:
        """Nobody but us needs this link to a relay any more: it is closed when no circuit leads over it."""
        if link.alive and link not in self._own:
            self._keep(link)

    async def close(self) -> None:
        """Dial no more relays. Links belong to the host."""
        for timer in self._own.values():
            if timer is not None:
                timer.cancel()
        self._own.clear()
        await self._tasks.close()

    # -- links to relays --------------------------------------------------------------------------------------------

    async def _link_to(self, relay: PeerId, way: Multiaddr) -> Link:
        """A link to the relay. Raises `DialError`. Circuits that are opened at once share one dial."""
        link = direct_link(self._links, relay)
        if link is not None:
            return link
        task = self._dialling.get(way)
        if task is None:
            task = self._dialling[way] = self._tasks.start(self._reach(relay, way), f"relay {relay.short}")
        found = await asyncio.shield(task)
        if isinstance(found, BethrouError):
            raise DialError(f"relay {relay.short} cannot be reached: {found}")
        return found

    async def _reach(self, relay: PeerId, way: Multiaddr) -> Link | BethrouError:
        try:
            link = await self._dial(relay, way)
        except BethrouError as error:
            return error
        finally:
            del self._dialling[way]
        self._keep(link)
        return link

    def _keep(self, link: Link) -> None:
        self._own[link] = None
        link.closed.add_done_callback(lambda done: self.claim(link))
        self._await_idleness(link)

    def _leave(self, link: Link) -> None:
        self._users[link] -= 1
        if not self._users[link]:
            del self._users[link]
            self._await_idleness(link)

    def _await_idleness(self, link: Link) -> None:
        if link in self._own and link.alive:
            timer = self._own[link]
            if timer is not None:
                timer.cancel()
            self._own[link] = self._loop.call_later(IDLE, self._close_if_idle, link)

    def _close_if_idle(self, link: Link) -> None:
        self._own[link] = None
        if self._users[link]:
            return  # whoever is the last to leave starts the timer anew
        if link.stream_count:
            self._await_idleness(link)
        else:
            link.close("no circuit leads through this relay any more")


def direct_link(links: Mapping[PeerId, Sequence[Link]], peer: PeerId) -> Link | None:
    """A link to `peer` that is no circuit itself: relays carry no circuits inside circuits."""
    found = links.get(peer, ())
    return next((link for link in found if link.alive and link.path != CIRCUIT), None)


def through(link: Link) -> Multiaddr:
    """Where somebody is who is reached through the relay at the other end of `link`."""
    return link.remote.with_peer(link.peer_id).circuit()


async def ask_for_circuit(link: Link, target: PeerId) -> tuple[YamuxStream, Limit | None]:
    """Have the relay at the other end of `link` join a stream to `target`: the stream, and what it may carry.

    Its protocol keeps what comes on the circuit. Raises `DialError` or `PeerError`.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            answer, negotiation = await ask_relay(link, HopMessage(HopType.CONNECT, target))
    except LinkError as error:
        raise DialError(f"the relay does not answer: {error}") from None
    except TimeoutError:
        raise DialError(f"the relay did not answer within {ANSWER_TIMEOUT:.0f} s") from None
    if answer.status != Status.OK:
        negotiation.stream.abort()
        raise DialError(f"the relay says: {describe_status(answer.status)}")
    return negotiation.stream, answer.limit


async def ask_relay(link: Link, question: HopMessage) -> tuple[HopMessage, OutboundNegotiation]:
    """One question on a hop stream, and its answer. Raises `LinkError` or `PeerError`; the stream is then reset."""
    stream = await link.open_stream()
    answer: HopMessage | None = None
    try:
        known = link.statement is not None and HOP_PROTOCOL in link.statement.protocols
        negotiation = propose(stream, [HOP_PROTOCOL], question.encode() if known else b"")
        await negotiation.agreed()
        if not known:
            stream.write(question.encode())
        answer = HopMessage.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
        if answer.type is not HopType.STATUS:
            answer = None
            raise DecodeError("the relay answers with something else than a status")
    finally:
        if answer is None:
            stream.abort()
    return answer, negotiation
