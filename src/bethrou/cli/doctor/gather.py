"""From a running program, its files, ports and Redis to facts. All that takes time or may fail is here."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bethrou.assembly import keyfiles
from bethrou.cli.control_client import ControlClient
from bethrou.cli.doctor.facts import CLIENT, NODE, Facts, FileFact, PortFact, RedisFact
from bethrou.cli.doctor.ports import look_at_port
from bethrou.cli.instances import Wanted, find_running
from bethrou.config import ClientConfig, DiscoveryConfig, NodeConfig, parse_listen
from bethrou.config.fields import keys_of
from bethrou.config.load import MAX_FILE
from bethrou.config.yaml_text import read_yaml
from bethrou.errors import (
    AddressError,
    BethrouError,
    ConfigError,
    KeyFileError,
    LinkError,
    NotRunning,
    UserError,
)
from bethrou.printable import printable
from bethrou.snapshots import ConnectionSnapshot, ReachabilitySnapshot, StatusSnapshot
from bethrou.wire.multiaddr import Multiaddr

if TYPE_CHECKING:  # it brings redis-py
    from bethrou.discovery.redis_connection import RedisConnection

_USUAL_CONFIG = {CLIENT: "client.yaml", NODE: "node.yaml"}


@dataclass(frozen=True, slots=True)
class _Running:
    """What a running program says; nothing, where none runs."""

    client: ControlClient | None = None
    status: StatusSnapshot | None = None
    why_not: str = ""


def gather(wanted: Wanted, config_path: str | None) -> Facts:
    """Everything about the program that is `wanted`, with the configuration at `config_path` if one is named.

    Raises ConfigError where several programs run and none is named, and ControlErrors of one that does not answer.
    """
    if config_path is not None and not wanted.role:
        wanted = Wanted(wanted.choice, _role_by(Path(config_path)))
    running = _running(wanted)
    if running.status is None and not wanted.role:
        wanted = Wanted(wanted.choice, CLIENT)
        running = _running(wanted)  # for words about a client
    status = running.status
    role = status.role if status is not None else wanted.role
    path = config_path or _usual_path(status, role)
    config, error = _configuration(role, path)
    reach = None
    connections: list[ConnectionSnapshot] = []
    if running.client is not None and status is not None:
        reach = _reachability(running.client)
        connections = running.client.connections() if role == CLIENT else []
        status = running.client.status()  # links come and go while peers are asked
    return Facts(
        role=role,
        user=os.getuid(),
        config_path=printable(path),
        config=config,
        config_error=error,
        files=_files(role, path, config, status),
        status=status,
        not_running=running.why_not,
        reach=reach,
        connections=tuple(connections),
        ports=_ports(config, status),
        redis=_redis(config.discovery) if config is not None else None,
    )


# -- the running program ------------------------------------------------------------------------------------------


def _running(wanted: Wanted) -> _Running:
    try:
        client = find_running(wanted)
        return _Running(client, client.status())
    except NotRunning as error:
        return _Running(why_not=str(error).partition(":")[0])  # what follows is what to do


def _reachability(client: ControlClient) -> ReachabilitySnapshot | None:
    try:
        return client.reachability()
    except UserError:
        return None  # one of an older version, which has no such path


# -- configuration and files --------------------------------------------------------------------------------------


def _usual_path(status: StatusSnapshot | None, role: str) -> str:
    if status is not None:
        return status.config
    usual = _USUAL_CONFIG[role]
    return usual if role == CLIENT or os.path.lexists(usual) else ""


def _role_by(path: Path) -> str:
    """Whose configuration it is, by the keys that only one of the two has."""
    try:
        data = read_yaml(path.read_bytes()[:MAX_FILE].decode("utf-8-sig"))
    except (OSError, ValueError, ConfigError):
        data = None
    keys = set(data) if isinstance(data, dict) else set()
    of_client, of_node = set(keys_of(ClientConfig)), set(keys_of(NodeConfig))
    if keys & (of_node - of_client):
        return NODE
    return NODE if not keys & (of_client - of_node) and path.name.startswith(NODE) else CLIENT


def _configuration(role: str, path: str) -> tuple[ClientConfig | NodeConfig | None, str]:
    if not path:
        return None, ""
    try:
        if role == CLIENT:
            from bethrou.cli.start_client import read_config as read_client

            return read_client(path, {}), ""
        from bethrou.cli.start_node import read_config as read_node

        return read_node(path, {}), ""
    except UserError as error:
        return None, str(error)


def _files(
    role: str, path: str, config: ClientConfig | NodeConfig | None, status: StatusSnapshot | None
) -> tuple[FileFact, ...]:
    """The secrets on disk: those that the running program names, else those that it would use."""
    found: list[FileFact | None] = [_network_key(status.key if status is not None else "", config)]
    identity = (
        Path(status.identity) if status is not None and status.identity else _usual_identity(role, config)
    )
    if identity is not None:
        found.append(_identity(identity, status is not None))
    if config is not None and _has_secrets(config):
        found.append(_look("configuration with passwords", Path(path)))
    return tuple(each for each in found if each is not None)


def _usual_identity(role: str, config: ClientConfig | NodeConfig | None) -> Path | None:
    """Where a private key is by the configuration, or usually; None: a client has another one at each start."""
    if config is not None:
        return config.identity
    return Path("node.key") if role == NODE else None


def _network_key(told: str, config: ClientConfig | NodeConfig | None) -> FileFact:
    named = Path(told) if told else config.key if config is not None else None
    try:
        path = named if named is not None else keyfiles.find_network_key()
        return _look("network key", path, keyfiles.read_network_key(path).fingerprint)
    except KeyFileError as error:
        return FileFact("network key", printable(str(named or keyfiles.NETWORK_KEY_NAME)), str(error))


def _identity(path: Path, runs: bool) -> FileFact | None:
    if not runs and not os.path.lexists(path):
        return None  # the first start makes one
    try:
        keyfiles.read_identity(path)
    except KeyFileError as error:
        return FileFact("identity", printable(str(path)), str(error))
    return _look("identity", path)


def _look(what: str, path: Path, fingerprint: str = "") -> FileFact:
    shown = printable(str(path))
    try:
        status = path.stat()
    except OSError as error:
        return FileFact(what, shown, f"{shown}: cannot be looked at: {error.strerror}")
    return FileFact(what, shown, "", stat.S_IMODE(status.st_mode), status.st_uid, fingerprint)


def _has_secrets(config: ClientConfig | NodeConfig) -> bool:
    discovery = config.discovery
    in_address = discovery.address is not None and "@" in discovery.address.get_secret_value()
    if discovery.password is not None or in_address:
        return True
    return isinstance(config, ClientConfig) and bool(config.server.password or config.server.users)


# -- ports --------------------------------------------------------------------------------------------------------


def _ports(config: ClientConfig | NodeConfig | None, status: StatusSnapshot | None) -> tuple[PortFact, ...]:
    if status is not None:
        shown = status.listening
    elif isinstance(config, ClientConfig):
        shown = (str(config.server.listen),)
    else:
        shown = tuple(map(str, config.listen)) if config is not None else ()
    found = []
    for each in shown:
        host, port = _endpoint(each)
        if port:
            found.append(look_at_port(printable(each), host, port))
    return tuple(found)


def _endpoint(shown: str) -> tuple[str, int]:
    """Host and port of a multiaddr, or of HOST:PORT; port 0 where it has none."""
    try:
        if shown.startswith("/"):
            address = Multiaddr.parse(shown)
            return address.host or "", address.tcp_port or 0
        listen = parse_listen(shown)
    except (AddressError, ConfigError):
        return "", 0
    return listen.host, listen.port


# -- Redis --------------------------------------------------------------------------------------------------------


def _redis(config: DiscoveryConfig) -> RedisFact | None:
    if not config.enabled:
        return None
    return asyncio.run(_ask_redis(config))


async def _ask_redis(config: DiscoveryConfig) -> RedisFact:
    # loaded only by those who use it
    from bethrou.discovery.redis_address import redis_address
    from bethrou.discovery.redis_connection import RedisServer

    address = redis_address(config)
    where = f"Redis at {printable(str(address))}"
    started = time.perf_counter()
    try:
        connection = RedisServer(asyncio.get_running_loop(), address, config.ca).connection()
        try:
            await connection.open()
            await connection.carry_out("answer", "PING")
            seconds = time.perf_counter() - started
            return RedisFact(where, "", seconds, await _clock_of(connection))
        finally:
            await connection.end()
    except BethrouError as error:
        return RedisFact(where, str(error))


async def _clock_of(connection: RedisConnection) -> float | None:
    """How far Redis' clock is before ours; None where a member's rights do not reach so far."""
    before = time.time()
    try:
        seconds, microseconds = await connection.carry_out("tell the time", "TIME")
        theirs = int(seconds) + int(microseconds) / 1e6
    except (LinkError, TypeError, ValueError):
        return None
    return theirs - (before + time.time()) / 2
