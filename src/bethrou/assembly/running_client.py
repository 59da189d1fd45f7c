"""A client at work: its core, and a local port for applications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from bethrou.assembly.client_core import ClientCore
from bethrou.config import ClientConfig
from bethrou.errors import UserError
from bethrou.events import Emit
from bethrou.net.listener import open_listening_socket
from bethrou.proxy.access import Access
from bethrou.proxy.front_door import FrontDoor
from bethrou.quantities import counted
from bethrou.snapshots import ConnectionSnapshot
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey


class RunningClient:
    """A client for applications. Raises `UserError`s at construction when it cannot listen. `state`, `warn`: as in
    `ClientCore`.
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
        self.config = config
        """As it is obeyed now."""
        self.draining = False
        """Whether no new applications are taken."""
        sock = open_listening_socket(config.server.listen.host, config.server.listen.port)
        self.socks_address: tuple[str, int] = sock.getsockname()[:2]
        """Where applications connect, port chosen."""
        try:
            self.core = ClientCore(loop, config, network_key, identity, emit, state, warn)
        except UserError:
            sock.close()
            raise
        self._door = FrontDoor(loop, self.core.carrier, _access(config), emit)
        self._door.listen(sock)

    @property
    def active(self) -> int:
        """Applications' connections alive."""
        return len(self._door.connections)

    def connections(self) -> Sequence[ConnectionSnapshot]:
        """Applications' connections that have said where they want to go."""
        return self._door.snapshots()

    def close_connection(self, identifier: str) -> bool:
        """End the application's connection whose request has this ID. Whether there was one."""
        return self._door.close_connection(identifier)

    def reload(self, config: ClientConfig) -> list[str]:
        """Obey `config` from now on; no connection is dropped. What has changed, a line each.

        Raises ConfigError when it cannot be obeyed; then nothing has changed.
        """
        before = self.config
        self.core.reload(config)
        self._door.access = _access(config)
        self.config = config
        return _differences(before, config)

    def drain(self) -> None:
        """Take no new applications."""
        self.draining = True
        self._door.drain()

    def idle_for(self, seconds: float) -> bool:
        """Whether no connection has moved a byte for `seconds`."""
        return self._door.idle_for(seconds)

    async def close(self) -> None:
        """End everything."""
        await self._door.close()
        await self.core.close()


def _access(config: ClientConfig) -> Access:
    return Access({name: secret.get_secret_value() for name, secret in config.server.credentials.items()})


_AT_START = ("key", "identity", "operator", "log", "metrics", "punch", "security", "proxy", "tls_ca")


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
        for field in ("members", "discovery", "half_close_wait", "grace", "watch")
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
