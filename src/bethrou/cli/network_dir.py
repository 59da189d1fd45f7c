"""The directory of a network, as `bethrou init` makes it: what its operator and its first node need.

network.key       the network key: whoever holds it can reach the nodes
operator.key      the operator's: whoever holds it says who belongs to the network
operator.members  the member list as the operator knows it
nodes             where nodes were reached the last time, a multiaddr a line
node.key, node.yaml, node.members    the first node's, beside them or on a server
audit.log         who was invited, named, removed, and when
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bethrou.assembly import keyfiles
from bethrou.atomic_file import replace_file
from bethrou.config import NodeConfig, load_node_config
from bethrou.discovery.member_book import MemberBook
from bethrou.discovery.membership import book_path, read_book
from bethrou.errors import AddressError, ConfigError
from bethrou.ops.audit_log import AuditLog
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey

MAX_NODES = 64
"""Addresses of nodes that are remembered."""

_MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class NetworkDirectory:
    """The files of the network in `path`."""

    path: Path

    @property
    def network_key(self) -> Path:
        return self.path / "network.key"

    @property
    def operator_key(self) -> Path:
        return self.path / "operator.key"

    @property
    def node_key(self) -> Path:
        return self.path / "node.key"

    @property
    def node_yaml(self) -> Path:
        return self.path / "node.yaml"

    @property
    def nodes(self) -> Path:
        return self.path / "nodes"

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.path / "audit.log")

    @property
    def all_files(self) -> list[Path]:
        """Those that `bethrou init` writes."""
        books = [book_path(self.operator_key), book_path(self.node_key)]
        return [self.network_key, self.operator_key, self.node_key, *books, self.node_yaml]

    def open(self) -> Network:
        """Read what the operator needs. Raises UserErrors."""
        if not self.operator_key.exists():
            raise ConfigError(
                f"{printable(str(self.path))}: has no operator.key, which this needs: "
                "say where `bethrou init` has made the network"
            )
        key = keyfiles.read_network_key(self.network_key)
        operator = keyfiles.read_identity(self.operator_key)
        book = read_book(book_path(self.operator_key), operator.peer_id, key, time.time)
        if book.list is None:
            raise ConfigError(
                f"{printable(str(book_path(self.operator_key)))}: has no member list; restore it"
            )
        return Network(self, key, operator, book)

    def node_config(self) -> NodeConfig | None:
        """How the node of this directory is configured; None where there is none. Raises UserErrors."""
        return load_node_config(self.node_yaml, {}) if self.node_yaml.exists() else None

    def remembered(self) -> list[Multiaddr]:
        """Where nodes were reached the last time. Raises ConfigError."""
        try:
            with self.nodes.open("rb") as file:
                text = file.read(_MAX_FILE).decode("ascii", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"{printable(str(self.nodes))}: cannot be read: {error.strerror}") from None
        try:
            return [Multiaddr.parse(line) for line in text.split()][:MAX_NODES]
        except AddressError as error:
            raise ConfigError(f"{printable(str(self.nodes))}: {printable(str(error))}") from None

    def remember(self, addresses: list[Multiaddr]) -> None:
        """Keep where nodes are. Raises ConfigError."""
        if addresses == self.remembered():
            return
        try:
            replace_file(self.nodes, "".join(f"{each}\n" for each in addresses[:MAX_NODES]).encode())
        except OSError as error:
            raise ConfigError(f"{printable(str(self.nodes))}: cannot be written: {error.strerror}") from None


@dataclass(frozen=True)
class Network:
    """What a network's directory holds, read."""

    directory: NetworkDirectory
    key: NetworkKey
    operator: Identity
    book: MemberBook

    @property
    def name(self) -> str:
        """What the network is called; "" where it has no name."""
        return self.book.list.name if self.book.list is not None else ""
