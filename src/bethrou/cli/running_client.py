"""A client put together from its configuration: host, discovery, pool, router, SOCKS server."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bethrou.cli.client_discovery import ClientDiscovery
from bethrou.cli.link_events import AGENT, host_events
from bethrou.cli.quantities import counted
from bethrou.config import Action, ClientConfig, ResolverChoice
from bethrou.errors import ConfigError
from bethrou.events import Emit
from bethrou.net.autonat import Autonat
from bethrou.net.dcutr import Dcutr
from bethrou.net.host import Host, HostConfig
from bethrou.net.listener import open_listening_socket
from bethrou.net.network_watch import NetworkWatch
from bethrou.proxy.pool import Pool
from bethrou.proxy.router import Router
from bethrou.proxy.socks_server import Access, SocksServer
from bethrou.snapshots import ConnectionSnapshot
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

_ANY_PORT = Multiaddr.parse("/ip4/0.0.0.0/tcp/0")
"""Where a client listens: only those with whom it punches a hole are told."""


class RunningClient:
    """A client at work. Raises `UserError`s at construction when it cannot listen.

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
        self.config = config
        """As it is obeyed now."""
        rng = random.Random(os.urandom(16))
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
                dial_from_listening_port=config.punch,
                tells_addresses=False,
            ),
        )
        self.pool = Pool(
            loop,
            self.host,
            emit,
            rng,
            config.routing.pool,
            self._reached,
        )
        self.discovery = ClientDiscovery(loop, self.host, network_key, self.pool, rng, emit, state, warn)
        self.router = Router(loop, self.pool, config.routing, config.rules, rng)
        self._socks = SocksServer(
            loop,
            self.router,
            _access(config),
            emit,
            randbytes=rng.randbytes,  # names of requests in two logs: nothing depends on them
            scratch=self.host.buffers.socket,
            half_close_wait=config.half_close_wait,
        )
        self.draining = False
        """Whether no new applications are taken."""
        sock = open_listening_socket(config.server.listen.host, config.server.listen.port)
        self.socks_address: tuple[str, int] = sock.getsockname()[:2]
        """Where applications connect, port chosen."""
        try:
            self.discovery.start(config)
        except ConfigError:
            sock.close()
            raise
        self._allow_direct(config)
        self._socks.listen(sock)
        self._watch = NetworkWatch(loop, self.pool.network_changed)
        if config.punch:
            self.host.listen(_ANY_PORT)
        self._dcutr = Dcutr(self.host, time.perf_counter)
        self.autonat = Autonat(self.host, os.urandom, rng)
        """Finds out where this client can be reached."""
        self.pool.start()

    @property
    def active(self) -> int:
        """Applications' connections alive."""
        return len(self._socks.connections)

    def connections(self) -> Sequence[ConnectionSnapshot]:
        """Applications' connections that have said where they want to go."""
        return self._socks.snapshots()

    def close_connection(self, identifier: str) -> bool:
        """End the application's connection whose request has this ID. Whether there was one."""
        return self._socks.close_connection(identifier)

    def reload(self, config: ClientConfig) -> list[str]:
        """Obey `config` from now on; no connection is dropped. What has changed, a line each.

        Raises ConfigError when it cannot be obeyed; then nothing has changed.
        """
        before = self.config
        self.discovery.configure(config)
        self._allow_direct(config)
        self.router.configure(config.routing, config.rules)
        self.pool.resize(config.routing.pool)
        self._socks.access = _access(config)
        self._socks.half_close_wait = config.half_close_wait
        self.config = config
        return _differences(before, config)

    def _reached(self, peer: PeerId, address: Multiaddr) -> None:
        self.discovery.note_good(peer, address)

    def drain(self) -> None:
        """Take no new applications."""
        self.draining = True
        self._socks.stop_listening()

    def idle_for(self, seconds: float) -> bool:
        """Whether no connection has moved a byte for `seconds`."""
        return self._socks.idle_for(seconds)

    async def close(self) -> None:
        """End everything."""
        self._watch.close()
        await self._socks.close()
        self.router.close()
        if self._socks.direct is not None:
            await self._socks.direct.close()
        await self.discovery.close()
        await self.pool.close()
        await self._dcutr.close()
        await self.autonat.close()
        await self.host.close()

    def _allow_direct(self, config: ClientConfig) -> None:
        """Be able to dial destinations from here if a rule says so. What looks names up is loaded only then."""
        if self._socks.direct is not None or all(
            rule.use.action is not Action.DIRECT for rule in config.rules
        ):
            return
        from bethrou.proxy.direct import DirectDialer
        from bethrou.proxy.resolver import open_resolver

        resolver = open_resolver(ResolverChoice(system=True), self._loop.time)
        self._socks.direct = DirectDialer(self._loop, resolver)


def _access(config: ClientConfig) -> Access:
    return Access({name: secret.get_secret_value() for name, secret in config.server.credentials.items()})


_AT_START = ("key", "log", "punch")


def _differences(before: ClientConfig, after: ClientConfig) -> list[str]:
    """What has changed, and what will only at the next start."""
    lines = []
    if before.nodes != after.nodes:
        old, new = ({entry.peer_id for entry in config.nodes} for config in (before, after))
        lines.append(f"nodes: {len(new - old)} new, {len(old - new)} gone, {len(new)} in all")
    for field in ("strategy", "pool", "wait", "timeout", "sticky_by"):
        was, now = dict(before.routing)[field], dict(after.routing)[field]
        if was != now:
            lines.append(f"routing.{field}: {was} -> {now}")
    if before.rules != after.rules:
        count, former = len(after.rules), len(before.rules)
        lines.append(
            f"rules: {count} instead of {former}" if count != former else f"rules: {count}, not the same"
        )
    if before.server.credentials != after.server.credentials:
        lines.append(f"server: {counted(len(after.server.credentials), 'user')}")
    lines += [
        f"{field}: changed"
        for field in ("discovery", "half_close_wait", "grace", "watch")
        if dict(before)[field] != dict(after)[field]
    ]
    lines += [
        f"{field}: changed, but a restart is needed for it"
        for field in _AT_START
        if dict(before)[field] != dict(after)[field]
    ]
    if (before.server.listen, before.server.open) != (after.server.listen, after.server.open):
        lines.append("server.listen: changed, but a restart is needed for it")
    return lines
