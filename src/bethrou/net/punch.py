"""One attempt at a hole: connect from the listening port to where the peer's NAT puts its own, while it does the same.

Spec: libp2p/specs relay/DCUtR.md, TCP. Each side's first packet tells its own NAT to let the other's in; the kernel
joins two connects that cross (RFC 9293, 3.5, simultaneous open). Who was to initiate is the client on whatever
connection comes about: one that it opened, and one that the peer opened to it (net/role_reversal.py). Who was not
serves on both: its own connects open its NAT, and where one gets through it leaves the first word to the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from bethrou.errors import BethrouError, DialError
from bethrou.net.dialer import connect_beside
from bethrou.net.host import Host
from bethrou.net.link import DIRECT, Link
from bethrou.net.tasks import Tasks
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

PUNCH_TIMEOUT = 10.0
"""Seconds for one attempt, handshake included (go, for the dial)."""

LATE = 2.0
"""Seconds that the peer's connect may still come when all of ours have failed: it has less than a round trip to go."""

MAX_ADDRESSES = 8
"""Addresses of the peer that are dialled in one attempt. They are the peer's choice, so that they are few."""

_NOTHING = "no connection came about"


async def punch(host: Host, peer: PeerId, addresses: Sequence[Multiaddr], *, initiator: bool) -> Link:
    """A direct link to `peer` at `addresses`. More than one may come about. Raises `DialError` if none does in time."""
    addresses = addresses[:MAX_ADDRESSES]
    arrived: asyncio.Future[Link] = host.loop.create_future()

    def up(link: Link) -> None:
        if link.peer_id == peer and link.path == DIRECT and not arrived.done():
            arrived.set_result(link)

    reversal = host.reversals.towards(peer, addresses) if initiator else contextlib.nullcontext()
    stop_observing = host.observe_links(up, lambda link, reason: None)
    tasks = Tasks(host.loop)
    failures: dict[Multiaddr, str] = {}
    try:
        with reversal:
            dials = {
                tasks.start(_dial(host, peer, address, initiator, failures), f"punch {address}")
                for address in addresses
            }
            return await _first(arrived, dials, host.loop)
    except TimeoutError:
        reasons = [failures.get(address, f"{address}: {_NOTHING}") for address in addresses]
        raise DialError(
            "; ".join(reasons) or "the peer, which names no address of its own, did not come"
        ) from None
    finally:
        stop_observing()
        await tasks.close()


async def _first(
    arrived: asyncio.Future[Link], dials: set[asyncio.Task[None]], loop: asyncio.AbstractEventLoop
) -> Link:
    async with asyncio.timeout(PUNCH_TIMEOUT) as limit:
        waiting: set[asyncio.Future[Link] | asyncio.Task[None]] = {arrived, *dials}
        while len(waiting) > 1 and not arrived.done():
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        limit.reschedule(min(limit.when() or 0.0, loop.time() + LATE))
        return await arrived


async def _dial(
    host: Host, peer: PeerId, address: Multiaddr, initiator: bool, failures: dict[Multiaddr, str]
) -> None:
    """Connect, and make a link of what comes about. Failing is the usual outcome; why goes to `failures`."""
    listening = host.listening.socket_for(address)
    if listening is None:
        failures[address] = f"{address}: no port on which this host listens leads there"
        return
    try:
        transport = await connect_beside(host.loop, address, listening, PUNCH_TIMEOUT)
    except BethrouError as error:  # it names the address
        failures[address] = str(error)
        return
    try:
        await host.adopt(transport, address, peer, initiator=initiator)
    except BethrouError as error:
        failures[address] = f"{address}: {error}"
