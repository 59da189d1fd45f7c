"""How a client knows its exits: the configuration, Redis, members, and a list of those that worked the last time.

What the sources say is merged in a directory; every change of it goes on to the pool.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from bethrou.assembly.discovery_timer import DiscoveryTimer
from bethrou.config import ClientConfig, DiscoveryConfig, ExitEntry
from bethrou.discovery.cache import CACHE_NAME, Cache
from bethrou.discovery.directory import REDIS, STATIC, Directory, Entry
from bethrou.discovery.member_records import MemberRecords
from bethrou.discovery.members_source import MembersSource
from bethrou.discovery.source import Sighting, Source
from bethrou.events import Emit
from bethrou.net.host import Host
from bethrou.net.tasks import Tasks
from bethrou.proxy.exit import DISCOVERED, ExitAddress
from bethrou.proxy.pool import Pool
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import RecordCache
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey


class ClientDiscovery:
    """Keeps `pool` told of the exits that there are. Raises ConfigError for a Redis address that cannot be used."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        network_key: NetworkKey,
        pool: Pool,
        rng: random.Random,
        emit: Emit,
        state: Path | None,
        warn: Callable[[str], None],
    ) -> None:
        self.directory = Directory(time.time, self._changed)
        self._loop = loop
        self._host = host
        self._network_key = network_key
        self._pool = pool
        self._rng = rng
        self._records = RecordCache()
        self._places: dict[PeerId, int] = {}
        """The place of each exit that the configuration names."""
        self._dismissed: set[PeerId] = set()
        """Exits that were taken out of the configuration, and that only members (itself among them) still tell of."""
        self._state = state
        self._warn = warn
        self._cache: Cache | None = None
        self._members: Source | None = None
        self._redis: Source | None = None
        self._configured: DiscoveryConfig | None = None
        self._timer: DiscoveryTimer | None = None
        self._emit = emit
        self._closing = Tasks(loop)

    def start(self, config: ClientConfig) -> None:
        """Begin, with what `config` says."""
        self.configure(config)
        self._timer = DiscoveryTimer(self._loop, self.directory, self.snapshots, self._emit)

    def configure(self, config: ClientConfig) -> None:
        """From now on the configuration names these exits and sources. Raises ConfigError, and changes nothing then."""
        if config.discovery != self._configured:
            redis = self._open_redis(config.discovery)  # may fail
            self._replace_sources(config.discovery, redis)
        self._name_exits(config.nodes)

    async def close(self) -> None:
        """End every source, with nothing left behind."""
        if self._timer is not None:
            self._timer.close()
        await self._closing.wait()
        for source in self._sources():
            await source.close()

    def note_good(self, peer: PeerId, address: Multiaddr) -> None:
        """There is a link to `peer` at `address`."""
        if self._cache is not None:
            self._cache.note_good(peer, address)

    def snapshots(self) -> tuple[SourceSnapshot, ...]:
        """How the sources are doing."""
        static = SourceSnapshot(
            name=STATIC,
            ok=True,
            detail="named in the configuration",
            known=len(self._places),
            heard=0,
            skipped=0,
            silent_for=None,
        )
        return (static, *(source.snapshot() for source in self._sources()))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _sources(self) -> list[Source]:
        """Those at work."""
        return [source for source in (self._redis, self._members, self._cache) if source is not None]

    def _changed(self, peer: PeerId) -> None:
        entry = self.directory.entries.get(peer)
        if entry is None and peer in self._places:
            return  # still named: only its sighting is being replaced
        if peer in self._dismissed and (entry is None or REDIS not in entry.sources):
            return
        self._dismissed.discard(peer)
        if entry is None:
            self._pool.forget(peer)
        elif entry.is_exit and peer != self._host.peer_id:
            self._pool.know([self._address(entry)])

    def _address(self, entry: Entry) -> ExitAddress:
        return ExitAddress(
            entry.peer,
            entry.addresses,
            entry.name,
            entry.tags,
            self._places.get(entry.peer, DISCOVERED),
            "cache" in entry.sources,
            entry.sources,
        )

    def _name_exits(self, nodes: tuple[ExitEntry, ...]) -> None:
        before = self._places
        self._places = {entry.peer_id: place for place, entry in enumerate(nodes)}
        self._dismissed &= self.directory.entries.keys() - self._places.keys()
        for entry in nodes:
            self.directory.seen(Sighting(STATIC, entry.peer_id, entry.ways))
        for peer in before.keys() - self._places.keys():
            self._dismiss(peer)
        moved = [entry for peer, entry in self.directory.entries.items() if peer in self._places]
        self._pool.know([self._address(entry) for entry in moved])

    def _dismiss(self, peer: PeerId) -> None:
        """The user has taken this exit out of the configuration: only Redis can keep it in use.

        What members tell of it counts for nothing, since as long as there is a link it tells of itself.
        """
        entry = self.directory.entries.get(peer)
        if entry is None or REDIS not in entry.sources:
            self._dismissed.add(peer)
            self._pool.dismiss(peer)
            if self._cache is not None:
                self._cache.forget(peer)
        self.directory.gone(STATIC, peer)

    def _open_redis(self, config: DiscoveryConfig) -> Source | None:
        if not config.enabled:
            return None
        # loaded only by those who use it
        from bethrou.discovery.redis_source import RedisSource

        return RedisSource(
            self._loop,
            config,
            self._network_key,
            self.directory,
            time.time_ns,
            self._rng,
            os.urandom,
            self._records,
        )

    def _replace_sources(self, config: DiscoveryConfig, redis: Source | None) -> None:
        self._configured = config
        before, self._redis = self._redis, redis
        if before is not None:
            self._closing.start(self._end(before), "the former Redis")
        if redis is not None:
            redis.start()
        if config.members and self._members is None:
            taken = MemberRecords(self._host.peer_id, self.directory, self._records, time.time)
            self._members = MembersSource(self._loop, self._host, taken, self._rng)
            self._members.start()
        elif not config.members and self._members is not None:
            self._closing.start(self._end(self._members), "members")
            self._members = None
        # it remembers what others have told: a client that is to use only what it is given has none
        remembers = config.members or config.enabled
        if remembers and self._cache is None and self._state is not None:
            self._cache = Cache(self._loop, self._state / CACHE_NAME, self.directory, time.time, self._warn)
            self._cache.start()
        elif not remembers and self._cache is not None:
            self._closing.start(self._end(self._cache), "last-known-good list")
            self._cache = None

    async def _end(self, source: Source) -> None:
        """End a source that the configuration does not name any more, and the use of exits that nobody else knows."""
        await source.close()
        name = source.snapshot().name
        if name in (other.snapshot().name for other in self._sources()):
            return  # what another one in its place still sees, it will say again; the rest runs out
        known = set(self.directory.entries)
        self.directory.drop(name)
        for peer in known - self.directory.entries.keys():
            self._pool.dismiss(peer)
