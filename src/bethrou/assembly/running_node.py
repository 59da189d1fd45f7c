"""A node put together from its options: host, exit, resolver, policy, state."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import random
import time
from collections.abc import Callable, Collection
from pathlib import Path

from bethrou.assembly.link_events import AGENT, host_events
from bethrou.assembly.membership_parts import MembershipParts
from bethrou.assembly.node_discovery import NodeDiscovery
from bethrou.config import NodeConfig
from bethrou.events import Emit
from bethrou.net.auto_relay import AutoRelay
from bethrou.net.autonat import Autonat
from bethrou.net.autonat_server import AutonatServer
from bethrou.net.dcutr import Dcutr
from bethrou.net.host import Host, HostConfig
from bethrou.net.interfaces import OwnAddresses
from bethrou.net.network_watch import NetworkWatch
from bethrou.net.probing import probe_all
from bethrou.net.reachability import Finding
from bethrou.net.relay_keeper import RelayKeeper
from bethrou.net.relay_limits import RelayLimits
from bethrou.net.relay_service import RelayService
from bethrou.net.tls import TlsIdentity
from bethrou.proxy.destination import Address
from bethrou.proxy.exit_node import ExitNode, Request
from bethrou.proxy.exit_state import PROTOCOL as STATE_PROTOCOL
from bethrou.proxy.exit_state import StateService
from bethrou.proxy.policy import Policy
from bethrou.proxy.resolver import open_resolver
from bethrou.snapshots import PolicySnapshot, RelayingSnapshot
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey


class RunningNode:
    """An exit node, a relay, or both at work. Raises `UserError`s at construction when it cannot listen.

    `state` is the directory in which it remembers other nodes; `warn` takes a line about trouble with that.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: NodeConfig,
        network_key: NetworkKey,
        identity: Identity,
        emit: Emit,
        state: Path | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._loop = loop
        self.config = config
        """As it is obeyed now."""
        self._own = OwnAddresses(loop.time())
        self._resolver = open_resolver(config.resolver, loop.time)
        self._tls = TlsIdentity(config.tls_certificate, config.tls_key, config.tls_ca)
        self.host = Host(
            loop,
            HostConfig(
                network_key,
                identity,
                os.urandom,
                time.time_ns,
                time.perf_counter,
                AGENT,
                host_events(emit),
                dial_from_listening_port=config.proxy is None,
                proxy=config.proxy,
                security=config.security,
                announce=tuple(address.without_peer() for address in config.announce),
                tls=self._tls,
            ),
        )
        self.membership: MembershipParts | None = None
        """The member list, if there is an operator."""
        if config.operator is not None:
            self.membership = MembershipParts(
                loop,
                self.host,
                network_key,
                config.operator,
                config.members,
                config.identity,
                emit,
                config.tags,
            )
            self.membership.redeem_invites(identity)
        self.addresses = [self.host.listen(address) for address in config.listen]
        """Where it listens, ports chosen."""
        ports = frozenset(port for address in self.addresses if (port := address.tcp_port) is not None)
        self._policy = Policy(allow=config.allow, deny=config.deny, own_ports=ports)
        self._judged_with: tuple[frozenset[Address], frozenset[Address]] = (frozenset(), frozenset())
        """This machine's addresses and those that peers see, as the policy has them; compared as objects."""
        self._state = StateService(loop, config.grace, config.name or "", config.tags, time.process_time)
        self._exit: ExitNode | None = None
        if not config.no_exit:
            self.host.handle(STATE_PROTOCOL, self._state.serve)
            self._exit = ExitNode(loop, self.host, self._resolver, self._judge, emit, self._state)
        self._relay: RelayService | None = None
        if config.relay_mode:
            self._relay = RelayService(loop, self.host, identity, emit, _relay_limits(config), time.time)
        self.discovery = NodeDiscovery(loop, self.host, config, network_key, identity, emit, state, warn)
        rng = random.Random(os.urandom(16))
        self._keeper = RelayKeeper(loop, self.host, config.connect_relay, emit, rng, time.time)
        self._keeper.start()
        punches = config.punch and config.proxy is None
        self.dcutr = Dcutr(self.host, time.perf_counter, emit) if punches else None
        """Replaces circuits; None: it is not to."""
        self.autonat = Autonat(self.host, os.urandom, rng)
        """Finds out where this node can be reached."""
        self._autonat_server: AutonatServer | None = None
        if config.proxy is None:  # it dials whoever asks, and what a proxy reaches says nothing of that
            self._autonat_server = AutonatServer(self.host, rng, time.perf_counter)
        self._auto_relay: AutoRelay | None = None
        if config.auto_relay and not config.no_exit:
            # one that only relays is of no use behind another relay
            self._auto_relay = AutoRelay(
                self.host, self.autonat, self._keeper, self.discovery.relays, emit, rng
            )
            self.discovery.on_relay = self._auto_relay.somebody_came
        self._keeper.on_change = self._relays_changed
        self._watch = NetworkWatch(loop, self.network_changed)

    @property
    def reachable_at(self) -> list[Multiaddr]:
        """Every address of this node, with its peer ID."""
        through_relays = [relay.circuit() for relay in self.config.connect_relay]
        found = dict.fromkeys([*self.host.listen_addresses, *through_relays])
        return [address.with_peer(self.host.peer_id) for address in found]

    @property
    def reachability(self) -> Finding:
        """What is believed of whether others can reach this node without a relay."""
        return Finding.UNKNOWN if self._auto_relay is None else self._auto_relay.standing.believed

    @property
    def relays(self) -> tuple[PeerId, ...]:
        """Through which it is to be reached: those that were named, and those that it has chosen."""
        return self._keeper.wanted

    @property
    def active(self) -> int:
        """Requests and circuits being carried."""
        return sum(service.active for service in self._services)

    @property
    def requests(self) -> Collection[Request]:
        """The requests being carried."""
        return self._exit.requests if self._exit is not None else ()

    @property
    def relaying(self) -> RelayingSnapshot | None:
        """What it relays; None: it is no relay."""
        return self._relay.snapshot() if self._relay is not None else None

    @property
    def policy(self) -> PolicySnapshot:
        """Where members may go."""
        allow, deny = (tuple(map(str, some)) for some in (self._policy.allow, self._policy.deny))
        return PolicySnapshot(allow, deny, is_exit=self._exit is not None)

    @property
    def _services(self) -> list[ExitNode | RelayService]:
        return [service for service in (self._exit, self._relay) if service is not None]

    @property
    def draining(self) -> bool:
        """Whether no new requests are taken."""
        return self._state.draining

    def reload(self, config: NodeConfig) -> list[str]:
        """Obey `config` from now on; no connection is dropped. What has changed, a line each.

        Raises ConfigError when it cannot be obeyed; then nothing has changed.
        """
        before = self.config
        self._tls.reload()
        self.discovery.configure(config)
        self._keeper.configure(config.connect_relay)
        self._policy = dataclasses.replace(self._policy, allow=config.allow, deny=config.deny)
        self._state.describe(config.grace, config.name or "", config.tags)
        if self.membership is not None:
            self.membership.configure(config.members, config.tags)
        self.config = config
        return _differences(before, config)

    def renew_certificate(self) -> bool:
        """Read the certificate for /wss again. Whether there is one. Raises ConfigError; then nothing has changed."""
        self._tls.reload()
        return self.config.tls_certificate is not None

    def drain(self) -> None:
        """Take no new links, requests and circuits; tell the members."""
        self.host.stop_listening()
        self._state.drain()
        self._keeper.drain()
        if self._relay is not None:
            self._relay.drain()

    def network_changed(self) -> None:
        """This machine may have other addresses now, and its links may be dead."""
        probe_all(self.host.links)
        if self._auto_relay is not None:
            self._auto_relay.network_changed()

    def idle_for(self, seconds: float) -> bool:
        """Whether no request and no circuit has moved a byte for `seconds`."""
        return all(service.idle_for(seconds) for service in self._services)

    async def close(self) -> None:
        """End everything."""
        self._state.close()
        self._watch.close()
        if self._auto_relay is not None:
            await self._auto_relay.close()
        if self.membership is not None:
            await self.membership.close()
        await self.discovery.close()
        await self._keeper.close()
        if self.dcutr is not None:
            await self.dcutr.close()
        await self.autonat.close()
        if self._autonat_server is not None:
            await self._autonat_server.close()
        for service in self._services:
            await service.close()
        await self.host.close()
        await self._resolver.close()

    def _relays_changed(self) -> None:
        self.discovery.own_addresses_changed()
        if self._auto_relay is not None:
            self._auto_relay.relays_changed()

    def _judge(self, address: Address, port: int) -> str | None:
        own, seen_at = self._own.current(self._loop.time()), self.host.observed.believed
        if self._judged_with[0] is not own or self._judged_with[1] is not seen_at:
            self._judged_with = (own, seen_at)
            self._policy = dataclasses.replace(self._policy, own_addresses=own | seen_at)
        denial = self._policy.judge(address, port)
        return None if denial is None else denial.reason


def _relay_limits(config: NodeConfig) -> RelayLimits:
    return RelayLimits(
        reservations=config.relay_reservations,
        circuits=config.relay_circuits,
        circuits_per_peer=config.relay_circuits_per_peer,
        rate=config.relay_rate,
        circuit_rate=config.relay_circuit_rate,
        duration=math.ceil(config.relay_duration),
        data=config.relay_data,
    )


_OBEYED = ("allow", "deny", "grace", "name", "tags", "discovery", "peers", "connect_relay", "members")
_AT_START = tuple(field for field in NodeConfig.model_fields if field not in (*_OBEYED, "watch"))


def _differences(before: NodeConfig, after: NodeConfig) -> list[str]:
    """What has changed, and what will only at the next start."""
    was, now = dict(before), dict(after)
    lines = [f"{field}: changed" for field in _OBEYED if was[field] != now[field]]
    return lines + [
        f"{field}: changed, but a restart is needed for it" for field in _AT_START if was[field] != now[field]
    ]
