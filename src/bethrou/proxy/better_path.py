"""From a circuit to a direct link: an exit that is reached through a relay is looked for at its own addresses, too."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence

from bethrou.errors import DialError
from bethrou.net.circuits import direct_link
from bethrou.net.host import Host
from bethrou.net.link import CIRCUIT, Link
from bethrou.wire.identify import believable_addresses
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.reach import Reach, reach

RETRY = 60.0
"""Seconds between two attempts, with +-20 % of chance."""

LOOK = 5.0
"""Seconds between two looks at whether a link that was replaced has anything left to do."""


async def better_link(
    host: Host,
    link: Link,
    known: Callable[[], Sequence[Multiaddr]],
    rng: random.Random,
    failed: Callable[[str], None],
) -> Link:
    """Return a link to the same peer that needs no relay, as soon as there is one, whoever has made it.

    `known` says where the peer may be. What it says itself on `link` is tried, too, at once: nobody has yet.
    `failed` is told why an attempt led to nothing, for people: each address with its reason.
    """
    arrived = asyncio.Event()

    def up(other: Link) -> None:
        if other.peer_id == link.peer_id and other.path != CIRCUIT:
            arrived.set()

    stop_observing = host.observe_links(up, lambda other, reason: None)
    tried = set(known())
    try:
        while True:
            arrived.clear()  # before the look: one may come at any time from here on
            if (found := direct_link(host.links, link.peer_id)) is not None:
                return found
            addresses = [address for address in _ways(known(), link) if address not in tried]
            tried.clear()
            if addresses:
                try:
                    return await host.dial(link.peer_id, addresses)
                except DialError as error:
                    failed(str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY * rng.uniform(0.8, 1.2)):
                    await arrived.wait()
    finally:
        stop_observing()


async def retire(link: Link) -> None:
    """Close `link` when no stream is left on it."""
    while link.alive and link.stream_count:
        await asyncio.wait([link.closed], timeout=LOOK)
    link.close("there is a better way to this peer")


def _ways(known: Sequence[Multiaddr], link: Link) -> list[Multiaddr]:
    """Direct addresses. Of those that the peer lists itself, what only its own machine can use is none of ours."""
    listed = believable_addresses(link.statement, link.peer_id) if link.statement is not None else ()
    useful = [address for address in listed if reach(address) < Reach.LINK_LOCAL]
    return [address for address in dict.fromkeys([*known, *useful]) if not address.is_circuit]
