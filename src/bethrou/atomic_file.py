"""Files that are written whole or not at all, for their owner only (mode 0600), by way of a file beside them.

Whatever goes wrong is an OSError, or a ValueError for a name that cannot be one; no half of a file is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_MODE = 0o600
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def create_file(path: Path, data: bytes) -> bool:
    """Write a new file; False, with nothing changed, when there is one already."""
    return _write(path, data, _place_new)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, in place of one that is there. Who reads meanwhile gets the old one or the new one."""
    _write(path, data, _replace)


def _write(path: Path, data: bytes, place: Callable[[str, Path], bool]) -> bool:
    descriptor, temporary = tempfile.mkstemp(prefix=".bethrou-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        placed = place(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _sync_directory(path.parent)
    return placed


def _replace(temporary: str, path: Path) -> bool:
    Path(temporary).replace(path)
    return True


def _place_new(temporary: str, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _claim_and_replace(temporary, path)
    return True


def _claim_and_replace(temporary: str, path: Path) -> bool:
    """The second best, for file systems without hard links: a crash in between leaves an empty file."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))
    except FileExistsError:
        return False
    return _replace(temporary, path)


def _sync_directory(path: Path) -> None:
    """Make the new name survive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
