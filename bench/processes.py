"""Child processes of the benchmark: started in groups of their own, measured, and stopped whatever happens."""

import contextlib
import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

PROC = Path("/proc")
OPEN_FILES = 1 << 17
PORTS = range(20_000, 32_000)  # below the ephemeral range, so that no outgoing connection takes one
STOP_PATIENCE_S = 3.0


class BenchError(Exception):
    """Something that was to be measured did not run."""


def raise_open_files_limit() -> int:
    """Lets this process and its children open many sockets; returns the limit reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, OPEN_FILES), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    return soft


class Ports:
    """Hands out free loopback ports, none twice."""

    def __init__(self) -> None:
        self._untried = iter(random.sample(PORTS, len(PORTS)))
        self._lock = threading.Lock()

    def free(self) -> int:
        with self._lock:
            for port in self._untried:
                if _bindable(port):
                    return port
        raise BenchError("no free port")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Whether someone listens on the port; asks the kernel, so the listener never sees a probe."""
    wanted = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[1].endswith(wanted):
                    return True
    return False


def descendants(pid: int) -> list[int]:
    """The process and all its children's children, as they are now."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def memory(roots: list[int]) -> dict[str, int]:
    """Bytes of RSS and PSS of these processes with their descendants."""
    total = {"rss": 0, "pss": 0}
    for pid in {each for root in roots for each in descendants(root)}:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name.lower() in total:
                    total[name.lower()] += int(rest.split()[0]) * 1024
    return total


def processor_seconds(pid: int) -> float:
    """What one process has used of the processors so far, its threads included."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bytes_read(pid: int) -> int:
    """What a process has taken with read(2), sockets included."""
    for line in (PROC / str(pid) / "io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise BenchError("the kernel counts no bytes for a process (/proc/PID/io)")


class Process:
    """One child in a process group of its own."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.name = Path(argv[0]).name
        self._log = log
        with log.open("ab") as sink:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=env,
                start_new_session=True,
            )
        self.pid = self._child.pid

    def alive(self) -> bool:
        return self._child.poll() is None

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])

    def lines(self, word: str) -> list[list[str]]:
        """The lines it has printed that begin with `word`, each as the words behind that."""
        printed = self._log.read_text(errors="replace").splitlines(keepends=True)
        words = (line.split() for line in printed if line.endswith("\n"))
        return [found[1:] for found in words if found[:1] == [word]]

    def wait_for_lines(self, word: str, count: int, patience_s: float) -> list[list[str]]:
        """Until there are so many of them."""
        deadline = time.monotonic() + patience_s
        while len(found := self.lines(word)) < count:
            if not self.alive() or time.monotonic() > deadline:
                why = (
                    "ended"
                    if not self.alive()
                    else f"{len(found)} of {count} x {word!r} in {patience_s:.0f} s"
                )
                raise BenchError(f"{self.name} {why}: {self.last_words()}")
            time.sleep(0.02)
        return found

    def wait_for_listener(self, port: int, patience_s: float = 15.0) -> None:
        deadline = time.monotonic() + patience_s
        while not is_listening(port):
            if not self.alive() or time.monotonic() > deadline:
                why = "ended" if not self.alive() else "does not listen"
                raise BenchError(f"{self.name} {why}: {self.last_words()}")
            time.sleep(0.01)

    def wait_for_words(self, words: str, patience_s: float) -> None:
        """Until a line that it prints has these words."""
        deadline = time.monotonic() + patience_s
        while words not in self._log.read_text(errors="replace"):
            if not self.alive() or time.monotonic() > deadline:
                why = "ended" if not self.alive() else f"has not said {words!r} in {patience_s:.0f} s"
                raise BenchError(f"{self.name} {why}: {self.last_words()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the group and what it started, politely first. A second call does nothing."""
        if not self.alive():
            return
        pids = descendants(self.pid)
        self._signal(pids, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_PATIENCE_S)
        self._signal([pid for pid in pids if pid != self.pid or self.alive()], signal.SIGKILL)
        self._child.wait()

    def _signal(self, pids: list[int], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.alive():
                os.killpg(self.pid, number)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if pid != self.pid:
                    os.kill(pid, number)


class Processes:
    """All children alive; leaving the context stops them, the newest first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[Process] = []
        self._numbers = itertools.count(1)

    def start(self, argv: list[str], env: dict[str, str] | None = None) -> Process:
        log = self._logs / f"{next(self._numbers):05d}-{Path(argv[0]).name}.log"
        process = Process(argv, log, env)
        self._started.append(process)
        return process

    def stop(self, processes: list[Process]) -> None:
        for process in reversed(processes):
            process.stop()
            if process in self._started:
                self._started.remove(process)

    def stop_all(self) -> None:
        self.stop(list(self._started))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()
