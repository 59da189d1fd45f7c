"""What stands behind the resolver: something that can look up one name."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, TypeAlias

from bethrou.errors import Failure, RequestError

Address: TypeAlias = IPv4Address | IPv6Address

MAX_ADDRESSES = 32
"""Most addresses kept of one name, IPv4 and IPv6 together; nobody dials more."""

MAX_LOOKUPS = 1024
"""Most names looked up at the same time. Each may hold a datagram or a thread's place for some seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The addresses of a name, at least one, and for how many seconds they may be kept."""

    addresses: tuple[Address, ...]
    ttl: float


class NameSource(Protocol):
    """Looks names up, without memory and without judging them."""

    async def look_up(self, name: str) -> Answer:
        """Find the addresses of a valid lower-case name without a dot at its end.

        Raises RequestError. Cancelling it is safe at any time.
        """

    async def close(self) -> None:
        """Give everything back. No look-up may be under way."""


def no_such_host(name: str) -> RequestError:
    """Return the error for a name without addresses. Go clients look for these very words."""
    return RequestError(Failure.NO_SUCH_HOST, f"lookup {name}: no such host")


def too_many_lookups(name: str) -> RequestError:
    """Return the error for a look-up that finds no place; another exit may have one."""
    return RequestError(Failure.OVERLOADED, f"lookup {name}: too many look-ups are waiting for an answer")
