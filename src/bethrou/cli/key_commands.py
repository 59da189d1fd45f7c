"""`bethrou key new`, `bethrou key identity` and `bethrou key show`."""

from __future__ import annotations

import os
from pathlib import Path

from bethrou.assembly import keyfiles
from bethrou.cli.said import say
from bethrou.config import LogFormat, LogLevel
from bethrou.errors import KeyFileError
from bethrou.ops.logs import make_logger
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey

_SWARM_KEY = b"/key/swarm/"
_ENOUGH = 64  # bytes that tell the two kinds of file apart


def new_key(path: str) -> None:
    """Write a new network key to `path`. Raises KeyFileError, also when there is a file already."""
    key = NetworkKey.generate(os.urandom)
    keyfiles.write_private(Path(path), key.format())
    say(f"{printable(path)}: a new network key, fingerprint {key.fingerprint}")
    say("Copy it to every member of your network, and to nobody else: whoever holds it is a member.")


def new_identity(path: str) -> None:
    """Write a new identity to `path`, and say its peer ID. Raises KeyFileError, also when there is a file already."""
    identity = Identity.generate(os.urandom)
    keyfiles.write_private(Path(path), identity.to_protobuf())
    print(identity.peer_id)  # alone, for scripts


def show_key(path: str) -> None:
    """Say what the key file at `path` is, without giving it away. Raises KeyFileError."""
    log = make_logger(LogLevel.WARN, LogFormat.TEXT)
    file = Path(path)
    if _looks_like_identity(file):
        identity = keyfiles.read_identity(file, log)
        say(f"{printable(path)}: an identity, peer ID {identity.peer_id}")
    else:
        key = keyfiles.read_network_key(file, log)
        say(f"{printable(path)}: a network key, fingerprint {key.fingerprint}")


def _looks_like_identity(path: Path) -> bool:
    """Whether the file is a libp2p private key or PEM; whatever else it is, a network key is the likelier wish."""
    try:
        with path.open("rb") as file:
            start = file.read(_ENOUGH)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise KeyFileError(f"{printable(str(path))}: cannot be read: {reason}") from None
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.startswith(b"-----BEGIN ") or (start[:1] == b"\x08" and not text.startswith(_SWARM_KEY))
