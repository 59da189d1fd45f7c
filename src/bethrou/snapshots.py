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
    protocols: tuple[str, ...] = ()
    """What it says that it speaks; none without a link."""
    security: str = ""
    """What encrypts the link: noise or tls; "" without one."""
    sent: int = 0
    """Bytes on the link in use, both counted from its beginning."""
    received: int = 0
    no_direct_way: str = ""
    """While it is reached through a relay: why its own addresses led to nothing when they were last dialled, each with
    its reason; "": there was no such dial yet."""


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
    security: str = ""
    """What encrypts the link: noise or tls."""


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
    confirmed_by: tuple[str, ...] = ()
    """Their peer IDs, and below those of the others."""
    denied_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RelayingSnapshot:
    """What a relay carries for members, and what it may. Of limits that can be 0, that means that there is none."""

    reservations: int
    """Nodes that can be reached through it."""
    circuits: int
    relayed: int
    """Bytes in both directions since its start."""
    max_reservations: int
    max_circuits: int
    max_circuits_per_peer: int
    rate: int
    """Bytes a second of all circuits together."""
    circuit_rate: int
    """Bytes a second of one."""
    duration: int
    """Seconds that a circuit may last."""
    data: int
    """Bytes each way of a circuit."""


@dataclass(frozen=True, slots=True)
class RelaySnapshot:
    """A relay through which a node is reached, or wants to be, or over which a client has a circuit."""

    id: str
    reserved: bool
    """Whether it brings circuits to us."""
    reason: str
    """Why not, for people; "" when it does, or when nothing is known yet."""
    addresses: tuple[str, ...]
    """Where we are through it."""
    expires_in: float | None
    """Seconds that the reservation is good for if it is not renewed, by the relay's clock."""
    retry_in: float | None
    """Seconds until it is asked again."""
    duration: int = 0
    """Seconds that it lets a circuit last; 0: no limit, or it has told none."""
    data: int = 0
    """Bytes that it lets a circuit carry each way; 0: no limit, or it has told none."""


@dataclass(frozen=True, slots=True)
class NatSnapshot:
    """What is between this program and the Internet, as its peers see it."""

    kind: str
    """none; endpoint-independent: holes can be punched; symmetric: they cannot; or unknown."""
    seen_at: tuple[str, ...]
    """Where peers see the port of ours that most of them see."""
    observers: int
    """From how many IP addresses it was seen."""
    keeps_port: bool = False
    """Whether the outside port is our own."""


@dataclass(frozen=True, slots=True)
class ClockSnapshot:
    """What a peer's clock says."""

    peer: str
    offset: float
    """Seconds that it is before ours; negative: ours is before it."""
    uncertainty: float
    """Seconds, to either side."""


@dataclass(frozen=True, slots=True)
class PunchSnapshot:
    """What came of the last attempt to get a direct link to a peer in the place of a circuit."""

    peer: str
    ok: bool
    address: str
    rounds: int
    reason: str
    since: float
    """Seconds ago."""


@dataclass(frozen=True, slots=True)
class WaySnapshot:
    """A peer to which there are circuits only."""

    peer: str
    listed: tuple[str, ...]
    """Public addresses at which it says that it can be reached."""
    punches: bool
    """Whether it says that it takes part in hole punching."""


@dataclass(frozen=True, slots=True)
class ReachabilitySnapshot:
    """How others reach this program, and what stands in the way of reaching them."""

    addresses: tuple[AddressReachability, ...]
    """What the last check of public addresses found."""
    checked: float | None
    """Seconds since that check."""
    own: tuple[str, ...]
    """Every address at which it may be reached, private ones and those through relays included."""
    nat: NatSnapshot
    clocks: tuple[ClockSnapshot, ...]
    punching: bool
    """Whether it punches holes at all."""
    punchable: tuple[str, ...]
    """What it tells peers for that."""
    punches: tuple[PunchSnapshot, ...]
    ways: tuple[WaySnapshot, ...]
    relays: tuple[RelaySnapshot, ...]


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """Where an exit lets its members go, beside what is so by default."""

    allow: tuple[str, ...]
    """Its rules, as they are written."""
    deny: tuple[str, ...]
    is_exit: bool = True
    """Whether any traffic leaves the network there."""


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
    relaying: RelayingSnapshot | None = None
    """What a node relays; None: it is no relay."""
    relays: tuple[RelaySnapshot, ...] = ()
    """Through which a node is reached, or is to be."""
    reachability: tuple[AddressReachability, ...] = ()
    """What the last check of a node's public addresses found."""
    checked: float | None = None
    """Seconds since that check; None: there was none yet."""
    config: str = ""
    """Its configuration file, or "" (as the paths below, absolute)."""
    key: str = ""
    """The network key's file."""
    identity: str = ""
    """The file of its own private key; most clients have none."""
    pid: int = 0
    """Number of its process; 0: it does not say."""
    policy: PolicySnapshot | None = None
    """A node's; clients have none."""


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
