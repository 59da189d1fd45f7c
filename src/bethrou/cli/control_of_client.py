"""A running client as others on this machine see it and act on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bethrou import __version__
from bethrou.cli.running_client import RunningClient
from bethrou.config import ClientConfig, HostPort
from bethrou.errors import Failure, NotOffered, RequestError
from bethrou.events import DialFailed, Emit, Event, ExitStateChanged, ExitSuspected, LinkClosed, LinkOpened
from bethrou.ops.event_feed import EventFeed
from bethrou.proxy.pool import Exit
from bethrou.proxy.socks_server import SocksConnection
from bethrou.snapshots import ConnectionSnapshot, ExitSnapshot, LoadSnapshot, StatusSnapshot, WhySnapshot
from bethrou.wire.proxy_request import join_address


@dataclass(frozen=True)
class _News:
    """What last happened to an exit that changed its state."""

    at: float
    reason: str = ""


class ControlOfClient:
    """The control of `client`, which emits its events to `feed`. To be made when the client is."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: RunningClient,
        config: ClientConfig,
        network: str,
        feed: EventFeed,
    ) -> None:
        self._loop = loop
        self._client = client
        self._config = config
        self._network = network
        self._feed = feed
        self._started = loop.time()
        self._news: dict[str, _News] = {}
        """By peer ID of the exit."""
        feed.subscribe(self._note)

    def status(self) -> StatusSnapshot:
        """What the client is and how it does."""
        client = self._client
        streams = Counter(connection.peer for connection in client.connections)
        return StatusSnapshot(
            role="client",
            version=__version__,
            id=str(client.host.peer_id),
            network=self._network,
            uptime=self._loop.time() - self._started,
            draining=client.draining,
            listening=() if client.draining else (str(HostPort(*client.socks_address)),),
            connections=client.active,
            strategy=self._config.routing.strategy.value,
            exits=tuple(self._exit(exit_, streams[peer]) for peer, exit_ in client.pool.exits.items()),
        )

    def connections(self) -> Sequence[ConnectionSnapshot]:
        """The applications' connections that have said where they want to go."""
        return [
            snapshot
            for connection in self._client.connections
            if (snapshot := self._connection(connection)) is not None
        ]

    def why(self, host: str, port: int, user: str) -> WhySnapshot:
        """Not in this version."""
        raise NotOffered("this client cannot say how it would choose")

    async def reload(self) -> Sequence[str]:
        """Not in this version."""
        raise NotOffered("this client reads its configuration at its start only; restart it")

    def drain(self) -> None:
        """Take no new applications."""
        self._client.drain()

    def close_connection(self, id: str) -> bool:  # noqa: A002 - the snapshot's word
        """End an application's connection."""
        for connection in self._client.connections:
            if connection.request is not None and connection.request.id == id:
                if connection.splice is not None:
                    connection.splice.abort(RequestError(Failure.INTERNAL, "closed by the user"))
                else:
                    connection.abort()
                return True
        return False

    def subscribe(self, callback: Emit) -> Callable[[], None]:
        """Have `callback` called with each event."""
        return self._feed.subscribe(callback)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        now = self._loop.time()
        match event:
            case LinkOpened() | ExitStateChanged():
                self._news[event.peer] = _News(now)
            case LinkClosed() | ExitSuspected():
                self._news[event.peer] = _News(now, event.reason)
            case DialFailed():
                self._news[event.peer] = _News(self._since(event.peer), event.reason)

    def _since(self, peer: str) -> float:
        return self._news[peer].at if peer in self._news else self._started

    def _exit(self, exit_: Exit, streams: int) -> ExitSnapshot:
        now, peer = self._loop.time(), str(exit_.peer)
        link, state = exit_.link, exit_.state
        news = self._news.get(peer, _News(self._started))
        return ExitSnapshot(
            id=peer,
            name=state.name,
            tags=state.tags,
            state=self._state_of(exit_, peer in self._news),
            reason=news.reason,
            since=now - news.at,
            round_trip=None if link is None else link.round_trip,
            path="" if link is None else link.path,
            address="" if link is None else str(link.remote),
            addresses=tuple(str(address) for address in exit_.addresses),
            sources=("static",),
            streams=streams,
            load=None if link is None else LoadSnapshot(state.streams, state.cpu, state.limit),
            agent="" if exit_.statement is None else exit_.statement.agent_version,
        )

    def _state_of(self, exit_: Exit, ever_heard_of: bool) -> str:
        if exit_.link is None:
            return "down" if ever_heard_of else "connecting"
        if exit_.state.draining:
            return "draining"
        return "suspect" if exit_.health.suspect(self._loop.time()) else "healthy"

    def _connection(self, connection: SocksConnection) -> ConnectionSnapshot | None:
        request, splice = connection.request, connection.splice
        if request is None:
            return None
        now = self._loop.time()
        return ConnectionSnapshot(
            id=request.id or "",
            destination=join_address(request.host, request.port),
            peer=connection.peer,
            user=request.user or "",
            sent=0 if splice is None else splice.bytes_from_left,
            received=0 if splice is None else splice.bytes_from_right,
            seconds=now - connection.started,
            idle=0.0 if splice is None else now - splice.last_activity,
        )
