"""`bethrou-node start`: from options to a node at work, and to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from bethrou.cli import keyfiles
from bethrou.cli.control_endpoint import ControlEndpoint, take_state
from bethrou.cli.control_of_node import ControlOfNode
from bethrou.cli.lifecycle import Signals, drain_and_close
from bethrou.cli.process import prepare_cipher, run_loop, settle
from bethrou.cli.running_node import RunningNode
from bethrou.cli.said import say
from bethrou.cli.state_dir import StateChoice, StateDirectory
from bethrou.config import NodeConfig, node_config
from bethrou.errors import AddressError, ConfigError
from bethrou.net.addresses import is_loopback, tcp_endpoint
from bethrou.ops import logs
from bethrou.ops.event_feed import EventFeed
from bethrou.ops.log_events import NODE_WORDS, EventLog
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey


def start_node(options: Mapping[str, Any], choice: StateChoice) -> NoReturn:
    """Run a node with `options` (keys as NodeConfig's fields) until it is stopped. Raises UserErrors.

    `choice`: where its state is.
    """
    config = node_config(options)
    _refuse_later_features(config)
    _check_addresses(config)
    log = logs.configure(config.log.level, config.log.format, config.log.hide_destinations)
    prepare_cipher(log)
    key = keyfiles.load_network_key(config.key, log)
    state = take_state(choice, "node", log)
    identity = keyfiles.load_or_create_identity(config.identity, log)
    run_loop(lambda: _serve(config, key, identity, state, log))


async def _serve(
    config: NodeConfig, key: NetworkKey, identity: Identity, state: StateDirectory | None, log: logs.Logger
) -> None:
    loop = asyncio.get_running_loop()
    signals = Signals(loop)
    feed = EventFeed(EventLog(log, NODE_WORDS, time.monotonic, config.log.hide_destinations))
    node = RunningNode(loop, config, key, identity, feed)
    control = ControlOfNode(loop, node, key.fingerprint, feed)
    endpoint = ControlEndpoint.offer(loop, state, control, feed, log)
    say(describe_node(node.reachable_at, identity, key))
    settle()
    await signals.first.wait()
    log.info("stopping: no new requests, live ones may finish", requests=node.active, grace=config.grace)
    await drain_and_close(node, config.grace, signals)
    if endpoint is not None:
        await endpoint.close()
    log.info("stopped")
    log.flush()


def describe_node(addresses: list[Multiaddr], identity: Identity, key: NetworkKey) -> str:
    """What a user needs to know of a node that has started, ready to paste into client.yaml."""
    lines = [
        f"Exit node {identity.peer_id}",
        f"in the private network {key.fingerprint}",
        "Clients find it with this in client.yaml:",
        "nodes:",
        f"  - id: {identity.peer_id}",
        "    addrs:",
    ]
    for address in sorted(addresses, key=is_loopback):
        note = "  # from this machine only" if is_loopback(address) else ""
        lines.append(f"      - {address}{note}")
    return "\n".join(lines)


def _check_addresses(config: NodeConfig) -> None:
    """Refuse addresses of other transports before anything is written."""
    for option, addresses in (("--listen", config.listen), ("--peer", config.peers)):
        for address in addresses:
            try:
                tcp_endpoint(address)
            except AddressError as error:
                raise ConfigError(f"{option}: {error}") from None


def _refuse_later_features(config: NodeConfig) -> None:
    later = "comes in a later version of Bethrou for Python"
    if config.discovery.enabled:
        raise ConfigError(
            f"--discover: discovery through Redis {later}; leave it out and name this node's address in client.yaml"
        )
    if config.relay_mode:
        raise ConfigError(f"--relay-mode: relaying for other members {later}; leave it out")
    if config.connect_relay:
        raise ConfigError(
            f"--connect-relay: being reached through a relay {later}; leave it out and open a port for --listen"
        )
