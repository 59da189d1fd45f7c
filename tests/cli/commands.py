"""The commands as processes that end by themselves, and `bethrou up` as one that does not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from live.waiting import wait_until

MODULES = {
    "bethrou": "bethrou.cli.main",
    "bethrou-node": "bethrou.cli.node",
    "bethrou-client": "bethrou.cli.client",
}


def argv(program: str, *arguments: str) -> list[str]:
    """The command line of one of our programs."""
    return [sys.executable, "-m", MODULES[program], *arguments]


def run(program: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without a terminal."""
    return subprocess.run(
        argv(program, *arguments),
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(program: str, *arguments: str, cwd: Path, **environment: str) -> str:
    """The one line with which a command refuses what its user gave, without the program's name."""
    done = run(program, *arguments, cwd=cwd, **environment)
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    name, _, message = line.partition(": ")
    assert name == program
    return message


class Up:
    """A running `bethrou up` on a free port of loopback, its keys and state in `directory`."""

    def __init__(self, directory: Path, *arguments: str, socks: str = "127.0.0.1:0") -> None:
        self._out = directory.parent / f"{directory.name}.out"
        command = argv("bethrou", "up", "--dir", str(directory), "--socks", socks, *arguments)
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def output(self) -> str:
        """What it has printed and logged so far."""
        return self._out.read_text()

    def ready(self) -> tuple[str, int]:
        """Wait for the line to paste; the proxy's address in it."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.output
            return re.search(r"^ +curl -x socks5h://(\S+):(\d+) https://\S+$", self.output, re.MULTILINE)

        match = wait_until(found)
        return match[1], int(match[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
