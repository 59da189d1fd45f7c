"""What the outside may see of a running client or node: dataclasses only, made at one moment, safe to keep.

The control socket turns them into JSON and `bethrou status`, `why` and `connections` into tables. Fields only get
added. Times are seconds; `since` and the like are how long ago, so that no clock has to be shared.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """What an exit last said of its load."""

    streams: int
    """Requests that it carries, for all its members."""
    cpu: float
    """Share of one core, 0 to 1."""
    limit: int | None
    """Most requests at a time, or None."""


@dataclass(frozen=True, slots=True)
class ExitSnapshot:
    """One exit that a client knows, or that a node knows of."""

    id: str
    name: str
    tags: tuple[str, ...]
    state: str
    """connecting, healthy, slow, suspect, down, draining, or known: not among those that are kept connected."""
    reason: str
    """Why it is in that state, for people; "" when nothing needs saying."""
    since: float
    """Seconds that it has been in that state."""
    round_trip: float | None
    """Seconds, the median of the last ones; None without a link."""
    path: str
    """How it is reached: direct, circuit, or "" without a link."""
    address: str
    """The address in use, or ""."""
    addresses: tuple[str, ...]
    sources: tuple[str, ...]
    """Where it is known from: static, redis, members, cache."""
    streams: int
    """Requests of this client that it carries."""
    load: LoadSnapshot | None
    agent: str = ""


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """One source of exits."""

    name: str
    ok: bool
    detail: str
    """What is wrong, or what it does, for people."""
    known: int
    """Exits that it knows now."""
    heard: int
    """Messages that were taken."""
    skipped: int
    """Messages that made no sense or were not genuine."""
    silent_for: float | None
    """Seconds since it last heard anything; None when it never has."""


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """One proxied connection that is alive."""

    id: str
    destination: str
    peer: str
    """The exit that carries it (client) or the member that asked (node); "" while an exit is being chosen."""
    user: str
    sent: int
    """Bytes from the application."""
    received: int
    """Bytes to the application."""
    seconds: float
    """How long it has been open."""
    idle: float
    """Seconds since the last byte."""


@dataclass(frozen=True, slots=True)
class MemberSnapshot:
    """One peer with a link to this program."""

    id: str
    address: str
    path: str
    agent: str
    streams: int
    round_trip: float
    sent: int
    received: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AddressReachability:
    """Whether others can reach this program at one of its public addresses, as peers found that tried."""

    address: str
    verdict: str
    """reachable, unreachable, or unknown: nobody could be asked, or those who were do not agree."""
    confirmed: int
    """Peers that came in there."""
    denied: int
    """Peers that tried in vain."""
    asked: int


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """All of it."""

    role: str
    """client or node."""
    version: str
    id: str
    """This program's peer ID."""
    network: str
    """Fingerprint of the network key."""
    uptime: float
    draining: bool
    listening: tuple[str, ...]
    """Where applications (client) or members (node) connect."""
    connections: int
    """Proxied connections alive."""
    strategy: str = ""
    """The client's strategy."""
    exits: tuple[ExitSnapshot, ...] = ()
    """All with a link or in the configuration, and some of the others."""
    exits_known: int = 0
    """How many there are in all."""
    members: tuple[MemberSnapshot, ...] = ()
    """A node's members; a client lists none."""
    sources: tuple[SourceSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class CandidateSnapshot:
    """One exit in the answer to `why`."""

    id: str
    name: str
    place: int | None
    """1 for the exit that would be asked first; None: it would not be asked."""
    reason: str
    """What put it there, or keeps it out, for people."""
    round_trip: float | None
    state: str


@dataclass(frozen=True, slots=True)
class WhySnapshot:
    """How a request would choose its exit now, found without connecting."""

    destination: str
    rule: str
    """The rule that applies, as it is written, or "" when none does."""
    action: str
    """exit, direct or block."""
    strategy: str
    candidates: tuple[CandidateSnapshot, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What else is worth knowing, a sentence each."""
