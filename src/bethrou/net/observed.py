"""Our own addresses as peers see them (identify's observedAddr): a node behind NAT learns its public one only so.

A peer may lie. An address counts when more than half of the peers that say anything say it, so one peer alone decides
only where it is the only one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

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
        """`peer` sees us at `seen`. Names and addresses of relays say nothing."""
        if seen is None or seen.is_circuit or seen.is_dns or seen.host is None:
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
