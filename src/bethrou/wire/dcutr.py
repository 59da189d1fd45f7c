"""DCUtR, direct connection upgrade through relay: how two peers agree on the moment to dial each other.

Spec: libp2p/specs relay/DCUtR.md. HolePunch { type = 1 enum (CONNECT 100, SYNC 300), ObsAddrs = 2 repeated bytes },
each message behind its length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_record import read_addresses

PROTOCOL = "/libp2p/dcutr"

MAX_MESSAGE = 4096
"""Longest message in bytes (spec: 4 KiB)."""


class Kind(IntEnum):
    """What a message says."""

    CONNECT = 100
    SYNC = 300


@dataclass(frozen=True, slots=True)
class HolePunch:
    """One message. A CONNECT names the addresses at which others see its sender; a SYNC says "now"."""

    kind: Kind
    addresses: tuple[Multiaddr, ...] = ()

    def encode(self) -> bytes:
        """Return the message without its length prefix."""
        return protobuf.uint(1, self.kind) + b"".join(
            protobuf.blob(2, address.encode()) for address in self.addresses
        )


def connect(addresses: Iterable[Multiaddr]) -> HolePunch:
    """Return the CONNECT that offers `addresses`."""
    return HolePunch(Kind.CONNECT, tuple(addresses))


SYNC = HolePunch(Kind.SYNC)


def decode(message: bytes, expected: Kind) -> HolePunch:
    """Read a message that has to be of one kind. Addresses that do not parse are left out. Raises DecodeError."""
    if len(message) > MAX_MESSAGE:
        raise DecodeError(f"hole punch message is longer than {MAX_MESSAGE} bytes")
    kind: int | None = None
    addresses: list[bytes] = []
    for number, _, value in protobuf.fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            addresses.append(value)
    if kind != expected:
        raise DecodeError(f"hole punch message of type {kind} instead of {expected.name} ({expected.value})")
    return HolePunch(expected, read_addresses(addresses))
