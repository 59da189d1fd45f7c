"""Which of this user's programs run, and which of them a command is for."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bethrou.cli.control_client import ControlClient
from bethrou.cli.control_path import find_socket
from bethrou.cli.state_dir import StateChoice, usual_base
from bethrou.errors import ConfigError, ControlError, NotRunning, UserError
from bethrou.printable import printable
from bethrou.quantities import duration

_STATE_NAME = re.compile(r"(client|node)(?:-(.+))?")
_UP = "up"  # `bethrou up`: the control is its client's
_CONNECT_TIMEOUT = 2.0  # seconds for what takes microseconds


@dataclass(frozen=True)
class Wanted:
    """What the user has said of the program that a command is for."""

    choice: StateChoice
    role: str = ""
    """client, node, or "" for either."""


@dataclass(frozen=True)
class _Instance:
    """A program that runs, or has run."""

    state: Path
    role: str
    name: str
    """What --instance calls it; "" for the one that has no name."""

    @property
    def socket(self) -> Path:
        return find_socket(self.state)


def find_running(wanted: Wanted) -> ControlClient:
    """The one program that is meant.

    Raises NotRunning when there is none, and ConfigError when there are several; then they are listed on stderr.
    """
    if wanted.choice.directory:
        (state,) = wanted.choice.places("")
        if not _is_listening(find_socket(state)):
            raise NotRunning(f"nothing runs in {printable(str(state))}")
        return ControlClient(find_socket(state))
    running = [instance for instance in _instances(wanted) if _is_listening(instance.socket)]
    if not running:
        raise NotRunning(_nothing_runs(wanted))
    if len(running) > 1:
        options = [_options(instance, running) for instance in running]
        width = max(map(len, options))
        for option, instance in zip(options, running, strict=True):
            print(f"  {option:<{width}}  {_description(instance)}", file=sys.stderr)
        raise ConfigError(f"{len(running)} programs run here; say which one, with options as above")
    return ControlClient(running[0].socket)


def _instances(wanted: Wanted) -> Iterator[_Instance]:
    """All that are meant, whether they run or not."""
    try:
        directories = sorted(usual_base().iterdir())
    except OSError:
        return
    for path in directories:
        match = _STATE_NAME.fullmatch(path.name)
        if match is None and path.name != _UP:
            continue
        role, name = (match[1], match[2] or "") if match is not None else ("client", "")
        if wanted.role in ("", role) and (wanted.choice.instance or name) == name:
            yield _Instance(path, role, name)


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_CONNECT_TIMEOUT)
        try:
            sock.connect(str(path))
        except (TimeoutError, BlockingIOError):  # it has no time to accept
            return True
        except OSError:
            return False
    return True


def _options(instance: _Instance, running: list[_Instance]) -> str:
    """The options that choose `instance` among all that run."""
    if instance.name:
        return printable(f"--{instance.role} --instance {instance.name}")
    if sum(other.role == instance.role for other in running) == 1:
        return f"--{instance.role}"
    return printable(f"--dir {shlex.quote(str(instance.state))}")


def _description(instance: _Instance) -> str:
    """What tells it apart from the others, for people."""
    try:
        status = ControlClient(instance.socket).status()
    except (ControlError, UserError) as error:
        return str(error)
    where = printable(", ".join(status.listening)) or "draining"
    return f"{status.role}, {where}, up {duration(status.uptime)}"


def _nothing_runs(wanted: Wanted) -> str:
    what = f"no {wanted.role}" if wanted.role else "no client or node"
    named = f" with --instance {wanted.choice.instance}" if wanted.choice.instance else ""
    starts = {"client": "`bethrou-client connect`", "node": "`bethrou-node start`"}
    start = starts.get(wanted.role, " or ".join(starts.values()))
    return (
        f"{what} of this user runs here{named}: start one with {start}, "
        "or say --dir if its state is elsewhere"
    )
