"""Members that tests of discovery speak of, and what is seen of them."""

from __future__ import annotations

import hashlib

from bethrou.discovery.source import Sighting
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord
from bethrou.wire.peer_id import PeerId

NOW = 1_800_000_000.0
"""Unix time at which these tests begin."""

ALICE, BOB = Identity.from_seed(bytes(range(32))), Identity.from_seed(bytes(32))


class UnixClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def crowd(number: int) -> list[PeerId]:
    """So many peers, always the same."""
    return [PeerId(b"\x12\x20" + hashlib.sha256(b"%d" % index).digest()) for index in range(number)]


def at(*ports: int, host: str = "8.8.8.8") -> tuple[Multiaddr, ...]:
    """Addresses with these ports."""
    return tuple(Multiaddr.tcp(host, port) for port in ports)


def seen(source: str, peer: PeerId = ALICE.peer_id, *ports: int, **said: object) -> Sighting:
    """What `source` says of `peer`."""
    return Sighting(source, peer, at(*ports), **said)  # type: ignore[arg-type]  # each test says what it needs


def record(
    seq: int = 1, *ports: int, expires: float = NOW + 3600, identity: Identity = ALICE, name: str = ""
) -> bytes:
    """A signed record."""
    return NodeRecord(identity.peer_id, seq, int(expires), at(*ports), name).seal(identity)
