"""A directory that one running program has for itself: keys and state, locked while it runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bethrou.errors import ConfigError
from bethrou.printable import printable

_LOCK = "lock"


class StateDirectory:
    """A locked state directory. The lock goes with the process, however it ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, given: str | None, program: str) -> StateDirectory:
        """Make and lock the directory `given` with --dir, or the usual one of `program`. Raises ConfigError."""
        path = Path(given).absolute() if given else _usual(program)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            raise ConfigError(f"--dir: {printable(str(path))} cannot be used: {_reason(error)}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(lock, 20).decode("ascii", "replace").strip()
            os.close(lock)
            raise ConfigError(
                f"another `bethrou {program}` (process {printable(holder)}) runs in {printable(str(path))}: "
                "stop it, or choose another directory with --dir"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return cls(path, lock)

    def release(self) -> None:
        """Let another program have the directory."""
        os.close(self._lock)


def _usual(program: str) -> Path:
    """$XDG_STATE_HOME/bethrou/PROGRAM (XDG Base Directory specification: a relative value is ignored)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "bethrou" / program
    try:
        return Path.home() / ".local" / "state" / "bethrou" / program
    except RuntimeError:
        raise ConfigError("--dir: this user has no home directory; say where keys and state live") from None


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
