"""How a node tells of itself and knows other nodes: links to those it was told of, members, Redis.

What the sources say is merged in a directory, which is what the node tells members in turn.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from bethrou.assembly.discovery_timer import DiscoveryTimer
from bethrou.assembly.link_events import AGENT
from bethrou.config import DiscoveryConfig, NodeConfig
from bethrou.discovery.cache import CACHE_NAME, Cache
from bethrou.discovery.directory import Directory
from bethrou.discovery.member_records import MemberRecords
from bethrou.discovery.members_service import MembersService
from bethrou.discovery.members_source import MembersSource
from bethrou.discovery.own_record import OwnRecord
from bethrou.discovery.peers import Peers
from bethrou.discovery.source import Source
from bethrou.events import Emit
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.relay_choice import Candidate
from bethrou.net.tasks import Tasks
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.keys import Identity
from bethrou.wire.members_message import PROTOCOL
from bethrou.wire.node_record import RecordCache
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey
from bethrou.wire.reach import by_worth

RELAY = "relay"
"""The role of members that relay."""


class NodeDiscovery:
    """What the node that `host` is knows of others, and they of it. At work from construction until `close`.

    Raises ConfigError for a Redis address that cannot be used.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        config: NodeConfig,
        network_key: NetworkKey,
        identity: Identity,
        emit: Emit,
        state: Path | None,
        warn: Callable[[str], None],
    ) -> None:
        self.directory = Directory(time.time, self._entry_changed)
        self.on_relay: Callable[[], object] = lambda: None
        """Called when a relay was heard of, or something else is heard of it."""
        self.own = OwnRecord(
            host,
            identity,
            time.time_ns,
            name=config.name or "",
            tags=config.tags,
            roles=_roles(config),
            agent=AGENT,
        )
        self._loop = loop
        self._host = host
        self._network_key = network_key
        self._emit = emit
        self._rng = random.Random(os.urandom(16))
        self._records = RecordCache()
        self._taken = MemberRecords(host.peer_id, self.directory, self._records, time.time)
        self._service = MembersService(
            loop, self._taken, self._known_records, self.own, self._records, time.time
        )
        self._cache = Cache(loop, state / CACHE_NAME, self.directory, time.time, warn) if state else None
        self._members: MembersSource | None = None
        self._redis: Source | None = None
        self._configured: DiscoveryConfig | None = None
        self._peers = Peers(loop, host, config.peers, emit, self._rng)
        self._told_of = config.peers
        self._closing = Tasks(loop)
        self.configure(config)
        self._timer = DiscoveryTimer(loop, self.directory, self.snapshots, emit)
        self._peers.start()
        self._stop_observing = host.observe_links(self._link_up, lambda link, reason: None)
        if self._cache is not None:
            self._cache.start()

    def configure(self, config: NodeConfig) -> None:
        """Tell and ask as `config` says. Raises ConfigError, and changes nothing then."""
        if config.discovery != self._configured:
            redis = self._open_redis(config.discovery)  # may fail
            self._replace_sources(config.discovery, redis)
        self.own.describe(config.name or "", config.tags)
        if config.peers != self._told_of:
            self._closing.start(self._peers.close(), "the former peers")
            self._peers = Peers(self._loop, self._host, config.peers, self._emit, self._rng)
            self._peers.start()
            self._told_of = config.peers

    async def close(self) -> None:
        """Say goodbye; ask, answer and dial no more."""
        self._timer.close()
        self._stop_observing()
        await self._closing.wait()
        await self._peers.close()
        for source in self._sources():
            await source.close()
        await self._service.close()

    def relays(self) -> list[Candidate]:
        """The other members that relay, as far as they are known."""
        return [
            Candidate(entry.peer, by_worth(each for each in entry.addresses if not each.is_circuit))
            for entry in self.directory.entries.values()
            if RELAY in entry.roles and entry.peer != self._host.peer_id
        ]

    def own_addresses_changed(self) -> None:
        """Have others know soon where this node is now; Redis is told by itself."""
        if self._members is not None:
            self._members.tell()

    def snapshots(self) -> tuple[SourceSnapshot, ...]:
        """How the sources are doing."""
        return tuple(source.snapshot() for source in self._sources())

    # -- inside -----------------------------------------------------------------------------------------------------

    def _sources(self) -> list[Source]:
        """Those at work."""
        return [source for source in (self._redis, self._members, self._cache) if source is not None]

    def _entry_changed(self, peer: PeerId) -> None:
        entry = self.directory.entries.get(peer)
        if entry is not None and RELAY in entry.roles:
            self.on_relay()

    def _known_records(self) -> list[bytes]:
        self.directory.expire()
        return [entry.record for entry in self.directory.entries.values() if entry.record is not None]

    def _link_up(self, link: Link) -> None:
        if self._cache is not None and link.initiator:
            self._cache.note_good(link.peer_id, link.remote)

    def _open_redis(self, config: DiscoveryConfig) -> Source | None:
        if not config.enabled:
            return None
        # loaded only by those who use it
        from bethrou.discovery.redis_presence import RedisPresence

        return RedisPresence(
            self._loop,
            config,
            self._network_key,
            self._host.peer_id,
            self.own.current,
            self.directory,
            time.time_ns,
            self._rng,
            os.urandom,
            self._records,
        )

    def _replace_sources(self, config: DiscoveryConfig, redis: Source | None) -> None:
        if self._redis is not None:
            self._closing.start(self._end(self._redis), "the former Redis")
        self._redis = redis
        if redis is not None:
            redis.start()
        if config.members and self._members is None:
            self._host.handle(PROTOCOL, self._service.serve)
            self._members = MembersSource(self._loop, self._host, self._taken, self._rng, self.own)
            self._members.start()
        elif not config.members and self._members is not None:
            self._host.unhandle(PROTOCOL)
            self._closing.start(self._end(self._members), "members")
            self._members = None
        self._configured = config

    async def _end(self, source: Source) -> None:
        """End a source that the configuration does not name any more, and forget what it has said."""
        await source.close()
        name = source.snapshot().name
        if name not in (other.snapshot().name for other in self._sources()):
            self.directory.drop(name)


def _roles(config: NodeConfig) -> tuple[str, ...]:
    roles = (("exit", not config.no_exit), (RELAY, config.relay_mode))
    return tuple(role for role, has in roles if has)
