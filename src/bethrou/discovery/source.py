"""What every source of exits has in common: it says whom it sees, and who is gone.

Nothing that a source says is trusted: identity is what Noise proves when the exit is dialled. So a sighting is only a
hint at where to dial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bethrou.snapshots import SourceSnapshot
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one source says of one member."""

    source: str
    """static, redis, members or cache."""
    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    name: str = ""
    tags: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("exit",)
    agent: str = ""
    seq: int = 0
    """Of two sightings by one source the one with the higher number counts; 0 where there is no such number."""
    expires: float | None = None
    """Unix time in seconds after which it is void; None: never."""
    record: bytes | None = None
    """The signed record behind it, if there is one: what may be passed on to others."""


class Listener(Protocol):
    """Who is told."""

    def seen(self, sighting: Sighting) -> None:
        """A source sees a member, or sees it again."""

    def gone(self, source: str, peer: PeerId) -> None:
        """A source says that a member has left."""


class Source(Protocol):
    """A source at work. It never raises at its user: what goes wrong stands in its snapshot, and it goes on trying."""

    def start(self) -> None:
        """Begin; tasks belong to the source."""

    async def close(self) -> None:
        """End, with nothing left behind."""

    def snapshot(self) -> SourceSnapshot:
        """How it is doing."""
