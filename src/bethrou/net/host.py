"""The libp2p host: identity, links, and which protocol is answered by whom.

Everything that a peer can do to us passes here: it gets a link by `dial` or by being accepted, is identified, and
every stream it opens is negotiated and handed to the handler of its protocol. A handler is a plain function; it sets
the stream's protocol before it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bethrou.errors import AddressError, BethrouError, DialError, IdentityMismatch, LinkLost, PeerError
from bethrou.net import identify
from bethrou.net.accepting import Accepting
from bethrou.net.access import Access
from bethrou.net.addresses import as_bound, endpoint, is_loopback, is_websocket
from bethrou.net.buffers import Buffers
from bethrou.net.circuits import Circuits
from bethrou.net.dialer import connect, race, start_tls
from bethrou.net.interfaces import OwnAddresses
from bethrou.net.introductions import Introductions
from bethrou.net.link import CIRCUIT, DIRECT, Link, Upgraded
from bethrou.net.listening import Listening
from bethrou.net.negotiation import (
    InboundNegotiation,
    OutboundNegotiation,
    propose,
)
from bethrou.net.observed import MappedPorts, ObservedAddresses
from bethrou.net.ping import PROTOCOL_ID as PING
from bethrou.net.ping import PingService
from bethrou.net.role_reversal import RoleReversals
from bethrou.net.securities import DEFAULT_ORDER, make_securities
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.net.timeouts import TimeoutQueue
from bethrou.net.tls import TlsIdentity
from bethrou.net.upgrade import Upgrader
from bethrou.wire.identify import Identify
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.peer_record import PeerRecord
from bethrou.wire.psk import NetworkKey
from bethrou.wire.upstream import Upstream
from bethrou.wire.yamux.window import WindowBudget

# Implementation constants.
NEGOTIATION_TIMEOUT = 10.0
"""Seconds that a peer has to say what a stream is for (go, js and rust have the same)."""

MAX_NEGOTIATIONS = 4096
"""Inbound streams of the whole host that have not said yet what they are for. One more, and the oldest is reset:
the usual stream says it with its first frame, so that a peer that opens them by the thousand harms only itself."""

_EVERYWHERE = {"0.0.0.0": 4, "::": 6}

_STOPPING = "this host is stopping"

Handler = Callable[[Link, YamuxStream, bytes], None]
"""Takes a stream whose protocol is agreed on, and the bytes that came behind the proposal."""


@dataclass
class HostEvents:
    """Called on what happens to links; each takes arguments for one log line."""

    link_up: Callable[[Link], None] = lambda link: None
    link_down: Callable[[Link, Exception], None] = lambda link, reason: None
    refused: Callable[[Multiaddr, BethrouError], None] = lambda remote, reason: None
    """An accepted connection did not get through its handshake."""
    shortage: Callable[[bool], None] = lambda short: None
    """File descriptors ran out (True), or are there again (False)."""


@dataclass
class HostConfig:
    """What a host is made of. `clock` gives seconds of a fine resolution, for round trips and rates."""

    network_key: NetworkKey
    identity: Identity
    randbytes: Callable[[int], bytes]
    time_ns: Callable[[], int]
    clock: Callable[[], float]
    agent: str
    events: HostEvents = field(default_factory=HostEvents)
    dial_from_listening_port: bool = False
    """Whether to dial from the port that is listened on, where that can be done: peers then see, and tell us, where a
    NAT puts this port, and holes can be punched."""
    tells_addresses: bool = True
    """Whether peers are told where this host listens (identify)."""
    security: tuple[str, ...] = DEFAULT_ORDER
    """The securities that are spoken, the one to propose first in front (net/securities.py)."""
    announce: tuple[Multiaddr, ...] = ()
    """Where this host can be reached, too: by way of a web server that passes WebSockets on."""
    tls: TlsIdentity = field(default_factory=TlsIdentity)
    """Certificates for WebSockets in TLS."""
    proxy: Upstream | None = None
    """What every connection to a peer is made through. Peers then see it, not us."""


class Host:
    """One member of a private network."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: HostConfig) -> None:
        self.loop = loop
        self.peer_id = config.identity.peer_id
        self.buffers = Buffers()
        self.budget = WindowBudget()
        self.links: dict[PeerId, list[Link]] = {}
        """Links that are up, the oldest first."""
        self._interfaces = OwnAddresses(loop.time())
        self.observed = ObservedAddresses()
        """Where peers see us."""
        self.mapped = MappedPorts()
        """Where peers see the ports on which we listen."""
        self.reversals = RoleReversals()
        """On which accepted connections we are the dialer."""
        self._config = config
        self._events = config.events
        self._observers = {object(): (config.events.link_up, config.events.link_down)}
        """Who is told of links that come and go."""
        securities = make_securities(config.security, config.identity, config.time_ns)
        self._upgrader = Upgrader(config.network_key, securities, config.randbytes, config.clock)
        self._handlers: dict[str, Handler] = {}
        self.access: Access | None = None
        """Who may do what here; None: every holder of the network key everything."""
        self.accepting = Accepting(
            loop,
            self._upgrader,
            config.tls,
            self.buffers,
            self.reversals,
            config.events.refused,
            self._start_link,
        )
        """What others connect here, until it is a link."""
        self.listening = Listening(loop, self.accepting.take, config.events.shortage)
        """Its listening sockets."""
        self._dials: set[asyncio.Task[Any]] = set()
        """Attempts under way to dial an address."""
        self.circuits = Circuits(loop, self.links, self._dial_address)
        """The ways to peers through relays."""
        self._reservations: dict[PeerId, tuple[Multiaddr, ...]] = {}
        """Where we can be reached through relays, by relay."""
        self._tasks = Tasks(loop)
        self._introductions = Introductions(self._tasks, self.statement, self._peer_said)
        self._negotiations = TimeoutQueue(loop, NEGOTIATION_TIMEOUT)
        self._closing = False
        self._unflushed: set[Link] = set()
        """Links whose transport is there, also those that are closed but have bytes to send."""
        self.handle(PING, PingService().serve)
        self.handle(identify.PROTOCOL_ID, self._introductions.serve)
        self.handle(identify.PUSH_PROTOCOL_ID, self._introductions.serve_push)

    # -- setting up -------------------------------------------------------------------------------------------------

    def handle(self, protocol: str, handler: Handler) -> None:
        """Answer streams of `protocol`. Peers that are connected are told (identify push)."""
        self._handlers[protocol] = handler
        self._tell_peers()

    def unhandle(self, protocol: str) -> None:
        """Answer such streams no more; those that are open stay with their handler."""
        if self._handlers.pop(protocol, None) is not None:
            self._tell_peers()

    def _tell_peers(self) -> None:
        for peer in self.links:
            self.introduce_to(peer)

    def introduce_to(self, peer: PeerId) -> None:
        """Tell `peer` anew what we are: there is something new in it."""
        for link in self.links.get(peer, []):
            self._introductions.push(link)

    def observe_links(
        self, up: Callable[[Link], None], down: Callable[[Link, Exception], None]
    ) -> Callable[[], object]:
        """Call `up` with every link, those that are up already at once, and `down` when one is gone.

        `up` is called before anything happens on a new link; `links` is up to date in both. Returns what ends it.
        """
        key = object()
        self._observers[key] = (up, down)
        for links in list(self.links.values()):
            for link in list(links):
                up(link)
        return lambda: self._observers.pop(key, None)

    def listen(self, address: Multiaddr) -> Multiaddr:
        """Accept links on `address`; returns it with the port that was chosen. Raises `UserError`s."""
        if endpoint(address).tls:
            self._config.tls.check()
        return self.listening.open(address)

    @property
    def bound_addresses(self) -> list[Multiaddr]:
        """What its listening sockets are bound to, unspecified addresses as such."""
        return self.listening.addresses

    @property
    def listen_addresses(self) -> list[Multiaddr]:
        """Where this host can be reached, as far as it knows: unspecified addresses become all interfaces'."""
        found: list[Multiaddr] = []
        for address in self.bound_addresses:
            if address.host in _EVERYWHERE:
                version = _EVERYWHERE[address.host]
                interfaces = self._interfaces.current(self.loop.time())
                own = [ip for ip in interfaces if ip.version == version and not ip.is_link_local]
                found += [as_bound(address, Multiaddr.tcp(str(ip), address.tcp_port or 0)) for ip in own]
            else:
                found.append(address)
        circuits = [address for each in self._reservations.values() for address in each]
        return list(dict.fromkeys([*self._config.announce, *found, *circuits]))

    @property
    def seen_addresses(self) -> list[Multiaddr]:
        """Where peers see this host, if it listens on all addresses: behind NAT nothing else leads to it."""
        return [
            as_bound(bound, Multiaddr.tcp(str(address), bound.tcp_port or 0))
            for address in sorted(self.observed.believed, key=str)
            for bound in self.bound_addresses
            if _EVERYWHERE.get(bound.host or "") == address.version
        ]

    def reachable_through(self, relay: PeerId, addresses: Sequence[Multiaddr]) -> None:
        """A relay makes circuits to us at these addresses (none: no more). Peers that are connected are told."""
        before = self._reservations.pop(relay, ())
        if addresses:
            self._reservations[relay] = tuple(addresses)
        if tuple(addresses) != before:
            self._tell_peers()

    @property
    def own_candidates(self) -> list[Multiaddr]:
        """Where this host may be reached: where peers see its ports, then where it listens."""
        return list(dict.fromkeys([*self.mapped.addresses, *self.listen_addresses]))

    def stranger(self) -> Upgrader:
        """What makes connections inside the network under an identity that is used once."""
        return self._upgrader.under(Identity.generate(self._config.randbytes))

    # -- links and streams ------------------------------------------------------------------------------------------

    async def dial(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> Link:
        """A new link to `peer`. Raises `DialError` with the reason for each address, or why it is not let in."""
        if peer == self.peer_id:
            raise DialError("this is our own peer ID")
        link = await race(
            addresses, lambda address: self._dial_address(peer, address), lambda link: link.close()
        )
        if self.access is not None:
            await self._check_dialled(link, self.access)
        return link

    async def _check_dialled(self, link: Link, access: Access) -> None:
        good = False
        try:
            await access.check_dialled(link)
            good = True
        finally:
            if not good:
                link.close()

    async def statement_of(self, link: Link) -> Identify | None:
        """Wait for what the peer says of itself (identify or push); None when it would not say."""
        await self._introductions.wait(link)
        return link.statement

    async def ask_again(self, link: Link) -> None:
        """Have the peer say anew what it is: it lets us do more now. Raises `BethrouError`."""
        link.statement = await identify.ask(link) or link.statement

    async def open(self, link: Link, protocols: Sequence[str], first: bytes = b"") -> OutboundNegotiation:
        """A stream on which `protocols` are proposed, with `first` behind a proposal known to be accepted.

        Raises `LinkLost`.
        """
        return propose(await link.open_stream(), protocols, first)

    def stop_listening(self) -> None:
        """Accept no more links."""
        self.listening.close()

    async def close(self) -> None:
        """Close everything; afterwards no socket, stream or task of this host is left."""
        self._closing = True
        self.accepting.stop()
        self.stop_listening()
        self._negotiations.close()
        open_links = [link for links in self.links.values() for link in links]
        for link in sorted(open_links, key=lambda link: link.path != CIRCUIT):
            link.close(_STOPPING)  # circuits first: their goodbyes go over the others
        await self._end_dials()
        await self.circuits.close()
        await self.accepting.close()
        await self._tasks.close()
        if self._unflushed:
            await asyncio.wait([link.flushed for link in self._unflushed])

    # -- dialling and accepting -------------------------------------------------------------------------------------

    async def _dial_address(self, peer: PeerId, address: Multiaddr) -> Link:
        task = asyncio.current_task()
        assert task is not None
        self._dials.add(task)
        try:
            if self._closing:
                raise LinkLost(_STOPPING)
            if address.is_circuit:
                return await self._dial_circuit(peer, address)
            transport, upgraded = await self._upgrader.connect(lambda: self._connect(address), peer)
        except PeerError as error:
            error.args = (f"{address}: {error}",)
            raise
        except asyncio.CancelledError:
            if self._closing:
                raise LinkLost(_STOPPING) from None  # not the one who dials was cancelled
            raise
        finally:
            self._dials.discard(task)
        return self._start_link(transport, upgraded, address.without_peer())

    async def _connect(self, address: Multiaddr) -> asyncio.Transport:
        """Raises `BethrouError`."""
        where, proxy = endpoint(address), self._config.proxy
        if proxy is not None:
            from bethrou.net.upstream_proxy import connect_through  # not needed by most

            transport = await connect_through(self.loop, address, proxy)
        else:
            from_port = self._config.dial_from_listening_port and not where.websocket
            transport = await connect(self.loop, address, self.listening.sockets if from_port else ())
        if not where.websocket:
            return transport
        reader = await start_tls(self.loop, transport, address, self._config.tls if where.tls else None)
        from bethrou.net.websocket_opening import open_websocket  # heavy, and not needed by most

        randbytes, scratch = self._config.randbytes, self.buffers.websocket
        try:
            return await open_websocket(self.loop, reader, where, randbytes, scratch)
        except LinkLost as error:
            raise LinkLost(f"{address}: {error}") from None

    async def _dial_circuit(self, peer: PeerId, address: Multiaddr) -> Link:
        if address.relay is not None and address.relay.peer_id == self.peer_id:
            raise AddressError(f"{address}: this is the relay itself")
        circuit, upgraded = await self.circuits.connect(peer, address, self._upgrader)
        link = self._start_link(circuit.stream, upgraded, circuit.remote, CIRCUIT)
        link.closed.add_done_callback(lambda done: self.circuits.release(circuit))
        return link

    async def _end_dials(self) -> None:
        dials = list(self._dials)
        for task in dials:
            task.cancel()
        if dials:
            await asyncio.wait(dials)

    async def adopt(
        self, transport: asyncio.Transport, remote: Multiaddr, peer: PeerId, *, initiator: bool
    ) -> Link:
        """Make a direct link to `peer` of a connection that is there, in either role, whoever opened it.

        Raises what an upgrade raises; the transport is then aborted.
        """
        upgrade = self._upgrader.dial(transport, peer) if initiator else self._upgrader.accept(transport)
        upgraded = await upgrade
        found = upgraded.session.peer_id
        if self._closing or found != peer:
            transport.abort()
            stranger = IdentityMismatch(f"{remote}: {found} answered instead of {peer}")
            raise LinkLost(_STOPPING) if self._closing else stranger
        return self._start_link(transport, upgraded, remote)

    def _start_link(
        self, transport: asyncio.Transport, upgraded: Upgraded, remote: Multiaddr, path: str = DIRECT
    ) -> Link:
        link = Link(
            self.loop,
            transport,
            upgraded,
            buffers=self.buffers.nested if path == CIRCUIT else self.buffers,
            budget=self.budget,
            remote=remote,
            on_stream=self._stream_opened,
            clock=self._config.clock,
            path=path,
        )
        self.links.setdefault(link.peer_id, []).append(link)
        self._introductions.begin(link)
        link.closed.add_done_callback(lambda done: self._remove(link, done.result()))
        self._unflushed.add(link)
        link.flushed.add_done_callback(lambda done: self._unflushed.discard(link))
        for up, _ in list(self._observers.values()):
            up(link)
        link.start(upgraded)
        return link

    def _remove(self, link: Link, reason: Exception) -> None:
        links = self.links.get(link.peer_id, [])
        if link in links:
            links.remove(link)
        if not links:
            self.links.pop(link.peer_id, None)
            self.observed.forget(link.peer_id)
            self.mapped.forget(link.peer_id)
        self._introductions.end(link)
        for _, down in list(self._observers.values()):
            down(link, reason)

    # -- inbound streams --------------------------------------------------------------------------------------------

    def _stream_opened(self, link: Link, stream: YamuxStream) -> None:
        if len(self._negotiations) >= MAX_NEGOTIATIONS:
            self._negotiations.expire_oldest()
        stream.set_protocol(
            InboundNegotiation(
                stream,
                self._offered_to(link.peer_id),
                lambda protocol, surplus: self._handlers[protocol](link, stream, surplus),
                self._negotiations,
            )
        )

    def _offered_to(self, peer: PeerId) -> Callable[[str], bool]:
        """Whether we answer a protocol when `peer` asks for it."""
        access = self.access
        if access is None:
            return self._handlers.__contains__
        return lambda protocol: protocol in self._handlers and access.permits(peer, protocol)

    # -- identify ---------------------------------------------------------------------------------------------------

    def _peer_said(self, link: Link, statement: Identify) -> None:
        if self._config.proxy is not None:
            return  # it is the proxy that peers see
        self.observed.note(link.peer_id, statement.observed_addr)
        if self.listening.has(link.local):
            self.mapped.note(link.peer_id, statement.observed_addr)

    def statement(self, link: Link) -> Identify:
        """What we say of ourselves to the peer of `link`; loopback addresses only to a peer on loopback."""
        # A WebSocket from loopback is most likely a web server that passes on what comes from anywhere.
        local_peer = is_loopback(link.remote) and not is_websocket(link.remote)
        listening = self.listen_addresses if self._config.tells_addresses else []
        addresses = [address for address in listening if local_peer or not is_loopback(address)]
        record = PeerRecord(self.peer_id, self._config.time_ns(), tuple(addresses)) if addresses else None
        return Identify(
            public_key=self._config.identity.public_key,
            listen_addrs=tuple(addresses),
            protocols=tuple(sorted(filter(self._offered_to(link.peer_id), self._handlers))),
            observed_addr=link.remote,
            protocol_version="ipfs/0.1.0",
            agent_version=self._config.agent,
            signed_peer_record=record.seal(self._config.identity) if record else None,
        )
