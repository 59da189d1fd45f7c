"""`bethrou-client connect`: from client.yaml and options to a client at work, and to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from bethrou.assembly import keyfiles
from bethrou.assembly.running_client import RunningClient
from bethrou.cli.control_endpoint import take_state
from bethrou.cli.control_of_client import ControlOfClient
from bethrou.cli.lifecycle import STOP_SIGNALS, WITH_HANGUP, Signals, on_terminal
from bethrou.cli.own_files import OwnFiles
from bethrou.cli.process import prepare_cipher, run_loop
from bethrou.cli.redis_check import check_redis
from bethrou.cli.serving import serve_until_stopped
from bethrou.cli.state_dir import StateChoice, StateDirectory
from bethrou.config import ClientConfig, HostPort, load_client_config
from bethrou.errors import AddressError, ConfigError
from bethrou.net.addresses import endpoint
from bethrou.ops import logs
from bethrou.ops.event_feed import EventFeed
from bethrou.ops.log_events import CLIENT_WORDS, EventLog
from bethrou.printable import printable
from bethrou.proxy.rules import warnings
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey


def start_client(path: str, options: Mapping[str, Any], choice: StateChoice) -> NoReturn:
    """Run a client with the configuration at `path` until it is stopped. Raises UserErrors.

    `options` (keys as ClientOptions' fields) take the place of what the file says. `choice`: where its state is.
    """

    def read() -> ClientConfig:
        return read_config(path, options)

    config = read()
    log = logs.configure(config.log.level, config.log.format, config.log.hide_destinations)
    prepare_cipher(log)
    key_path = config.key or keyfiles.find_network_key()
    key = keyfiles.read_network_key(key_path, log)
    state = take_state(choice, "client", log)
    files = OwnFiles.at(path, key_path, config.identity)
    identity = keyfiles.client_identity(config.identity, config.operator is not None, log)
    run_loop(lambda: _serve(config, Path(path), read, key, identity, files, state, log))


def read_config(path: str, options: Mapping[str, Any]) -> ClientConfig:
    """The configuration at `path`, with `options` in the place of what it says. Raises ConfigError."""
    config = load_client_config(path, options)
    _check_addresses(config, printable(path))
    check_redis(config.discovery, f"{printable(path)}: ")
    return config


async def _serve(
    config: ClientConfig,
    path: Path,
    read: Callable[[], ClientConfig],
    key: NetworkKey,
    identity: Identity,
    files: OwnFiles,
    state: StateDirectory | None,
    log: logs.Logger,
) -> None:
    loop = asyncio.get_running_loop()
    signals = Signals(loop, WITH_HANGUP if on_terminal() else STOP_SIGNALS)
    feed = EventFeed(EventLog(log, CLIENT_WORDS, time.monotonic, config.log.hide_destinations))
    client = RunningClient(
        loop,
        config,
        key,
        identity,
        feed,
        state.path if state is not None else None,
        log.warning,
    )
    control = ControlOfClient(loop, client, key.fingerprint, feed, signals.stop, read, files)

    def stopping() -> None:
        log.info(
            "stopping: no new connections, live ones may finish",
            connections=client.active,
            grace=client.config.grace,
        )

    await serve_until_stopped(
        client,
        control,
        feed,
        signals,
        state,
        log,
        path=path,
        words=describe_client(client.socks_address, config, key),
        warnings=warnings(config.rules),
        ready=f"SOCKS5 on {HostPort(*client.socks_address)}",
        stopping=stopping,
    )


def describe_client(socks_address: tuple[str, int], config: ClientConfig, key: NetworkKey) -> str:
    """What a user needs to know of a client that has started."""
    return (
        f"SOCKS5 on {HostPort(*socks_address)}, through {_exits(config)} ({config.routing.strategy.value})\n"
        f"in the private network {key.fingerprint}"
    )


def _exits(config: ClientConfig) -> str:
    count = len(config.nodes)
    named = f"{count} exit node{'' if count == 1 else 's'}"
    if not config.discovery.enabled:
        return named
    return f"{named} and those found through Redis" if count else "the exit nodes found through Redis"


def _check_addresses(config: ClientConfig, path: str) -> None:
    """Refuse an exit none of whose addresses can be dialled."""
    for index, entry in enumerate(config.nodes):
        reasons = [reason for address in entry.ways if (reason := _why_not_dialled(address))]
        if len(reasons) == len(entry.ways):
            raise ConfigError(f"{path}: nodes[{index}].{'addrs' if entry.addrs else 'relay'}: {reasons[0]}")


def _why_not_dialled(address: Multiaddr) -> str | None:
    try:
        endpoint(address.relay or address)
    except AddressError as error:
        return str(error)
    return None
