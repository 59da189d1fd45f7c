"""The directory: what all sources say of a member, merged to one entry.

Sources are hints, and whoever sends them may be wrong or hostile (Redis, other members). So none of them can crowd out
what another one says, and what a member has signed counts for more than what is only said of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from bethrou.discovery.source import Sighting
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import Reach, by_worth, reach

SOURCES = ("static", "redis", "members", "cache")
"""Their names, those whose addresses are tried first in front."""

STATIC, REDIS = SOURCES[:2]

MAX_ENTRIES = 4096
"""Members known; beyond that only what the user has configured is taken. A network of that size is a large one."""

MAX_ADDRESSES = 32
"""Addresses of one member: as many as the dialer tries."""

FAIR_SHARE = MAX_ADDRESSES // len(SOURCES)
"""Addresses that every source may have in an entry, however many the others tell."""

MAX_LIFETIME = 30 * 86400.0
"""Seconds after which a sighting is void, whatever it says: no timer has to be set beyond that."""

_EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one member. Equal are entries with the same to say, whenever they expire."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    """Where it may be, in the order in which to try; without /p2p at the end."""
    sources: tuple[str, ...]
    """Which sources see it."""
    name: str = ""
    tags: tuple[str, ...] = ()
    roles: tuple[str, ...] = (_EXIT,)
    agent: str = ""
    seq: int = 0
    """The number of the newest sighting, from which name, tags, roles and agent are."""
    record: bytes | None = None
    """The newest signed record: what may be passed on to others, as long as it has not expired."""
    expires: float = field(default=math.inf, compare=False)
    """Unix time in seconds at which no source sees it any more, unless it is seen again."""

    @property
    def is_exit(self) -> bool:
        """Whether it carries requests; a relay may do so or not."""
        return _EXIT in self.roles


class Directory:
    """All members that are known. It is the `Listener` of every source.

    `clock` gives Unix time in seconds. `changed` is called with a member whose entry has come, gone, or has something
    else to say now.
    """

    def __init__(self, clock: Callable[[], float], changed: Callable[[PeerId], None]) -> None:
        self.refused = 0
        """Sightings of new members for which there was no room."""
        self._clock = clock
        self._changed = changed
        self._sightings: dict[PeerId, dict[str, Sighting]] = {}
        """By source."""
        self._entries: dict[PeerId, Entry] = {}
        self._next_expiry = math.inf

    @property
    def entries(self) -> Mapping[PeerId, Entry]:
        """The members, by peer ID. It is a view: what changes later shows in it."""
        return MappingProxyType(self._entries)

    def seen(self, sighting: Sighting) -> None:
        """Take what a source says in place of what it said before, unless that is newer and still holds."""
        now = self._clock()
        sighting = _bounded(sighting, now)
        if _is_over(sighting, now):
            return
        if sighting.peer not in self._entries and not self._has_room(sighting):
            self.refused += 1
            return
        said = self._sightings.setdefault(sighting.peer, {})
        before = said.get(sighting.source)
        if before is not None and before.seq > sighting.seq and not _is_over(before, now):
            return
        said[sighting.source] = sighting
        self._next_expiry = min(self._next_expiry, _expiry(sighting))
        self._update(sighting.peer)

    def gone(self, source: str, peer: PeerId) -> None:
        """Forget what `source` has said; others may still see the member."""
        if self._sightings.get(peer, {}).pop(source, None) is not None:
            self._update(peer)

    def drop(self, source: str) -> None:
        """Forget all that `source` has said."""
        for peer in [peer for peer, said in self._sightings.items() if source in said]:
            self.gone(source, peer)

    def next_expiry(self) -> float | None:
        """The Unix time at which `expire` should be called, at the latest; None: never, as things are."""
        return None if self._next_expiry == math.inf else self._next_expiry

    def expire(self) -> None:
        """Drop every sighting that is past its time."""
        now = self._clock()
        if now < self._next_expiry:
            return
        for peer, said in list(self._sightings.items()):
            over = [source for source, sighting in said.items() if _is_over(sighting, now)]
            for source in over:
                del said[source]
            if over:
                self._update(peer)
        left = (_expiry(sighting) for said in self._sightings.values() for sighting in said.values())
        self._next_expiry = min(left, default=math.inf)

    def _has_room(self, sighting: Sighting) -> bool:
        if sighting.source != STATIC and len(self._entries) >= MAX_ENTRIES:
            self.expire()
        return sighting.source == STATIC or len(self._entries) < MAX_ENTRIES

    def _update(self, peer: PeerId) -> None:
        """Make the entry anew, and say so when it has changed."""
        before = self._entries.get(peer)
        said = self._sightings[peer]
        if said:
            entry = self._entries[peer] = _merge(peer, said)
            if entry == before:
                return
        else:
            del self._sightings[peer], self._entries[peer]
        self._changed(peer)


def dialable(addresses: Iterable[Multiaddr], from_loopback: bool) -> tuple[Multiaddr, ...]:
    """Return those of the addresses at which a member may be dialled, those of most use first, each once.

    Addresses of a machine or of a network segment mean another one here, so they are kept only when whoever says so
    is on this machine, `from_loopback`. Names and circuits are kept; what leads nowhere is not.
    """
    limit = Reach.NOWHERE if from_loopback else Reach.LINK_LOCAL
    return tuple(address for address in by_worth(addresses) if reach(address) < limit)


def _bounded(sighting: Sighting, now: float) -> Sighting:
    """Return the sighting with addresses that are all of its peer, and an end that is not too far away."""
    own = (address for address in sighting.addresses if address.peer_id in (None, sighting.peer))
    addresses = tuple(dict.fromkeys(address.without_peer() for address in own))[:MAX_ADDRESSES]
    expires = sighting.expires if sighting.expires is None else min(sighting.expires, now + MAX_LIFETIME)
    if addresses == sighting.addresses and expires == sighting.expires:
        return sighting
    return replace(sighting, addresses=addresses, expires=expires)


def _expiry(sighting: Sighting) -> float:
    return math.inf if sighting.expires is None else sighting.expires


def _is_over(sighting: Sighting, now: float) -> bool:
    return now >= _expiry(sighting)


def _merge(peer: PeerId, said: Mapping[str, Sighting]) -> Entry:
    in_order = sorted(said.values(), key=_rank)
    newest = max(in_order, key=lambda sighting: sighting.seq)
    signed = [sighting for sighting in in_order if sighting.record is not None]
    # What the user calls an exit is one, also when it says otherwise.
    roles = dict.fromkeys((*newest.roles, *(said[STATIC].roles if STATIC in said else ())))
    return Entry(
        peer=peer,
        addresses=_merge_addresses([sighting.addresses for sighting in in_order]),
        sources=tuple(source for source in SOURCES if source in said),
        name=newest.name,
        tags=newest.tags,
        roles=tuple(roles),
        agent=newest.agent,
        seq=newest.seq,
        record=max(signed, key=lambda sighting: sighting.seq).record if signed else None,
        expires=max(map(_expiry, in_order)),
    )


def _rank(sighting: Sighting) -> tuple[bool, bool, int]:
    """Where it stands: what the user says, then what the member has signed, then what is only said of it."""
    return (sighting.source != STATIC, sighting.record is None, SOURCES.index(sighting.source))


def _merge_addresses(lists: Sequence[Sequence[Multiaddr]]) -> tuple[Multiaddr, ...]:
    """Return the addresses in their order, each once, with a fair share of the room for each list."""
    found: dict[Multiaddr, None] = {}
    for index, addresses in enumerate(lists):
        later = sum(min(FAIR_SHARE, len(others)) for others in lists[index + 1 :])
        new = [address for address in addresses if address not in found]
        found.update(dict.fromkeys(new[: max(0, MAX_ADDRESSES - len(found) - later)]))
    return tuple(found)
