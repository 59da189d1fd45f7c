"""The product as its user runs it: `bethrou-node` and `bethrou-client` as processes, watched through their logs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bethrou.wire.psk import NetworkKey
from live.waiting import PATIENCE, until, wait_until

Line = dict[str, Any]

_MODULES = {"node": ("bethrou.cli.node", "start"), "client": ("bethrou.cli.client", "connect")}


class Program:
    """A node or client process in a folder of its own. Its log is JSON lines.

    Programs whose folders are in the same one are one user's on one machine. `within`: the command that runs it, in
    another network, say.
    """

    def __init__(
        self,
        role: str,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        module, command = _MODULES[role]
        self._role = role
        self._log = folder / f"{role}.log"
        self._said = folder / f"{role}.out"
        self._lines: list[Line] = []
        self._read = 0
        """Bytes of the log that are in `_lines`."""
        with self._log.open("wb") as log, self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", module, command, "--log-format", "json", *arguments],
                cwd=folder,
                env={**os.environ, "XDG_STATE_HOME": str(folder.parent), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self, pattern: str) -> str:
        """What the first group of `pattern` matches in its output; waits until it is there."""

        def found() -> re.Match[str] | None:
            assert self._process.poll() is None, self._log.read_text()
            return re.search(pattern, self._said.read_text(), re.MULTILINE)

        return wait_until(found)[1]

    @property
    def lines(self) -> list[Line]:
        """Its log so far. To be read no more when its folder has another program."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read += len(whole + newline)
        self._lines += map(json.loads, whole.splitlines())
        return self._lines

    def lines_of(self, event: str, **fields: Any) -> list[Line]:
        """The lines of an event, with these fields."""
        return [
            line
            for line in self.lines
            if line["event"].startswith(event) and all(line.get(name) == fields[name] for name in fields)
        ]

    async def logged(self, event: str, timeout: float = PATIENCE, count: int = 1, **fields: Any) -> Line:
        """The first of `count` lines of an event, past ones included."""

        def found() -> list[Line]:
            lines = self.lines_of(event, **fields)
            return lines if len(lines) >= count else []

        return (await until(found, timeout, f"{event} {fields} in {self._log}"))[0]

    @property
    def descriptors(self) -> int:
        """Files and sockets that it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def memory(self) -> int:
        """Bytes of it that are in memory, libraries that it shares with others included."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def allow_descriptors(self, count: int) -> None:
        """From now on it may have so many open, and no more."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, hard))

    @property
    def most_memory(self) -> int:
        """Bytes of memory that it has had at a time so far."""
        (line,) = re.findall(
            r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE
        )
        return int(line) * 1024

    @property
    def sockets(self) -> int:
        """Sockets that it has open."""
        count = 0
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                count += str(link.readlink()).startswith("socket:")
        return count

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        self._process.kill()
        self._process.wait()

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Wait until it has ended by itself; its exit status."""
        await until(lambda: self._process.poll() is not None, timeout, f"the end of {self._log}")
        return self._process.wait()

    def stop(self) -> int:
        """End it as a user does, twice if it must be; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            for _ in range(2):
                self._process.terminate()
                try:
                    return self._process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
            self._process.kill()
        return self._process.wait()


class NodeProgram(Program):
    """A node process on a free port of loopback, unless it is told to listen elsewhere.

    `host`: the address of its machine under which it is found.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        listen: str = "/ip4/127.0.0.1/tcp/0",
        environment: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        super().__init__(
            "node", folder, "--listen", listen, *arguments, environment=environment, within=within
        )
        self.address = self.said(rf"^ +- (/ip4/{re.escape(host)}/\S+)")
        """Where it is, with its peer ID."""
        self.id = self.address.rpartition("/")[2]

    @property
    def short(self) -> str:
        """Its peer ID as it stands in logs."""
        return self.id[-8:]


class ClientProgram(Program):
    """A client process on a free port of loopback."""

    def __init__(
        self,
        folder: Path,
        addresses: Sequence[str],
        *arguments: str,
        within: Sequence[str] = (),
        **config: Any,
    ) -> None:
        listen = {"listen": "127.0.0.1:0", **config.pop("server", {})}
        nodes = [{"addrs": [address]} for address in addresses]
        # JSON is YAML
        self.config = folder / "client.yaml"
        self.config.write_text(json.dumps({"server": listen, "nodes": nodes, **config}))
        super().__init__("client", folder, *arguments, within=within)
        host, _, port = self.said(r"^SOCKS5 on (\S+),").rpartition(":")
        self.proxy = host, int(port)

    def reconfigure(self, **changes: Any) -> None:
        """Have these blocks in its client.yaml, beside those that are there. It may not have noticed yet."""
        config = {**json.loads(self.config.read_text()), **changes}
        beside = self.config.with_name("client.yaml.new")
        beside.write_text(json.dumps(config))
        beside.replace(self.config)

    async def connected(self, count: int = 1) -> None:
        """Wait until links to so many exits have come up."""
        await self.logged("exit up", count=count)


class Programs:
    """Starts nodes and clients of one network, each in a folder of its own, and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Program] = []
        self._numbers = itertools.count()
        key = folder / "network.key"
        key.write_bytes(NetworkKey.generate(os.urandom).format())
        key.chmod(0o600)

    def node(self, *arguments: str, **options: Any) -> NodeProgram:
        """A node that permits loopback."""
        return self._keep(
            NodeProgram(self._new_folder(), "--allow", "127.0.0.0/8", "--allow", "::1", *arguments, **options)
        )

    def node_of(self, **config: Any) -> NodeProgram:
        """A node with a node.yaml, which permits what that says."""
        folder = self._new_folder()
        (folder / "node.yaml").write_text(json.dumps(config))  # JSON is YAML
        return self._keep(NodeProgram(folder, "--config", "node.yaml"))

    def again(self, node: NodeProgram, *arguments: str, **options: Any) -> NodeProgram:
        """A node that has ended, started once more: same identity, same port."""
        listen, _, _ = node.address.partition("/p2p/")
        return self._keep(
            NodeProgram(node.folder, "--allow", "127.0.0.0/8", *arguments, **{"listen": listen, **options})
        )

    def client(self, nodes: Sequence[NodeProgram], *arguments: str, **options: Any) -> ClientProgram:
        """A client of `nodes`."""
        return self.client_of([node.address for node in nodes], *arguments, **options)

    def client_of(self, addresses: Sequence[str], *arguments: str, **options: Any) -> ClientProgram:
        """A client of the exits at `addresses`, with peer IDs."""
        return self._keep(ClientProgram(self._new_folder(), addresses, *arguments, **options))

    def stop(self) -> None:
        """End all."""
        for program in reversed(self._all):
            program.stop()

    def _keep(self, program: Any) -> Any:
        self._all.append(program)
        return program

    def _new_folder(self) -> Path:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return folder


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[Programs]:
    """Programs for the length of a block."""
    started = Programs(folder)
    try:
        yield started
    finally:
        started.stop()
