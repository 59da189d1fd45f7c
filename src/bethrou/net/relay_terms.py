"""What relays have told us of the circuits that they carry: how much, how long, and until when they bring some to us.

Spec: libp2p/specs relay/circuit-v2.md, Reservation (expire) and Limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from bethrou.wire.circuit import Limit, Reservation
from bethrou.wire.peer_id import PeerId

MAX_RELAYS = 256
"""Relays whose terms are remembered; then those that have told nothing new for longest are forgotten."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one relay."""

    limit: Limit | None
    """Of each circuit; None: there is none."""
    reserved_until: int | None = None
    """Unix time in seconds by the relay's clock, if we ever had a reservation there."""


class RelayTerms:
    """Those of every relay that has told us any."""

    def __init__(self) -> None:
        self.told: dict[PeerId, Terms] = {}

    def reserved(self, relay: PeerId, reservation: Reservation, limit: Limit | None) -> None:
        """The relay has made a reservation for us."""
        self._note(relay, Terms(limit, reservation.expire))

    def opened(self, relay: PeerId, limit: Limit | None) -> None:
        """The relay carries a circuit of ours."""
        before = self.told.get(relay)
        self._note(relay, Terms(limit, None if before is None else before.reserved_until))

    def _note(self, relay: PeerId, terms: Terms) -> None:
        self.told.pop(relay, None)
        self.told[relay] = terms
        if len(self.told) > MAX_RELAYS:
            del self.told[next(iter(self.told))]
