"""Folders and machines in which the commands of documents are run, as their reader would.

Ports, pages and homes are the tests' own; what a command prints is compared without what differs each time.
Fixtures are made of the functions whose names begin with `a_`: `page = pytest.fixture(a_page)`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import needs
from live.documents import ROOT
from live.waiting import wait_until

PATIENCE = 30.0  # for a program to say what is awaited

PEER = re.compile(r"12D3KooW\w{44}")
_DIFFERENT_EACH_TIME = (
    (re.compile(r"^\d{4}-\d\d-\d\dT\S+Z "), "TIME "),
    (PEER, "PEER"),
    (re.compile(r"\b(exit|member)=\w{8}\b"), r"\1=PEER"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "FINGERPRINT"),
    (re.compile(r"\bid=[0-9a-f]{16}\b"), "id=ID"),
    (re.compile(r"\b(sent|received|seconds)=[\d.]+"), r"\1=NUMBER"),
    (re.compile(r"[^\s=]+(?=/(?:network|node)\.key\b)"), "FOLDER"),
    (re.compile(r"/ip4/[\d.]+/tcp/\d+"), "ADDRESS"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "HOST:PORT"),
    (re.compile(r"\S+(?=/bethrou-client )"), "FOLDER"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\(invite \w{8}\)"), "(invite ID)"),
    (re.compile(r"bethrou://join/\S+"), "LINK"),
)


def neutral(text: str) -> list[str]:
    """Lines of output without what differs from one run to the next."""
    lines = []
    for line in text.splitlines():
        for pattern, word in _DIFFERENT_EACH_TIME:
            line = pattern.sub(word, line)
        lines.append(line)
    return lines


class Running:
    """A program that goes on until it is stopped."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self.process = process
        self._out = out

    @property
    def output(self) -> str:
        """What it has printed and logged so far."""
        return self._out.read_text()

    def wait_for(self, pattern: str) -> str:
        """What the first group of `pattern` matches in the output, once it is there."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.output
            return re.search(pattern, self.output, re.MULTILINE)

        return wait_until(found, PATIENCE)[1]

    def interrupt(self) -> None:
        """Press Ctrl-C; it must end well."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0, self.output


class Place:
    """A folder in which blocks are run. Output of programs goes to files in `scratch`."""

    def __init__(self, folder: Path, scratch: Path, within: Sequence[str] = (), **environment: str) -> None:
        self.folder = folder
        self.within = within
        """The command that runs others where this is, on another machine, say."""
        self._scratch = scratch
        self._environment = {**os.environ, **environment}

    def run(self, script: str, status: int = 0) -> str:
        """Run a script to its end; what it printed."""
        done = subprocess.run(
            [*self.within, "/bin/sh", "-euc", script],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{script}\n{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def running(self, name: str, block: str, *more: str) -> Iterator[Running]:
        """Start the one command of a block, with more arguments behind it."""
        (command,) = block.replace("\\\n", "").splitlines()
        out = self._scratch / f"{name}.out"
        with out.open("wb") as file:
            process = subprocess.Popen(
                [*self.within, "/bin/sh", "-euc", f"exec {' '.join((command, *more))}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield Running(process, out)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def says(place: Place, command: str, expected: str) -> Callable[[], bool]:
    """Whether a command prints `expected`."""
    return lambda: expected in place.run(f"{command} || true")


# -- output ------------------------------------------------------------------------------------------------------

_MEASURED = re.compile(r"\b\d+(\.\d+)? (s|ms|min)\b|\b\d+%")


def table(text: str) -> list[str]:
    """Lines of tables that a program has printed, without what is measured, in no order."""
    return sorted(_MEASURED.sub("TIME", " ".join(line.split())) for line in neutral(text))


# -- what fixtures are made of --------------------------------------------------------------------------------------


def a_clone(tmp_path: Path) -> Path:
    """A clone of the project that is set up."""
    if not (ROOT / ".git").exists():
        pytest.skip("the sources are no git clone")
    (git,) = needs("git")
    folder = tmp_path / "clone"
    subprocess.run([git, "clone", "-q", ROOT, folder], check=True)
    is_set_up(folder)
    return folder


def is_set_up(folder: Path) -> None:
    """As if scripts/venv had run there; it needs the network, and scripts/test has run it."""
    write_program(folder / "scripts" / "venv", "exit 0")
    (folder / ".venv").symlink_to(sys.prefix)


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def without_ours(path: str) -> str:
    """PATH of somebody who has not installed Bethrou."""
    folders = path.split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if not (Path(folder) / "bethrou-client").exists())


def quiet(curl: str) -> str:
    return curl.replace("curl ", "curl -sS ", 1)


def a_page(tmp_path: Path) -> Iterator[str]:
    """The URL of a page on loopback that says "It works"."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("It works")
    server = ThreadingHTTPServer(("0.0.0.0", 0), functools.partial(QuietHandler, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def a_home(clone: Path, tmp_path: Path) -> Iterator[Place]:
    """The clone, with its programs in PATH, a network key, and a home of its own.

    The home's name is as short as people's: a Unix socket's path has 107 bytes. As XDG_STATE_HOME is none, state is in
    the home.
    """
    path = f"{clone}/.venv/bin:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        place = Place(clone, tmp_path, PATH=path, HOME=home, XDG_STATE_HOME="")
        place.run("bethrou key new")
        yield place
