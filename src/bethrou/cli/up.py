"""`bethrou up`: a whole private network on this machine, an exit node and a client, in one process.

One process because nothing of it can be left behind then, whatever ends it, and because a first look at the product
needs no second core. The two sides meet over loopback TCP, as they do between machines.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bethrou.assembly import keyfiles
from bethrou.assembly.running_client import RunningClient
from bethrou.assembly.running_node import RunningNode
from bethrou.cli.control_endpoint import ControlEndpoint
from bethrou.cli.control_of_client import ControlOfClient
from bethrou.cli.lifecycle import WITH_HANGUP, Signals, drain_and_close
from bethrou.cli.own_files import OwnFiles
from bethrou.cli.process import prepare_cipher, run_loop, settle
from bethrou.cli.said import say
from bethrou.cli.state_dir import StateChoice, StateDirectory, usual_base
from bethrou.config import ClientConfig, HostPort, LogLevel, NodeConfig, node_config, parse_listen
from bethrou.config.load import check
from bethrou.errors import ConfigError, UserError
from bethrou.events import Event, LinkClosed, LinkOpened, RequestEnded
from bethrou.ops import logs
from bethrou.ops.event_feed import EventFeed
from bethrou.ops.log_events import CLIENT_WORDS, NODE_WORDS, EventLog
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey

READY_TIMEOUT = 15.0
"""Seconds after which it is said that the exit is still not there."""

GRACE = 30.0
"""Seconds for live connections after SIGTERM; Ctrl-C and a closed terminal have less."""

_TOLD_BY_THE_CLIENT = (RequestEnded, LinkOpened, LinkClosed)


@dataclass(frozen=True)
class UpOptions:
    """The options of `bethrou up`, as they were given."""

    socks: str = "127.0.0.1:1080"
    directory: str | None = None
    allow: Sequence[str] = ()
    open_to_all: bool = False
    log: Mapping[str, str | bool] | None = None


def start_up(options: UpOptions) -> NoReturn:
    """Run node and client until they are stopped. Raises UserErrors."""
    try:
        listen = parse_listen(options.socks)
    except UserError as error:
        raise ConfigError(f"--socks: {error}") from None
    if not (listen.is_loopback or options.open_to_all):
        raise ConfigError(
            f"--socks: {listen} can be reached from other machines, and everybody who reaches it would get in: "
            "choose a port of 127.0.0.1, or add --open"
        )
    config = node_config(
        {"listen": ["/ip4/127.0.0.1/tcp/0"], "allow": options.allow, "log": options.log or {}, "grace": GRACE}
    )
    log = logs.configure(config.log.level, config.log.format, config.log.hide_destinations)
    prepare_cipher(log)
    directory = StateDirectory.open(StateChoice(options.directory or str(usual_base() / "up")), "up")
    key_path = directory.path / "network.key"
    network = _Network(
        directory,
        keyfiles.load_or_create_network_key(key_path, log),
        keyfiles.load_or_create_identity(directory.path / "node.key", log),
        config,
        listen,
        log,
    )
    run_loop(network.serve)


class _Network:
    """Everything that `up` starts."""

    def __init__(
        self,
        directory: StateDirectory,
        key: NetworkKey,
        identity: Identity,
        config: NodeConfig,
        listen: HostPort,
        log: logs.Logger,
    ) -> None:
        self._directory = directory
        self._key = key
        self._identity = identity
        self._config = config
        self._listen = listen
        self._log = log

    async def serve(self) -> None:
        """Run until a signal comes, and the time it takes to stop."""
        loop = asyncio.get_running_loop()
        signals = Signals(loop, WITH_HANGUP)
        say(f"Starting a private network: exit node {self._identity.peer_id}")
        both, control, endpoint = self._start(loop, signals.stop)
        announcing = loop.create_task(self._announce(both.client), name="announce")
        settle()
        await signals.first.wait()
        announcing.cancel()
        self._log.info("stopping", connections=both.active)
        await drain_and_close(both, self._config.grace, signals)
        await control.close()
        if endpoint is not None:
            await endpoint.close()
        self._directory.release()
        say("Stopped; the keys are kept.")

    def _start(
        self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]
    ) -> tuple[_Both, ControlOfClient, ControlEndpoint | None]:
        hide = self._config.log.hide_destinations
        of_node = EventLog(self._log, NODE_WORDS, time.monotonic, hide)
        of_client = EventFeed(EventLog(self._log, CLIENT_WORDS, time.monotonic, hide))

        def tell_of_node(event: Event) -> None:
            if self._config.log.level is LogLevel.DEBUG or not isinstance(event, _TOLD_BY_THE_CLIENT):
                of_node(event)

        node = RunningNode(loop, self._config, self._key, self._identity, tell_of_node)
        config = self._client_config(node)
        try:
            client = RunningClient(loop, config, self._key, Identity.generate(os.urandom), of_client)
        except UserError as error:
            raise ConfigError(f"--socks: {error}; choose another HOST:PORT") from None
        self._write_client_yaml(node)
        files = OwnFiles.at(key=self._directory.path / "network.key")
        control = ControlOfClient(loop, client, self._key.fingerprint, of_client, stop, files=files)
        endpoint = ControlEndpoint.offer(loop, self._directory, control, of_client, self._log)
        return _Both(node, client), control, endpoint

    def _client_config(self, node: RunningNode) -> ClientConfig:
        data = {
            "server": {"listen": self._listen, "open": True},
            "nodes": [{"id": str(self._identity.peer_id), "addrs": node.reachable_at}],
            "log": self._config.log,
            "grace": self._config.grace,
        }
        return check(ClientConfig, data, "")

    def _write_client_yaml(self, node: RunningNode) -> None:
        """For another client on this machine, and as a pattern for a real one."""
        other = HostPort("127.0.0.1", self._listen.port + 1 if 0 < self._listen.port < 65535 else 1081)
        path = self._directory.path / "client.yaml"
        lines = [
            "# Written by `bethrou up` at each start: to change something, work on a copy. While `up` runs:",
            f"#   {_command('bethrou-client')} connect --config {printable(shlex.quote(str(path)))}",
            f"key: {json.dumps(str(self._directory.path / 'network.key'), ensure_ascii=False)}",
            "server:",
            f'  listen: "{other}"  # up itself has {self._listen}',
            "nodes:",
            f"  - id: {self._identity.peer_id}",
            "    addrs:",
            *(f"      - {address}" for address in node.reachable_at),
        ]
        keyfiles.write_file(path, "\n".join(lines).encode() + b"\n")

    async def _announce(self, client: RunningClient) -> None:
        """Say how to use it as soon as it can be used."""
        if not await client.core.pool.wait_for_exit(READY_TIMEOUT):
            self._log.error("the exit node on this machine did not come up; the lines above say why")
            return
        say(how_to_use(client.socks_address, self._directory.path, _command("bethrou-client")))


@dataclass(frozen=True)
class _Both:
    """Node and client as one thing that stops."""

    node: RunningNode
    client: RunningClient

    @property
    def active(self) -> int:
        return self.client.active + self.node.active

    def drain(self) -> None:
        self.client.drain()
        self.node.drain()

    def idle_for(self, seconds: float) -> bool:
        return self.client.idle_for(seconds) and self.node.idle_for(seconds)

    async def close(self) -> None:
        await self.client.close()
        await self.node.close()


def how_to_use(socks_address: tuple[str, int], directory: Path, client: str) -> str:
    """What to type next; `client` is how the client's program is called here."""
    host, port = socks_address
    address = HostPort({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    key = shlex.quote(str(directory / "network.key"))
    return f"""\
It is up. In another terminal:

  curl -x socks5h://{address} https://example.com/

  git, pip, npm, wget  export http_proxy=http://{address} https_proxy=http://{address}
  ssh                  ssh -o ProxyCommand='nc -X 5 -x {address} %h %p' HOST
  browsers             automatic proxy configuration: http://{address}/proxy.pac
  Docker               docker run --network host -e https_proxy=http://{address} IMAGE

Names are looked up, and connections leave, at the exit node: now on this machine, next on a server of yours.
  1. Install Bethrou there, and copy {key} to it.
  2. There:  bethrou-node start --key network.key
  3. Here:   put the lines that it prints into a client.yaml, then
             {client} connect --config client.yaml --key {key}

Ctrl-C stops both."""


def _command(name: str) -> str:
    """How the user can call one of our programs: by its name, or where it lies beside Python."""
    return name if shutil.which(name) else shlex.quote(str(Path(sys.executable).with_name(name)))
