"""A client without a door for applications: host, discovery, pool, router.

Whoever has one can have requests carried.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bethrou.assembly.client_discovery import ClientDiscovery
from bethrou.assembly.link_events import AGENT, host_events
from bethrou.config import Action, ClientConfig, ResolverChoice
from bethrou.events import Emit
from bethrou.net.autonat import Autonat
from bethrou.net.dcutr import Dcutr
from bethrou.net.host import Host, HostConfig
from bethrou.net.network_watch import NetworkWatch
from bethrou.net.tls import TlsIdentity
from bethrou.proxy.carrier import Carrier
from bethrou.proxy.pool import Pool
from bethrou.proxy.router import Router
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

if TYPE_CHECKING:  # what few clients need
    from bethrou.assembly.membership_parts import MembershipParts

_ANY_PORT = Multiaddr.parse("/ip4/0.0.0.0/tcp/0")
"""Where a client listens: only those with whom it punches a hole are told."""


class ClientCore:
    """Links to exits, and a router that chooses among them. Raises `UserError`s at construction.

    `state` is the directory in which it remembers which exits worked; `warn` takes a line about trouble with that.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: ClientConfig,
        network_key: NetworkKey,
        identity: Identity,
        emit: Emit,
        state: Path | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._loop = loop
        self.rng = random.Random(os.urandom(16))
        """For what is spread or chosen by chance."""
        punches = config.punch and config.proxy is None
        self._tls = TlsIdentity(ca=config.tls_ca)
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
                dial_from_listening_port=punches,
                proxy=config.proxy,
                tells_addresses=False,
                security=config.security,
                tls=self._tls,
            ),
        )
        self.membership: MembershipParts | None = None
        """The member list, if there is an operator."""
        if config.operator is not None and config.identity is not None:
            from bethrou.assembly.membership_parts import MembershipParts

            self.membership = MembershipParts(
                loop, self.host, network_key, config.operator, config.members, config.identity, emit
            )
        self.pool = Pool(loop, self.host, emit, self.rng, config.routing.pool, self._reached)
        self.discovery = ClientDiscovery(loop, self.host, network_key, self.pool, self.rng, emit, state, warn)
        self.router = Router(loop, self.pool, config.routing, config.rules, self.rng)
        self.carrier = Carrier(
            loop,
            self.router,
            emit,
            randbytes=self.rng.randbytes,  # names of requests in two logs: nothing depends on them
            scratch=self.host.buffers.socket,
            half_close_wait=config.half_close_wait,
        )
        """Carries requests out, whoever asks."""
        self.discovery.start(config)
        self._allow_direct(config)
        self._watch = NetworkWatch(loop, self.pool.network_changed)
        if punches:
            self.host.listen(_ANY_PORT)
        self.dcutr = Dcutr(self.host, time.perf_counter, emit) if punches else None
        """Replaces circuits; None: it is not to."""
        self.autonat = Autonat(self.host, os.urandom, self.rng)
        """Finds out where this client can be reached."""
        self.pool.start()

    def reload(self, config: ClientConfig) -> None:
        """Obey `config` from now on. Raises ConfigError when it cannot be obeyed; then nothing has changed."""
        self._tls.reload()
        self.discovery.configure(config)
        self._allow_direct(config)
        self.router.configure(config.routing, config.rules)
        self.pool.resize(config.routing.pool)
        self.carrier.half_close_wait = config.half_close_wait
        if self.membership is not None:
            self.membership.configure(config.members, ())

    async def close(self) -> None:
        """End everything; those whose requests are carried have ended theirs."""
        self._watch.close()
        self.router.close()
        if self.carrier.direct is not None:
            await self.carrier.direct.close()
        await self.discovery.close()
        await self.pool.close()
        if self.dcutr is not None:
            await self.dcutr.close()
        await self.autonat.close()
        if self.membership is not None:
            await self.membership.close()
        await self.host.close()

    def _reached(self, peer: PeerId, address: Multiaddr) -> None:
        self.discovery.note_good(peer, address)

    def _allow_direct(self, config: ClientConfig) -> None:
        """Be able to dial destinations from here if a rule says so. What looks names up is loaded only then."""
        if self.carrier.direct is not None or all(
            rule.use.action is not Action.DIRECT for rule in config.rules
        ):
            return
        from bethrou.proxy.direct import DirectDialer
        from bethrou.proxy.resolver import open_resolver

        resolver = open_resolver(ResolverChoice(system=True), self._loop.time)
        self.carrier.direct = DirectDialer(self._loop, resolver)
