"""The listening control socket: at a path that is short enough, for its user alone, and gone when it is closed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from bethrou.assembly.keyfiles import write_file
from bethrou.cli.control_path import POINTER, fits, usual_socket_path
from bethrou.errors import ConfigError, KeyFileError
from bethrou.printable import printable

_MODE = 0o600
_BACKLOG = 64  # as many as are served at once
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class ControlSocket:
    """A socket that listens (non-blocking) for the program that holds the lock of `state`. Raises ConfigError.

    A socket that is there already belongs to a dead program, since nobody else can have the lock: it is replaced.
    """

    def __init__(self, state: Path, environment: Mapping[str, str]) -> None:
        self._pointer = state / POINTER
        self.path = _choose(state, environment)
        try:
            self.path.unlink(missing_ok=True)
            self.socket = _listen(self.path)
        except OSError as error:
            raise ConfigError(
                f"{printable(str(self.path))}: no socket can be made: {error.strerror or error}"
            ) from None
        try:
            self._write_pointer(state)
        except (KeyFileError, OSError) as error:
            self.close()
            raise ConfigError(str(error)) from None

    def close(self) -> None:
        """Stop listening and leave nothing behind."""
        self.socket.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self._pointer.unlink(missing_ok=True)
        if self.path.parent.name == _own_directory_name():
            with contextlib.suppress(OSError):  # another program's socket is in it
                self.path.parent.rmdir()

    def _write_pointer(self, state: Path) -> None:
        if self.path == usual_socket_path(state):
            self._pointer.unlink(missing_ok=True)
        else:
            write_file(self._pointer, os.fsencode(self.path) + b"\n")


def _choose(state: Path, environment: Mapping[str, str]) -> Path:
    """The first path that is short enough. Raises ConfigError."""
    usual = usual_socket_path(state)
    if fits(usual):
        return usual
    name = f"bethrou-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}.sock"
    for directory in _private_directories(environment):
        if fits(directory / name):
            return directory / name
    raise ConfigError(
        f"{printable(str(usual))} is too long for a Unix socket, and so is every other place: set XDG_RUNTIME_DIR"
    )


def _private_directories(environment: Mapping[str, str]) -> Iterator[Path]:
    """Directories with short names in which nobody else can put anything."""
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and _is_private(runtime):
        yield runtime
    own = Path(tempfile.gettempdir()) / _own_directory_name()
    with contextlib.suppress(OSError):  # somebody else's, or it cannot be made
        own.mkdir(mode=0o700, exist_ok=True)
        if _is_private(own):
            yield own


def _own_directory_name() -> str:
    return f"bethrou-{os.getuid()}"


def _is_private(directory: Path) -> bool:
    """Whether it is a directory (no link) of this user that others cannot enter."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & _OTHERS


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        # Until here the process's umask decided; the directory keeps others out, and the server looks who asks.
        path.chmod(_MODE)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
