"""A running node as others on this machine see it and act on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from bethrou.assembly.running_node import RunningNode
from bethrou.cli.control_of_program import ControlOfProgram
from bethrou.cli.own_files import NO_FILES, OwnFiles
from bethrou.config import NodeConfig
from bethrou.errors import Failure, NotOffered, RequestError
from bethrou.events import Event, LinkClosed, LinkOpened
from bethrou.net.link import Link
from bethrou.ops.event_feed import EventFeed
from bethrou.snapshots import (
    ConnectionSnapshot,
    MemberSnapshot,
    StatusSnapshot,
    WhySnapshot,
)
from bethrou.wire.destination import join_address


class ControlOfNode(ControlOfProgram):
    """The control of `node`. To be made when the node is. `read` as in `ControlOfClient`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: RunningNode,
        network: str,
        feed: EventFeed,
        stop: Callable[[], None],
        read: Callable[[], NodeConfig] | None = None,
        files: OwnFiles = NO_FILES,
    ) -> None:
        super().__init__(loop, (node.host, node.autonat, node.dcutr), network, feed, stop, files)
        self._node = node
        self._read = read
        self._since: dict[tuple[str, str], float] = {}
        """When each member's link came up, in the loop's seconds, by the member and its address."""
        feed.subscribe(self._note)

    def status(self) -> StatusSnapshot:
        """What the node is and how it does."""
        node = self._node
        streams = Counter(request.peer for request in node.requests)
        return StatusSnapshot(
            role="node",
            draining=node.draining,
            listening=() if node.draining else tuple(str(address) for address in node.addresses),
            connections=node.active,
            exits_known=sum(entry.is_exit for entry in node.discovery.directory.entries.values()),
            sources=node.discovery.snapshots(),
            members=tuple(
                self._member(link, streams[str(peer)])
                for peer, links in node.host.links.items()
                for link in links
            ),
            relaying=node.relaying,
            relays=self._diagnosis.relays(node.relays),
            reachability=node.autonat.found,
            checked=self._diagnosis.since_check,
            policy=node.policy,
            **self._usual(),
        )

    def connections(self) -> Sequence[ConnectionSnapshot]:
        """The requests that have said where they want to go."""
        now = self._loop.time()
        return [
            ConnectionSnapshot(
                id=asked.id or "",
                destination=join_address(asked.host, asked.port),
                peer=request.peer,
                user=asked.user or "",
                sent=0 if request.splice is None else request.splice.bytes_from_left,
                received=0 if request.splice is None else request.splice.bytes_from_right,
                seconds=now - request.started,
                idle=0.0 if request.splice is None else now - request.splice.last_activity,
            )
            for request in self._node.requests
            if (asked := request.asked) is not None
        ]

    def why(self, host: str, port: int, user: str) -> WhySnapshot:
        """A node has nothing to choose."""
        raise NotOffered("a node chooses no exits: ask a client")

    async def reload(self) -> Sequence[str]:
        """Obey the configuration as it is in its file now. Raises UserErrors; nothing has changed then."""
        if self._read is None:
            if self._node.renew_certificate():
                return ["tls_certificate: read again"]
            raise NotOffered("a node without --config has no file to read: restart it with other options")
        return await self._obey(self._read, self._node.reload)

    def close_connection(self, id: str) -> bool:  # noqa: A002 - the snapshot's word
        """End a request that is being carried; one whose destination is still dialled cannot be ended."""
        for request in self._node.requests:
            if request.asked is not None and request.asked.id == id and request.splice is not None:
                request.splice.abort(RequestError(Failure.INTERNAL, "closed by the exit's user"))
                return True
        return False

    # -- inside -----------------------------------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        match event:
            case LinkOpened():
                self._since[event.peer, event.address] = self._loop.time()
            case LinkClosed():
                self._since.pop((event.peer, event.address), None)

    def _member(self, link: Link, streams: int) -> MemberSnapshot:
        peer, address = str(link.peer_id), str(link.remote)
        return MemberSnapshot(
            id=peer,
            address=address,
            path=link.path,
            agent="" if link.statement is None else link.statement.agent_version,
            streams=streams,
            round_trip=link.round_trip,
            sent=link.bytes_sent,
            received=link.bytes_received,
            seconds=self._loop.time() - self._since.get((peer, address), self._started),
            security=link.security,
        )
