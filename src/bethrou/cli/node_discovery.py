"""How a node knows other nodes: by links to those that it was told of, and by what members tell each other."""

from __future__ import annotations

import asyncio
import os
import random
import time

from bethrou.cli.link_events import AGENT
from bethrou.config import NodeConfig
from bethrou.discovery.directory import Directory
from bethrou.discovery.member_records import MemberRecords
from bethrou.discovery.members_service import MembersService
from bethrou.discovery.members_source import MembersSource
from bethrou.discovery.own_record import OwnRecord
from bethrou.discovery.peers import Peers
from bethrou.events import Emit
from bethrou.net.host import Host
from bethrou.wire.keys import Identity
from bethrou.wire.members_message import PROTOCOL
from bethrou.wire.node_record import RecordCache


class NodeDiscovery:
    """What the node that `host` is knows of others. At work from construction until `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        config: NodeConfig,
        identity: Identity,
        emit: Emit,
    ) -> None:
        rng = random.Random(os.urandom(16))
        self.directory = Directory(time.time, lambda peer: None)
        self.own = OwnRecord(
            host, identity, time.time_ns, name=config.name or "", tags=config.tags, agent=AGENT
        )
        cache = RecordCache()
        taken = MemberRecords(host.peer_id, self.directory, cache, time.time)
        self.source = MembersSource(loop, host, taken, rng, self.own)
        self._service = MembersService(loop, taken, self._records, self.own, cache, time.time)
        self._peers = Peers(loop, host, config.peers, emit, rng)
        if config.discovery.members:
            host.handle(PROTOCOL, self._service.serve)
            self.source.start()
        self._peers.start()

    async def close(self) -> None:
        """Ask, answer and dial no more."""
        await self._peers.close()
        await self.source.close()
        await self._service.close()

    def _records(self) -> list[bytes]:
        self.directory.expire()
        return [entry.record for entry in self.directory.entries.values() if entry.record is not None]
