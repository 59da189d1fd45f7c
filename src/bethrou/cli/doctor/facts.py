"""What is known of a client or node, gathered once; the checks look at nothing else. None: it could not be asked."""

from __future__ import annotations

from dataclasses import dataclass

from bethrou.config import ClientConfig, NodeConfig
from bethrou.snapshots import ConnectionSnapshot, ReachabilitySnapshot, StatusSnapshot

CLIENT, NODE = "client", "node"


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file that holds a secret."""

    what: str
    """network key, identity or configuration."""
    path: str
    error: str = ""
    """Why it cannot be used, naming the file."""
    mode: int = 0o600
    owner: int | None = None
    """User number; None: not known."""
    fingerprint: str = ""
    """Of a network key."""


@dataclass(frozen=True, slots=True)
class PortFact:
    """A TCP port on which the program listens, or would."""

    address: str
    """As the program or its configuration writes it."""
    taken: bool | None
    """Whether somebody listens there; None: that cannot be seen here."""
    holders: tuple[tuple[int, str], ...] = ()
    """The processes, by number and name, as far as they can be seen."""


@dataclass(frozen=True, slots=True)
class RedisFact:
    """What came of connecting to Redis from here."""

    where: str
    error: str = ""
    seconds: float | None = None
    """For a connection with its login."""
    clock_offset: float | None = None
    """Seconds that its clock is before ours; None: it does not let us ask."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All of them."""

    role: str
    """client or node."""
    user: int
    """Number of the user who asks."""
    config_path: str = ""
    """The configuration file; "": there is none, or none is known."""
    config: ClientConfig | NodeConfig | None = None
    config_error: str = ""
    files: tuple[FileFact, ...] = ()
    status: StatusSnapshot | None = None
    """None: it does not run."""
    not_running: str = ""
    """Why it could not be asked."""
    reach: ReachabilitySnapshot | None = None
    connections: tuple[ConnectionSnapshot, ...] = ()
    ports: tuple[PortFact, ...] = ()
    redis: RedisFact | None = None
    """None: no configuration says that Redis is used."""
