"""`bethrou-node start`: from options to a node at work, and to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bethrou.assembly import keyfiles
from bethrou.assembly.running_node import RunningNode
from bethrou.cli.control_endpoint import take_state
from bethrou.cli.control_of_node import ControlOfNode
from bethrou.cli.lifecycle import STOP_SIGNALS, WITH_HANGUP, Signals, on_terminal
from bethrou.cli.own_files import OwnFiles
from bethrou.cli.process import prepare_cipher, run_loop
from bethrou.cli.redis_check import check_redis
from bethrou.cli.serving import serve_until_stopped
from bethrou.cli.state_dir import StateChoice, StateDirectory
from bethrou.config import MemberPolicy, NodeConfig, load_node_config
from bethrou.errors import AddressError, ConfigError
from bethrou.events import Emit, Event
from bethrou.net.addresses import endpoint, is_loopback
from bethrou.ops import logs
from bethrou.ops.audit_log import AuditLog
from bethrou.ops.event_feed import EventFeed
from bethrou.ops.log_events import NODE_WORDS, EventLog
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey


def start_node(path: str | None, options: Mapping[str, Any], choice: StateChoice) -> NoReturn:
    """Run a node until it is stopped. Raises UserErrors.

    `path`: its node.yaml, if it has one; `options` (keys as NodeConfig's fields) take the place of what that says.
    `choice`: where its state is.
    """

    def read() -> NodeConfig:
        return read_config(path, options)

    config = read()
    log = logs.configure(config.log.level, config.log.format, config.log.hide_destinations)
    prepare_cipher(log)
    key_path = config.key or keyfiles.find_network_key()
    key = keyfiles.read_network_key(key_path, log)
    state = take_state(choice, "node", log)
    identity = keyfiles.load_or_create_identity(config.identity, log)
    file = ConfigFile(Path(path), read) if path is not None else None
    files = OwnFiles.at(path, key_path, config.identity)
    run_loop(lambda: _serve(config, file, key, identity, files, state, log))


def read_config(path: str | None, options: Mapping[str, Any]) -> NodeConfig:
    """The options, over the node.yaml at `path` if there is one. Raises ConfigError."""
    config = load_node_config(path, options)
    _check_addresses(config)
    check_redis(config.discovery, f"{printable(path)}: " if path is not None else "--discover-address: ")
    return config


@dataclass(frozen=True)
class ConfigFile:
    """Where the configuration is, and how it is read anew."""

    path: Path
    read: Callable[[], NodeConfig]


async def _serve(
    config: NodeConfig,
    file: ConfigFile | None,
    key: NetworkKey,
    identity: Identity,
    files: OwnFiles,
    state: StateDirectory | None,
    log: logs.Logger,
) -> None:
    loop = asyncio.get_running_loop()
    signals = Signals(loop, WITH_HANGUP if on_terminal() else STOP_SIGNALS)
    feed = EventFeed(EventLog(log, NODE_WORDS, time.monotonic, config.log.hide_destinations))
    if config.operator is not None:
        feed.subscribe(_audit(config.identity, log))
    node = RunningNode(
        loop, config, key, identity, feed, state.path if state is not None else None, log.warning
    )
    control = ControlOfNode(
        loop, node, key.fingerprint, feed, signals.stop, file.read if file is not None else None, files
    )
    members_only = config.members is MemberPolicy.REQUIRED

    def stopping() -> None:
        grace = node.config.grace
        log.info("stopping: no new requests, live ones may finish", requests=node.active, grace=grace)

    await serve_until_stopped(
        node,
        control,
        feed,
        signals,
        state,
        log,
        path=file.path if file is not None else None,
        words=describe_node(
            node.reachable_at, identity, key, is_exit=not config.no_exit, members_only=members_only
        ),
        ready="listening on " + ", ".join(map(str, node.addresses)),
        stopping=stopping,
    )


def _audit(identity: Path, log: logs.Logger) -> Emit:
    """What writes changes of who belongs to the network to the audit log beside the node's identity."""
    audit = AuditLog(identity.with_suffix(".audit.log"))

    def note(event: Event) -> None:
        try:
            audit.note(event)
        except ConfigError as error:
            log.error("audit log cannot be written", reason=str(error))

    return note


def describe_node(
    addresses: list[Multiaddr],
    identity: Identity,
    key: NetworkKey,
    *,
    is_exit: bool = True,
    members_only: bool = False,
) -> str:
    """What a user needs to know of a node that has started, ready to paste into client.yaml."""
    if members_only:
        lines = [
            f"{'Exit' if is_exit else 'Relay'} node {identity.peer_id}",
            f"in the private network {key.fingerprint}, for members of its list only",
            "Devices join by a link: bethrou invite. It can be reached at",
        ]
        return "\n".join([*lines, *(f"  - {line}" for line in _address_lines(addresses))])
    if not is_exit:
        return _describe_relay(addresses, identity, key)
    lines = [
        f"Exit node {identity.peer_id}",
        f"in the private network {key.fingerprint}",
        "Clients find it with this in client.yaml:",
        "nodes:",
        f"  - id: {identity.peer_id}",
        "    addrs:",
    ]
    lines += [f"      - {line}" for line in _address_lines(addresses)]
    return "\n".join(lines)


def _describe_relay(addresses: list[Multiaddr], identity: Identity, key: NetworkKey) -> str:
    lines = [
        f"Relay node {identity.peer_id}",
        f"in the private network {key.fingerprint}",
        "Nodes are reached through it with this in node.yaml:",
        "connect_relay:",
    ]
    lines += [f"  - {line}" for line in _address_lines(addresses)]
    return "\n".join(lines)


def _address_lines(addresses: list[Multiaddr]) -> list[str]:
    near = "  # from this machine only"
    return [
        f"{address}{near if is_loopback(address) else ''}" for address in sorted(addresses, key=is_loopback)
    ]


def _check_addresses(config: NodeConfig) -> None:
    """Refuse addresses of other transports before anything is written."""
    given = (
        ("--listen", config.listen),
        ("--announce", config.announce),
        ("--peer", config.peers),
        ("--connect-relay", config.connect_relay),
    )
    for option, addresses in given:
        for address in addresses:
            try:
                endpoint(address)
            except AddressError as error:
                raise ConfigError(f"{option}: {error}") from None
