"""Our own addresses as peers see them (identify's observedAddr): a node behind NAT learns its public one only so.

A peer may lie. An address counts when more than half of the peers that say anything say it, so one peer alone decides
only where it is the only one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable

from bethrou.net.addresses import is_plain_tcp, is_websocket
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ObservedAddresses:
    """What each linked peer says last."""

    def __init__(self) -> None:
        self.believed: frozenset[Address] = frozenset()
        """Addresses that count."""
        self._said: dict[PeerId, Address] = {}

    def note(self, peer: PeerId, seen: Multiaddr | None) -> None:
        """`peer` sees us at `seen`.

        Names and addresses of relays say nothing, and at the other end of a WebSocket may be a web server.
        """
        if seen is None or seen.is_circuit or seen.is_dns or seen.host is None or is_websocket(seen):
            return
        # without a zone, which means something to the peer only, and may be any text
        self._said[peer] = ipaddress.ip_address(seen.host.partition("%")[0])
        self._count()

    def forget(self, peer: PeerId) -> None:
        """There is no link to `peer` any more."""
        if self._said.pop(peer, None) is not None:
            self._count()

    def _count(self) -> None:
        votes = Counter(self._said.values())
        self.believed = frozenset(address for address, count in votes.items() if 2 * count > len(self._said))


MAX_MAPPED = 4
"""Addresses of our listening ports that are believed at a time: one for each network that this machine is in."""


class MappedPorts:
    """Where peers see the ports on which we listen: a NAT's outside address that leads to us, or will once we knock.

    Only links that use a listening port at our end tell. One peer's word is enough here, as in go: whoever is given
    such an address tries it, and that is all.
    """

    def __init__(self) -> None:
        self.addresses: tuple[Multiaddr, ...] = ()
        """At most `MAX_MAPPED`, what most peers say first."""
        self._watchers: dict[object, Callable[[], object]] = {}
        self._said: dict[PeerId, Multiaddr] = {}

    def watch(self, changed: Callable[[], object]) -> Callable[[], object]:
        """Call `changed` whenever `addresses` have changed. Returns what ends it."""
        key = object()
        self._watchers[key] = changed
        return lambda: self._watchers.pop(key, None)

    def note(self, peer: PeerId, seen: Multiaddr | None) -> None:
        """`peer` sees the listening port of a link at `seen`; only a plain TCP address can be that."""
        if seen is not None and is_plain_tcp(seen) and not seen.is_dns:
            self._said[peer] = seen
            self._count()

    def forget(self, peer: PeerId) -> None:
        """There is no link to `peer` any more."""
        if self._said.pop(peer, None) is not None:
            self._count()

    def _count(self) -> None:
        before = self.addresses
        self.addresses = tuple(address for address, _ in Counter(self._said.values()).most_common(MAX_MAPPED))
        if set(self.addresses) != set(before):
            for changed in list(self._watchers.values()):
                changed()
