"""`bethrou init`: a network begins, as a directory with all that its operator and its first node need."""

from __future__ import annotations

import os
import shlex
import socket
import time
from pathlib import Path

from bethrou.assembly import keyfiles
from bethrou.cli.network_dir import NetworkDirectory
from bethrou.cli.said import say
from bethrou.cli.written_config import node_yaml
from bethrou.config import node_config
from bethrou.discovery.member_book import MemberBook
from bethrou.discovery.membership import book_path
from bethrou.errors import ConfigError, KeyFileError
from bethrou.printable import printable, quoted
from bethrou.wire.grant import NODE
from bethrou.wire.keys import Identity
from bethrou.wire.labels import LABEL_FORM, is_label
from bethrou.wire.member_exchange import Kind
from bethrou.wire.member_list import Member, MemberList
from bethrou.wire.psk import NetworkKey

USUAL_LISTEN = "/ip4/0.0.0.0/tcp/4000"


def start_network(name: str, directory: str, listen: str, node_name: str = "") -> None:
    """Make a network called `name` in `directory`. Raises UserErrors; what is there is never touched."""
    path = Path(directory).absolute()
    name = name or (path.name if is_label(path.name) else "")
    called = node_name or this_machine()
    for option, label in (("--name", name), ("--node-name", called)):
        if label and not is_label(label):
            raise ConfigError(f"{option}: {quoted(label, 60)} must have {LABEL_FORM}")
    (address,) = node_config({"listen": [listen]}).listen
    place = NetworkDirectory(path)
    for file in place.all_files:
        if os.path.lexists(file):
            raise ConfigError(
                f"{printable(str(file))}: is already there, so nothing is changed; choose another DIR"
            )
    make_directory(path)
    key, operator, node = (
        NetworkKey.generate(os.urandom),
        Identity.generate(os.urandom),
        Identity.generate(os.urandom),
    )
    members = (Member(node.peer_id, called, NODE),)
    first = MemberList(key.fingerprint, 1, int(time.time()), members, (), name)
    book = MemberBook(operator.peer_id, key.fingerprint, time.time)
    book.take([(Kind.LIST, first.seal(operator))])
    configuration = node_yaml(
        key=place.network_key,
        identity=place.node_key,
        operator=operator.peer_id,
        name=called,
        listen=str(address),
    )
    create_files(
        {
            place.network_key: key.format(),
            place.operator_key: operator.to_protobuf(),
            place.node_key: node.to_protobuf(),
            book_path(place.operator_key): book.encode(),
            book_path(place.node_key): book.encode(),
            place.node_yaml: configuration,
        }
    )
    place.audit.add("network made", network=key.fingerprint, name=name, operator=str(operator.peer_id))
    say(_what_next(place, name, key, directory))


def _what_next(place: NetworkDirectory, name: str, key: NetworkKey, directory: str) -> str:
    where = "" if directory == "." else f" {shlex.quote(directory)}"
    config = shlex.quote(str(Path(directory) / "node.yaml"))
    return "\n".join(
        [
            f"A new network{f' {name}' if name else ''} in {printable(directory)}, fingerprint {key.fingerprint}",
            "  network.key   opens the network; every member has a copy",
            "  operator.key  says who is a member: keep it, and let nobody have it",
            "  node.yaml     the first node's configuration, with its identity in node.key",
            "",
            "Start the node:       " + printable(f"bethrou node start --config {config}"),
            "Then invite a device: " + printable(f"bethrou invite{where}"),
        ]
    )


def this_machine() -> str:
    """This machine's name, as a label."""
    name = socket.gethostname().partition(".")[0]
    return name if is_label(name) else "node"


def make_directory(path: Path) -> None:
    """Make a directory for its owner only, where there is none. Raises ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{printable(str(path))}: cannot be made: {reason}") from None


def create_files(files: dict[Path, bytes]) -> None:
    """Write new files (mode 0600), all or none. Raises KeyFileError."""
    made: list[Path] = []
    try:
        for path, data in files.items():
            keyfiles.write_private(path, data)
            made.append(path)
    except KeyFileError:
        for path in made:
            path.unlink(missing_ok=True)
        raise
