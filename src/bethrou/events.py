"""What happened, as facts for whoever watches: one dataclass for each, past tense, no secrets.

The parts emit them through a callable that is passed in; logs (and later metrics) turn them into what people read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)  # frozen ones take five times as long to make, and every request has one
class RequestEnded:
    """A proxied request is over, carried out or not. Emitted on both sides, with the same `id` on both."""

    id: str
    """16 hex digits; "" when the client gave none (Go)."""
    peer: str
    """The exit that carried it (client) or the member that asked (node); "" if there was none."""
    destination: str
    """host:port as it was asked for."""
    result: str
    """"ok", "aborted", or the failure's code."""
    reason: str
    """What happened, for people; "" when nothing needs saying."""
    sent: int
    """Bytes from the application to the destination."""
    received: int
    """Bytes from the destination to the application."""
    seconds: float
    user: str = ""
    connected: float | None = None
    """Seconds until the destination was connected; None: it never was."""
    first_byte: float | None = None
    """Seconds until its first byte came; None: there was none."""


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link to a peer is up."""

    peer: str
    address: str
    path: str
    inbound: bool


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """A link to a peer is gone."""

    peer: str
    address: str
    reason: str
    sent: int = 0
    """Bytes that went over it."""
    received: int = 0


@dataclass(frozen=True, slots=True)
class DialFailed:
    """No address of an exit led to a link; it is tried again in `retry_in` seconds."""

    peer: str
    reason: str
    retry_in: float
    preferred: bool = True
    """Whether the configuration names it: of those that were only discovered, many are away."""


@dataclass(frozen=True, slots=True)
class ExitChanged:
    """An exit is in another state now."""

    peer: str
    name: str
    """What it calls itself, or ""."""
    old: str
    new: str
    """connecting, healthy, slow, suspect, down or draining."""
    reason: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """A source of exits (redis, members, cache) cannot be heard any more, or is well again (`ok`)."""

    source: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class StrangerRefused:
    """Somebody connected who is no member, or no application that may. `service` is "link" or "socks"."""

    service: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class DescriptorsShort:
    """File descriptors ran out (`short`), or are there again."""

    service: str
    short: bool


@dataclass(frozen=True, slots=True)
class RelayReserved:
    """A relay brings circuits to this node from now on, at these addresses."""

    relay: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RelayLost:
    """A relay brings us no circuits; it is asked again in `retry_in` seconds."""

    relay: str
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class ReachabilityChanged:
    """Other members have found out whether they can reach this node at an address of its own, without a relay."""

    reachable: bool
    detail: str
    """What was found, for people."""
    relays: int
    """Relays that this node knows, and may use where it cannot be reached."""


@dataclass(frozen=True, slots=True)
class CircuitEnded:
    """A circuit that this relay carried is over."""

    source: str
    target: str
    reason: str
    """Why it was ended, for people; "" when both sides ended it in peace."""
    sent: int
    """Bytes from the source to the target."""
    received: int
    """Bytes from the target to the source."""
    seconds: float


@dataclass(frozen=True, slots=True)
class HolePunched:
    """There is a direct link to a peer with whom there was only a circuit."""

    peer: str
    address: str
    """Where the peer is on that link."""
    rounds: int
    """How often both sides connected at the same moment; 0: the peer could simply be dialled."""
    seconds: float
    """From the start of the first attempt."""


@dataclass(frozen=True, slots=True)
class HolePunchFailed:
    """No direct link to a peer came about; the circuit goes on serving."""

    peer: str
    address: str
    """Where it was tried, the first of several addresses; "" when it did not come to that."""
    rounds: int
    """As in `HolePunched`; 0: nothing was tried, or the two could not agree on it."""
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class MemberListTaken:
    """The operator's list is another one now, of this serial."""

    serial: int
    members: int
    added: tuple[str, ...]
    """Who is new, by name or else by peer ID."""
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberListUnwritten:
    """The member list could not be written to disk; it is obeyed all the same."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """A device has joined by an invite, here or at another node."""

    peer: str
    name: str
    role: str
    """client or node."""


@dataclass(frozen=True, slots=True)
class InviteRefused:
    """A device wanted to join with an invite that is no good."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class InviteUsedTwice:
    """Two nodes have let two devices in with one invite; this one is out. Somebody else has had the link."""

    peer: str
    name: str


@dataclass(frozen=True, slots=True)
class MemberCutOff:
    """The link to somebody who is no member is closed."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A node says that we are no member: `standing` is "unknown" or "removed"."""

    peer: str
    standing: str


Event = (
    RequestEnded
    | LinkOpened
    | LinkClosed
    | DialFailed
    | ExitChanged
    | SourceChanged
    | StrangerRefused
    | DescriptorsShort
    | RelayReserved
    | RelayLost
    | ReachabilityChanged
    | CircuitEnded
    | HolePunched
    | HolePunchFailed
    | MemberListTaken
    | MemberListUnwritten
    | MemberJoined
    | InviteRefused
    | InviteUsedTwice
    | MemberCutOff
    | TurnedAway
)

Emit = Callable[[Event], None]
