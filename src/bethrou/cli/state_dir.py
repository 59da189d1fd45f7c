"""A directory that one running program has for itself: keys and state, locked while it runs.

    --dir DIR            that one
    --instance NAME      bethrou/PROGRAM-NAME in $XDG_STATE_HOME, or ~/.local/state
    neither              bethrou/PROGRAM there; where another one runs in it, PROGRAM-2, PROGRAM-3, ...

The lock is what makes a second program on the same state impossible, however the first one ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bethrou.errors import ConfigError
from bethrou.printable import printable, quoted
from bethrou.wire.labels import LABEL_FORM, is_label

MOST_INSTANCES = 32
"""Programs of a kind that are told apart by number when nobody has named them."""

_LOCK = "lock"


@dataclass(frozen=True)
class StateChoice:
    """What the user has said of the state directory. Raises ConfigError for what makes no sense."""

    directory: str | None = None
    instance: str | None = None

    def __post_init__(self) -> None:
        if self.directory and self.instance:
            raise ConfigError("--instance: says nothing beside --dir; leave one of them out")
        if self.instance and not is_label(self.instance):
            raise ConfigError(f"--instance: {quoted(self.instance, 60)} must have {LABEL_FORM}")

    @property
    def said(self) -> bool:
        """Whether a certain directory is meant, and no other will do."""
        return bool(self.directory or self.instance)

    def places(self, program: str) -> Iterator[Path]:
        """Where the state of `program` may be, the best place first. Raises ConfigError."""
        if self.directory:
            yield Path(self.directory).absolute()
        elif self.instance:
            yield usual_base() / f"{program}-{self.instance}"
        else:
            base = usual_base()
            yield base / program
            yield from (base / f"{program}-{number}" for number in range(2, MOST_INSTANCES + 1))


class StateDirectory:
    """A locked state directory. The lock goes with the process, however it ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, choice: StateChoice, program: str) -> StateDirectory:
        """Make and lock the first place of `choice` that is free. Raises ConfigError."""
        place = Path()
        for place in choice.places(program):
            directory = cls._lock_if_free(place)
            if directory is not None:
                return directory
        if choice.said:
            raise ConfigError(
                f"another program (process {_holder(place)}) runs in {_shown(place)}: stop it, or choose "
                f"another {'directory with --dir' if choice.directory else 'name with --instance'}"
            )
        raise ConfigError(f"{MOST_INSTANCES} programs run in {_shown(place.parent)}; use --dir or --instance")

    def release(self) -> None:
        """Let another program have the directory."""
        os.close(self._lock)

    @classmethod
    def _lock_if_free(cls, path: Path) -> StateDirectory | None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            raise ConfigError(f"--dir: {_shown(path)} cannot be used: {_reason(error)}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError as error:
            os.close(lock)
            raise ConfigError(f"--dir: {_shown(path)} cannot be locked: {_reason(error)}") from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return cls(path, lock)


def usual_base() -> Path:
    """$XDG_STATE_HOME/bethrou (XDG Base Directory specification: a relative value is ignored). Raises ConfigError."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "bethrou"
    try:
        return Path.home() / ".local" / "state" / "bethrou"
    except RuntimeError:
        raise ConfigError("--dir: this user has no home directory; say where keys and state live") from None


def _holder(path: Path) -> str:
    """The process that says it has locked `path`."""
    try:
        return printable((path / _LOCK).read_bytes()[:20].decode("ascii", "replace").strip()) or "?"
    except OSError:
        return "?"


def _shown(path: Path) -> str:
    return printable(str(path))


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
