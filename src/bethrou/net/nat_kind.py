"""Which kind of NAT this host is behind, as far as its peers can tell (identify's observedAddr).

Terms: RFC 4787, 4.1. A NAT with endpoint-independent mapping puts one port of ours at the same outside port for
everybody, so that a hole can be punched there. One whose mapping depends on the destination ("symmetric") puts it
somewhere else each time: nobody can foretell where. What peers in the same network or on the same machine see says
nothing of either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bethrou.net.addresses import is_plain_tcp
from bethrou.net.link import DIRECT, Link
from bethrou.snapshots import NatSnapshot
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import is_public

NONE = "none"
INDEPENDENT = "endpoint-independent"
SYMMETRIC = "symmetric"
UNKNOWN = "unknown"

MAX_OBSERVATIONS = 256
"""Links that are looked at: a busy node has thousands, and they all say the same."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One connection, as both ends see this host's."""

    peer: str
    remote: str
    """The peer's IP address."""
    local: Multiaddr
    """Our end, as this machine has it."""
    seen: Multiaddr
    """Our end, as the peer has it."""
    outbound: bool
    """Whether we opened it: what others open comes in where a router lets it, which is no mapping of the NAT's own."""


def seen_by(links: Mapping[PeerId, Sequence[Link]]) -> list[Observation]:
    """What the peers at the other ends of `links` have said."""
    found: list[Observation] = []
    for observation in _observations(links):
        if len(found) == MAX_OBSERVATIONS:
            break
        found.append(observation)
    return found


def _observations(links: Mapping[PeerId, Sequence[Link]]) -> Iterator[Observation]:
    for peer, several in links.items():
        for link in several:
            seen = link.statement.observed_addr if link.statement is not None else None
            local, remote = link.local, link.remote.host
            if link.path != DIRECT or seen is None or local is None or remote is None:
                continue
            if is_plain_tcp(seen) and not seen.is_dns:
                yield Observation(str(peer), remote, local, seen, link.initiator)


def nat_kind(observations: Sequence[Observation]) -> NatSnapshot:
    """What follows from all of them."""
    translated = [each for each in observations if each.seen.host != each.local.host]
    mapped = [each for each in translated if each.outbound]
    if mapped:
        return _kind_of_mapping(mapped)
    if translated:
        return NatSnapshot(UNKNOWN, _places(translated), len({each.remote for each in translated}))
    untouched = [each for each in observations if is_public(each.seen)]
    kind = NONE if untouched else UNKNOWN
    return NatSnapshot(kind, _places(untouched), len({each.remote for each in untouched}))


def _kind_of_mapping(mapped: Sequence[Observation]) -> NatSnapshot:
    """Only connections from one port of ours can be compared with each other."""
    by_local: defaultdict[Multiaddr, list[Observation]] = defaultdict(list)
    for each in mapped:
        by_local[each.local].append(each)
    port = max(by_local, key=lambda local: len({each.remote for each in by_local[local]}))
    group = by_local[port]
    observers = len({each.remote for each in group})
    ports_by_host: defaultdict[str | None, set[int | None]] = defaultdict(set)
    for each in group:
        ports_by_host[each.seen.host].add(each.seen.tcp_port)
    kind = UNKNOWN
    if any(len(ports) > 1 for ports in ports_by_host.values()):
        kind = SYMMETRIC
    elif observers > 1 and len(ports_by_host) == 1:
        kind = INDEPENDENT
    kept = all(each.seen.tcp_port == each.local.tcp_port for each in group)
    return NatSnapshot(kind, _places(group), observers, kept)


def _places(observations: Sequence[Observation]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(each.seen) for each in observations))
