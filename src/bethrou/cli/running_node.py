"""A node put together from its options: host, exit, resolver, policy, state."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

from bethrou.cli.link_events import AGENT, host_events
from bethrou.cli.node_discovery import NodeDiscovery
from bethrou.config import NodeConfig
from bethrou.events import Emit
from bethrou.net.host import Host, HostConfig
from bethrou.net.interfaces import OwnAddresses
from bethrou.proxy.destination import Address
from bethrou.proxy.exit_node import ExitNode
from bethrou.proxy.exit_state import PROTOCOL as STATE_PROTOCOL
from bethrou.proxy.exit_state import StateService
from bethrou.proxy.policy import Policy
from bethrou.proxy.resolver import open_resolver
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey


class RunningNode:
    """An exit node at work. Raises `UserError`s at construction when it cannot listen.

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
            ),
        )
        self.addresses = [self.host.listen(address) for address in config.listen]
        """Where it listens, ports chosen."""
        ports = frozenset(port for address in self.addresses if (port := address.tcp_port) is not None)
        self._policy = Policy(allow=config.allow, deny=config.deny, own_ports=ports)
        self._judged_with: tuple[frozenset[Address], frozenset[Address]] = (frozenset(), frozenset())
        """This machine's addresses and those that peers see, as the policy has them; compared as objects."""
        self._state = StateService(loop, config.grace, config.name or "", config.tags, time.process_time)
        self.host.handle(STATE_PROTOCOL, self._state.serve)
        self._exit = ExitNode(loop, self.host, self._resolver, self._judge, emit, self._state)
        self.discovery = NodeDiscovery(loop, self.host, config, network_key, identity, emit, state, warn)

    @property
    def reachable_at(self) -> list[Multiaddr]:
        """Every address of this node, with its peer ID."""
        return [address.with_peer(self.host.peer_id) for address in self.host.listen_addresses]

    @property
    def active(self) -> int:
        """Requests being carried."""
        return self._exit.active

    @property
    def exit(self) -> ExitNode:
        """What carries members' requests."""
        return self._exit

    @property
    def draining(self) -> bool:
        """Whether no new requests are taken."""
        return self._state.draining

    def reload(self, config: NodeConfig) -> list[str]:
        """Obey `config` from now on; no connection is dropped. What has changed, a line each.

        Raises ConfigError when it cannot be obeyed; then nothing has changed.
        """
        before = self.config
        self.discovery.configure(config)
        self._policy = dataclasses.replace(self._policy, allow=config.allow, deny=config.deny)
        self._state.describe(config.grace, config.name or "", config.tags)
        self.config = config
        return _differences(before, config)

    def drain(self) -> None:
        """Take no new links and requests; tell the members."""
        self.host.stop_listening()
        self._state.drain()

    def idle_for(self, seconds: float) -> bool:
        """Whether no request has moved a byte for `seconds`."""
        return self._exit.idle_for(seconds)

    async def close(self) -> None:
        """End everything."""
        self._state.close()
        await self.discovery.close()
        await self._exit.close()
        await self.host.close()
        await self._resolver.close()

    def _judge(self, address: Address, port: int) -> str | None:
        own, seen_at = self._own.current(self._loop.time()), self.host.observed.believed
        if self._judged_with[0] is not own or self._judged_with[1] is not seen_at:
            self._judged_with = (own, seen_at)
            self._policy = dataclasses.replace(self._policy, own_addresses=own | seen_at)
        denial = self._policy.judge(address, port)
        return None if denial is None else denial.reason


_OBEYED = ("allow", "deny", "grace", "name", "tags", "discovery", "peers")
_AT_START = ("listen", "key", "identity", "resolver", "log", "relay_mode", "connect_relay")


def _differences(before: NodeConfig, after: NodeConfig) -> list[str]:
    """What has changed, and what will only at the next start."""
    was, now = dict(before), dict(after)
    lines = [f"{field}: changed" for field in _OBEYED if was[field] != now[field]]
    return lines + [
        f"{field}: changed, but a restart is needed for it" for field in _AT_START if was[field] != now[field]
    ]
