"""One exit as the pool knows it: where it may be, its link, and what it and its link say of its health."""

from __future__ import annotations

from dataclasses import dataclass

from bethrou.net.link import Link
from bethrou.proxy.candidates import Candidate
from bethrou.proxy.health import Health, State
from bethrou.snapshots import ExitSnapshot, LoadSnapshot
from bethrou.wire.identify import Identify
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.state_message import StateMessage

DISCOVERED = 1 << 20
"""The preference of exits that the configuration does not name: they stand behind all that it does."""


@dataclass(frozen=True, slots=True)
class ExitAddress:
    """An exit as the configuration or discovery knows it."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    name: str = ""
    """What it calls itself there; what it says on its link counts for more."""
    tags: tuple[str, ...] = ()
    preference: int = DISCOVERED
    """Its place in the configuration, from 0."""
    proven: bool = False
    """Whether it worked the last time."""
    sources: tuple[str, ...] = ("static",)

    @property
    def preferred(self) -> bool:
        """Whether the configuration names it."""
        return self.preference < DISCOVERED


class Exit:
    """One exit and what is known of it now. Thousands may be known: nothing is kept that is not needed."""

    __slots__ = (
        "address",
        "attempt",
        "away_since",
        "dismissed",
        "failed_at",
        "forgotten",
        "health",
        "kept_until",
        "link",
        "load",
        "no_direct_way",
        "peer",
        "said",
        "streams",
        "worked",
    )

    def __init__(self, address: ExitAddress, now: float) -> None:
        self.peer = address.peer
        self.address = address
        self.link: Link | None = None
        """Set while requests can be sent."""
        self.said: StateMessage | None = None
        """What it last said of itself; None: nothing yet, so that it counts as serving."""
        self.load: LoadSnapshot | None = None
        """What it says of its load, kept with it because every request asks for it."""
        self.health = Health(since=now)
        self.streams = 0
        """Our live requests on it."""
        self.attempt = 0
        """Dials in a row that led to nothing worth keeping."""
        self.worked = False
        """Whether there has been a link to it."""
        self.away_since = now
        self.failed_at = 0.0
        """When the last dial failed, or the last link was lost."""
        self.kept_until = 0.0
        """Until when it is not given up for a better one: somebody asked for it, or it is being measured."""
        self.no_direct_way = ""
        """While it is reached through a relay: what came of the last dial of its own addresses; "": nothing yet."""
        self.forgotten = False
        """Whether no source knows it any more: it is used as long as its link lasts."""

        self.dismissed = False
        """Whether it is to be used no more: what is on it finishes."""

    @property
    def statement(self) -> Identify | None:
        """What it last said of itself; None while there is no link, or when it will not say."""
        return self.link.statement if self.link is not None else None

    @property
    def usable(self) -> bool:
        """Whether a request may be sent to it now."""
        return self.link is not None and self.link.alive and self.health.state.usable and not self.dismissed

    @property
    def name(self) -> str:
        """What it calls itself; a claim."""
        return (self.said.name if self.said is not None else "") or self.address.name

    @property
    def tags(self) -> tuple[str, ...]:
        """What it may be chosen by; claims, too."""
        return (self.said.tags if self.said is not None else ()) or self.address.tags

    def hears(self, said: StateMessage | None) -> None:
        """The exit says this of itself from now on; None: nothing."""
        self.said = said
        self.load = None if said is None else LoadSnapshot(said.streams, said.cpu, said.limit)

    def dialled_in_vain(self, reason: str) -> None:
        """It is reached through a relay, and none of its own addresses led to it."""
        self.no_direct_way = reason

    def candidate(self, now: float) -> Candidate:
        """What a strategy has to know of it."""
        health = self.health
        return Candidate(
            str(self.peer),
            health.round_trip or 0.0,
            health.state,
            health.may_try(now),
            self.address.preference,
            self.load,
            self.streams,
            health.stable_for(now),
            self.name,
            self.tags,
        )

    def snapshot(self, now: float) -> ExitSnapshot:
        """What the outside may see."""
        link, health = self.link, self.health
        tried = link is not None or self.attempt > 0 or self.address.preferred
        return ExitSnapshot(
            id=str(self.peer),
            name=self.name,
            tags=self.tags,
            state="draining" if self.dismissed else health.state.value if tried else "known",
            reason="no longer in the configuration" if self.dismissed else self._reason(tried),
            since=max(0.0, now - health.since),
            round_trip=health.round_trip,
            path=link.path if link is not None else "",
            address=str(link.remote) if link is not None else "",
            addresses=tuple(str(address) for address in self.address.addresses),
            sources=self.address.sources,
            streams=self.streams,
            load=self.load,
            agent=self.statement.agent_version if self.statement is not None else "",
            sent=link.bytes_sent if link is not None else 0,
            received=link.bytes_received if link is not None else 0,
            protocols=self.statement.protocols if self.statement is not None else (),
            security=link.security if link is not None else "",
            no_direct_way=self.no_direct_way,
        )

    def _reason(self, tried: bool) -> str:
        if not tried or self.health.state is State.HEALTHY:
            return ""  # how it came to be well needs no saying
        return self.health.reason
