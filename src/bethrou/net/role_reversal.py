"""Accepted connections on which we are the dialer: where a hole is punched, both sides connect.

Spec: libp2p/specs relay/DCUtR.md. Which side of a punched connection proposes is agreed on beforehand, but either
side's connect may be the one that gets through. Go keeps to its role on connections that it dials itself, and serves
as usual what its listener accepts. So when its connect comes out at our listener, it is we who have to remember.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId


class RoleReversals:
    """Addresses from which somebody is expected who leaves the first word to us.

    Address and port both have to match: others may share the address (a NAT), and expect to be served.
    """

    def __init__(self) -> None:
        self._expected: Counter[tuple[Multiaddr, PeerId]] = Counter()

    @contextlib.contextmanager
    def towards(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> Iterator[None]:
        """For the length of a block: speak first to `peer` when it connects from one of `addresses`."""
        keys = [(address, peer) for address in addresses]
        self._expected.update(keys)
        try:
            yield
        finally:
            self._expected.subtract(keys)
            self._expected += Counter()  # without those that are down to zero

    def peer_at(self, remote: Multiaddr) -> PeerId | None:
        """Whom to speak to first on a connection from `remote`; None: whoever connects there has the first word."""
        return next((peer for address, peer in self._expected if address == remote), None)
