"""A client put together from its configuration: host, pool, router, SOCKS server."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Collection

from bethrou.cli.link_events import AGENT, host_events
from bethrou.config import Action, ClientConfig, ExitEntry, ResolverChoice
from bethrou.events import Emit
from bethrou.net.host import Host, HostConfig
from bethrou.net.listener import open_listening_socket
from bethrou.proxy.exit import ExitAddress
from bethrou.proxy.pool import Pool
from bethrou.proxy.router import Router
from bethrou.proxy.socks_server import Access, SocksConnection, SocksServer
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey


class RunningClient:
    """A client at work. Raises `UserError`s at construction when it cannot listen."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: ClientConfig,
        network_key: NetworkKey,
        identity: Identity,
        emit: Emit,
    ) -> None:
        self._loop = loop
        sock = open_listening_socket(config.server.listen.host, config.server.listen.port)
        self.socks_address: tuple[str, int] = sock.getsockname()[:2]
        """Where applications connect, port chosen."""
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
            ),
        )
        self.pool = Pool(loop, self.host, emit, rng, config.routing.pool)
        self.pool.know(_exit_address(entry, place) for place, entry in enumerate(config.nodes))
        self._router = Router(loop, self.pool, config.routing, config.rules, rng)
        users = {name: secret.get_secret_value() for name, secret in config.server.credentials.items()}
        self._socks = SocksServer(
            loop,
            self._router,
            Access(users),
            emit,
            randbytes=os.urandom,
            scratch=self.host.buffers.socket,
            half_close_wait=config.half_close_wait,
        )
        if any(rule.use.action is Action.DIRECT for rule in config.rules):
            self._allow_direct()
        self._socks.listen(sock)
        self.draining = False
        """Whether no new applications are taken."""
        self.pool.start()

    @property
    def active(self) -> int:
        """Applications' connections alive."""
        return len(self._socks.connections)

    @property
    def connections(self) -> Collection[SocksConnection]:
        """Applications' connections alive."""
        return self._socks.connections

    def drain(self) -> None:
        """Take no new applications."""
        self.draining = True
        self._socks.stop_listening()

    def idle_for(self, seconds: float) -> bool:
        """Whether no connection has moved a byte for `seconds`."""
        return self._socks.idle_for(seconds)

    async def close(self) -> None:
        """End everything."""
        await self._socks.close()
        self._router.close()
        if self._socks.direct is not None:
            await self._socks.direct.close()
        await self.pool.close()
        await self.host.close()

    def _allow_direct(self) -> None:
        """Be able to dial destinations from here. The parts that look names up are loaded only now."""
        from bethrou.proxy.direct import DirectDialer
        from bethrou.proxy.resolver import open_resolver

        if self._socks.direct is None:
            resolver = open_resolver(ResolverChoice(system=True), self._loop.time)
            self._socks.direct = DirectDialer(self._loop, resolver)


def _exit_address(entry: ExitEntry, place: int) -> ExitAddress:
    return ExitAddress(entry.peer_id, entry.addrs, preference=place)
