"""What members tell of each other and of themselves, judged: only news that can be used reaches the directory.

Whoever passes a record on is not believed, only its signature is. So a member can hold back what it knows, and fill
our tables with nodes of its own making up to their bounds; it cannot speak for anybody else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from bethrou.discovery.directory import dialable
from bethrou.discovery.source import Listener, Sighting
from bethrou.errors import DecodeError
from bethrou.net.addresses import is_loopback
from bethrou.net.link import Link
from bethrou.wire.members_message import MAX_RECORDS
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord, RecordCache
from bethrou.wire.peer_id import PeerId

SOURCE = "members"
"""The name of this source in sightings."""

MAX_LIFETIME = 24 * 3600
"""Seconds that a record may be good for: a node that has gone must not be told of for ever. Ours are for an hour."""


class MemberRecords:
    """The records that members have told. `time` gives Unix time in seconds; `listener` hears what is new in them.

    `own` is our peer ID: what others say of us is no news. `cache` may be shared with other readers of records.
    """

    def __init__(
        self, own: PeerId, listener: Listener, cache: RecordCache, time: Callable[[], float]
    ) -> None:
        self.heard = 0
        """Records that were genuine."""
        self.skipped = 0
        """Records that were not, or were good for too long."""
        self._own = own
        self._listener = listener
        self._cache = cache
        self._time = time
        self._heard_at: float | None = None
        self._known: dict[PeerId, Sighting] = {}
        """The newest of each member, at most MAX_RECORDS; beyond that newcomers wait until others have expired."""
        self._next_to_expire = math.inf
        """Until this Unix time there is no need to look for expired ones."""

    @property
    def known(self) -> int:
        """How many members they speak of that have not expired."""
        self._forget_expired()
        return len(self._known)

    @property
    def silent_for(self) -> float | None:
        """Seconds since the last genuine record; None if there has been none."""
        return None if self._heard_at is None else max(0.0, self._time() - self._heard_at)

    def take(self, envelope: bytes, near: bool, author: PeerId | None = None) -> None:
        """Judge a record; `near` says whether it came over a link that does not leave this machine (`is_near`).

        Raises `DecodeError` when it is not genuine, or not of `author` where somebody spoke of itself.
        """
        try:
            record = self._cache.open(envelope, author)
        except DecodeError:
            self.skipped += 1
            raise
        self.heard += 1
        self._heard_at = self._time()
        if record.peer_id == self._own or record.expired(self._heard_at):
            return
        if record.expires > self._heard_at + MAX_LIFETIME:
            self.skipped += 1
            return
        if self._is_news(record, near):
            self._note(record, near, envelope)

    def _is_news(self, record: NodeRecord, near: bool) -> bool:
        known = self._known.get(record.peer_id)
        if known is None or _expired(known, self._time()):
            return self._has_room()
        if known.seq != record.seq:
            return record.seq > known.seq
        # The same record: when it comes over a link inside this machine, more of its addresses can be used.
        return near and len(known.addresses) < len(record.addrs)

    def _note(self, record: NodeRecord, near: bool, envelope: bytes) -> None:
        addresses = dialable(record.addrs, from_loopback=near)
        if not addresses:
            return
        sighting = _sighting(record, addresses, envelope)
        if sighting != self._known.get(record.peer_id):
            self._next_to_expire = min(self._next_to_expire, record.expires)
            self._known[record.peer_id] = sighting
            self._listener.seen(sighting)

    def _has_room(self) -> bool:
        if len(self._known) >= MAX_RECORDS:
            self._forget_expired()
        return len(self._known) < MAX_RECORDS

    def _forget_expired(self) -> None:
        now = self._time()
        if now < self._next_to_expire:
            return
        for peer in [peer for peer, known in self._known.items() if _expired(known, now)]:
            del self._known[peer]
        self._next_to_expire = min((known.expires or now for known in self._known.values()), default=math.inf)


def is_near(link: Link) -> bool:
    """Whether the peer of `link` is on this machine."""
    return is_loopback(link.remote) and link.path == "direct"


def _expired(sighting: Sighting, now: float) -> bool:
    return sighting.expires is not None and now >= sighting.expires


def _sighting(record: NodeRecord, addresses: tuple[Multiaddr, ...], envelope: bytes) -> Sighting:
    return Sighting(
        source=SOURCE,
        peer=record.peer_id,
        addresses=addresses,
        name=record.name,
        tags=record.tags,
        roles=record.roles,
        agent=record.agent,
        seq=record.seq,
        expires=float(record.expires),
        record=envelope,
    )
