"""The programs that are measured: how each is found, started and reached.

A peer is a server and a client; the client serves SOCKS5. Either may be missing: microsocks has no client,
a direct connection has neither.
"""

import contextlib
import os
import shutil
import subprocess
import time
from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from lab import Figures, Lab, Route
from processes import BenchError, Process

WARM_UP_CONNECTIONS = 50
FIRST_REQUEST_PATIENCE_S = 20.0


@dataclass
class Half:
    """One side of a peer, running."""

    port: int
    process: Process | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def pids(self) -> list[int]:
        return [self.process.pid] if self.process else []


class Peer(ABC):  # noqa: B024 - a direct connection needs neither half
    """A way to reach the target."""

    name = ""
    programs: tuple[str, ...] = ()
    package = ""

    def missing(self) -> list[str]:
        """The programs that are not installed."""
        return [program for program in self.programs if find_program(program) is None]

    def version(self) -> str:
        return ""

    def serve(self, lab: Lab) -> Half | None:
        """Starts the exit side and waits until it listens."""
        return None

    def connect(self, lab: Lab, server: Half, port: int) -> Half | None:
        """Starts the client side towards `port`, where the server is reached; does not wait."""
        return None


def find_program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")


def program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise BenchError(f"{name} is not installed")
    return found


def first_line(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return ((done.stdout + done.stderr).strip().splitlines() or [""])[0]


class Direct(Peer):
    name = "none"


class Microsocks(Peer):
    name = "microsocks"
    programs = ("microsocks",)
    package = "microsocks"

    def serve(self, lab: Lab) -> Half:
        port = lab.ports.free()
        process = lab.processes.start([program("microsocks"), "-i", "127.0.0.1", "-p", str(port)])
        process.wait_for_listener(port)
        return Half(port, process)


class Shadowsocks(Peer):
    name = "ss"
    programs = ("ss-server", "ss-local")
    package = "shadowsocks-libev"
    cipher = "chacha20-ietf-poly1305"

    def version(self) -> str:
        return f"{first_line([program('ss-server'), '-h'])}, {self.cipher}"

    def serve(self, lab: Lab) -> Half:
        port = lab.ports.free()
        process = lab.processes.start(
            [program("ss-server"), "-s", "127.0.0.1", "-p", str(port), *self._common()]
        )
        process.wait_for_listener(port)
        return Half(port, process)

    def connect(self, lab: Lab, server: Half, port: int) -> Half:
        local = lab.ports.free()
        here = ["-b", "127.0.0.1", "-l", str(local)]
        argv = [program("ss-local"), "-s", "127.0.0.1", "-p", str(port), *here, *self._common()]
        return Half(local, lab.processes.start(argv))

    def _common(self) -> list[str]:
        return ["-k", "bench", "-m", self.cipher, "-t", "600", "--no-delay"]


SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
LogLevel ERROR
"""


class Ssh(Peer):
    """ssh -D to an sshd of its own, with throw-away keys and every other setting at its default."""

    name = "ssh"
    programs = ("sshd", "ssh", "ssh-keygen")
    package = "openssh-server openssh-client"

    def version(self) -> str:
        return first_line([program("ssh"), "-V"])

    def serve(self, lab: Lab) -> Half:
        directory = Path(mkdtemp(prefix="ssh-", dir=lab.scratch))
        for key in ("host_key", "user_key"):
            argv = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
            subprocess.run(argv, check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        port = lab.ports.free()
        config = directory / "sshd_config"
        config.write_text(SSHD_CONFIG.format(port=port, directory=directory))
        process = lab.processes.start([program("sshd"), "-D", "-e", "-f", str(config)])
        process.wait_for_listener(port)
        return Half(port, process, {"key": str(directory / "user_key")})

    def connect(self, lab: Lab, server: Half, port: int) -> Half:
        local = lab.ports.free()
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "ExitOnForwardFailure": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
        }
        argv = [program("ssh"), "-F", "/dev/null", "-N", "-T", "-D", f"127.0.0.1:{local}"]
        for name, setting in options.items():
            argv += ["-o", f"{name}={setting}"]
        argv += ["-i", server.facts["key"], "-p", str(port), "127.0.0.1"]
        return Half(local, lab.processes.start(argv))


@dataclass
class Live:
    """A peer at work, as the load generator sees it."""

    peer: Peer
    lab: Lab
    proxy_port: int
    target_port: int
    target: Process
    started: list[Process]
    server: Half | None
    client: Half | None

    def run(self, tool: str, mode: str, *numbers: float, patience_s: float = 120.0) -> Figures:
        return self.lab.run(tool, mode, self.proxy_port, self.target_port, *numbers, patience_s=patience_s)

    def pids(self) -> list[int]:
        halves = [half for half in (self.server, self.client) if half]
        return [pid for half in halves for pid in half.pids()]

    def alive(self) -> bool:
        return all(process.alive() for process in self.started)

    def stop(self) -> None:
        self.lab.processes.stop(self.started)

    def await_first_request(self) -> float:
        """Tries until the target answered through this peer; returns when (CLOCK_MONOTONIC)."""
        figures = self.run("pathbench", "first", FIRST_REQUEST_PATIENCE_S, patience_s=60)
        if figures["errors"]:
            words = [process.last_words() for process in self.started]
            raise BenchError(f"{self.peer.name} serves nothing: {' | '.join(filter(None, words))}")
        return figures["served_at"]

    def warm_up(self) -> None:
        self.run("socksbench", "rate", WARM_UP_CONNECTIONS, 0.3)


def launch(peer: Peer, lab: Lab, route: Route | None = None) -> tuple[Live, float]:
    """Starts target, server and client, a delay proxy between them if a route is given.

    Returns the peer before it has served anything, and when its client was started (CLOCK_MONOTONIC).
    The route lies between client and server, or in front of the target where there is no tunnel.
    """
    started: list[Process] = []

    def kept(port: int, process: Process) -> int:
        started.append(process)
        return port

    try:
        target_port, target = lab.start_target()
        started.append(target)
        server = peer.serve(lab)
        if server and server.process:
            started.append(server.process)
        entry = server.port if server else target_port
        if route:
            entry = kept(*lab.start_route(entry, route))
        began = time.monotonic()
        client = peer.connect(lab, server, entry) if server else None
        if client and client.process:
            started.append(client.process)
    except BaseException:
        lab.processes.stop(started)
        raise
    proxy_port = client.port if client else entry if server else 0
    if not server:
        target_port = entry
    return Live(peer, lab, proxy_port, target_port, target, started, server, client), began


@contextlib.contextmanager
def fresh(peer: Peer, lab: Lab, route: Route | None = None) -> Iterator[Live]:
    """A new instance that has served one small request, stopped at the end."""
    live, _ = launch(peer, lab, route)
    try:
        live.await_first_request()
        yield live
    finally:
        live.stop()


class Fleet:
    """The instances that serve all measurements on loopback: started once, warm, again if one died."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._live: dict[str, Live] = {}

    def get(self, peer: Peer) -> Live:
        live = self._live.get(peer.name)
        if live and live.alive():
            return live
        if live:
            live.stop()
        live, _ = launch(peer, self._lab)
        self._live[peer.name] = live
        live.await_first_request()
        live.warm_up()
        return live
