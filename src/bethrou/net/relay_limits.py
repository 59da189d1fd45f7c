"""What an operator lets a relay carry."""

from __future__ import annotations

from dataclasses import dataclass

from bethrou.wire.circuit import Limit

_BURST = 0.25  # seconds of an allowance that may be used at once after a pause
_SMALLEST_BURST = 64 * 1024  # bytes; one frame


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Bounds of a relay. 0 means that there is none; by default circuits may last and carry as much as they like."""

    reservations: int = 2048
    """Peers that can be reached through the relay; each has one reservation, for about 18 KiB with its link."""
    circuits: int = 4096
    """Circuits at once."""
    circuits_per_peer: int = 1024
    """Circuits that one peer has opened, and circuits that lead to one peer: an exit serves many clients."""
    rate: int = 0
    """Bytes a second of all circuits together, in both directions."""
    circuit_rate: int = 0
    """Bytes a second of one circuit, in both directions."""
    duration: int = 0
    """Seconds that a circuit may last."""
    data: int = 0
    """Bytes that a circuit may carry in each direction."""

    @property
    def announced(self) -> Limit | None:
        """What peers are told of a circuit. go and js treat one with any limit as second-rate, so that none is told
        where none is."""
        return Limit(self.duration, self.data) if self.duration or self.data else None


class Allowance:
    """Bytes that may pass in time: a token bucket of `rate` bytes a second (0: no bound). Times are in seconds.

    Whoever takes more than is there waits until it is; several of them wait in the order in which they took, so that
    all go on at a steady pace and none stands for longer than its bytes need.
    """

    __slots__ = ("_burst", "_rate", "_used_until")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._burst = max(_BURST, _SMALLEST_BURST / rate) if rate else 0.0
        self._used_until = now - self._burst

    def take(self, size: int, now: float) -> float:
        """Let `size` bytes pass; for how many seconds whoever sent them has to wait with more."""
        if not self._rate:
            return 0.0
        self._used_until = max(self._used_until, now - self._burst) + size / self._rate
        return max(0.0, self._used_until - now)
