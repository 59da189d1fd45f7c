"""Network keys and identities on disk: read within bounds, written whole or not at all, never overwritten.

Errors are one line that begins with the file's name and never shows what is in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bethrou.atomic_file import create_file, replace_file
from bethrou.errors import KeyFileError
from bethrou.ops.logs import Logger
from bethrou.printable import printable
from bethrou.wire import keys, psk
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey

NETWORK_KEY_NAME = "network.key"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO

T = TypeVar("T")


def find_network_key(start: Path = Path()) -> Path:
    """Return network.key in `start` or one of the two directories above it, as Go looks for it.

    Raises KeyFileError when there is none.
    """
    places = [start / up / NETWORK_KEY_NAME for up in ("", "..", "../..")]
    for place in places:
        # A broken link or a directory counts, too: reading it says what is wrong, skipping it would not.
        if os.path.lexists(place):
            return place
    looked = ", ".join(_shown(place) for place in places)
    raise KeyFileError(
        f"no network key: none of {looked} exists; make one with `bethrou key new`, or say --key"
    )


def load_network_key(path: Path | None, log: Logger | None = None) -> NetworkKey:
    """Read the network key at `path`, or the one that `find_network_key` finds. Raises KeyFileError."""
    return read_network_key(find_network_key() if path is None else path, log)


def read_network_key(path: Path, log: Logger | None = None) -> NetworkKey:
    """Read a swarm key file; `log` is warned when others can read it. Raises KeyFileError."""
    return _parse(path, psk.MAX_FILE, NetworkKey.parse, log)


def read_identity(path: Path, log: Logger | None = None) -> Identity:
    """Read an identity; `log` is warned when others can read it. Raises KeyFileError."""
    return _parse(path, keys.MAX_FILE, Identity.parse, log)


def load_or_create_network_key(
    path: Path, log: Logger | None = None, randbytes: Callable[[int], bytes] = os.urandom
) -> NetworkKey:
    """Read the network key at `path`; make one if there is no such file. Raises KeyFileError."""
    if not os.path.lexists(path):
        _create(path, NetworkKey.generate(randbytes).format(), "network key", log)
    return read_network_key(path, log)


def load_or_create_identity(
    path: Path, log: Logger | None = None, randbytes: Callable[[int], bytes] = os.urandom
) -> Identity:
    """Read the identity at `path`; make one if there is no such file. Raises KeyFileError."""
    if not os.path.lexists(path):
        _create(path, Identity.generate(randbytes).to_protobuf(), "identity", log)
    return read_identity(path, log)


def client_identity(
    path: Path | None,
    in_list: bool,
    log: Logger | None = None,
    randbytes: Callable[[int], bytes] = os.urandom,
) -> Identity:
    """Who a client is, by its configuration's `identity`; `in_list`: whether it has an operator. Raises KeyFileError.

    Without a file it is somebody else at each start, like Go's: nothing ties its sessions together. One that is in a
    member list is known by its identity, so that a new one would be nobody.
    """
    if path is None:
        return Identity.generate(randbytes)
    return read_identity(path, log) if in_list else load_or_create_identity(path, log, randbytes)


def write_private(path: Path, data: bytes, exclusive: bool = True) -> None:
    """Write a file that only its owner can read (mode 0600), whole or not at all.

    With `exclusive` a file that is there is left alone; otherwise it is replaced. Raises KeyFileError.
    """
    if not _write(path, data, exclusive):
        raise KeyFileError(f"{_shown(path)}: is already there and is not overwritten")


def write_file(path: Path, data: bytes) -> None:
    """Write or replace a file (mode 0600), whole or not at all. Raises KeyFileError."""
    write_private(path, data, exclusive=False)


def _parse(path: Path, limit: int, parse: Callable[[bytes], T], log: Logger | None) -> T:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{_shown(path)}: cannot be read: {_reason(error)}") from error
    try:
        key = parse(data)
    except KeyFileError as error:
        raise KeyFileError(f"{_shown(path)}: {error}") from error
    if log is not None and stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        log.warning(
            "others can read this key file; take that from them with chmod 600", file=_shown(path), mode=mode
        )
    return key


def _create(path: Path, data: bytes, what: str, log: Logger | None) -> None:
    # When another process was faster, its key is the one to use.
    if _write(path, data, exclusive=True) and log is not None:
        log.info(f"made a new {what}", file=_shown(path))


def _write(path: Path, data: bytes, exclusive: bool) -> bool:
    """Write the file; False if it is there already and `exclusive`."""
    try:
        if exclusive:
            return create_file(path, data)
        replace_file(path, data)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{_shown(path)}: cannot be written: {_reason(error)}") from error
    return True


def _shown(path: Path) -> str:
    return printable(str(path))


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
