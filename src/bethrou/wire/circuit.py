"""Circuit relay v2: what hop and stop streams say before they carry a circuit (spec: libp2p/specs relay/circuit-v2.md).

HopMessage { type = 1, peer = 2, reservation = 3, limit = 4, status = 5 },
StopMessage { type = 1, peer = 2, limit = 3, status = 4 }, Peer { id = 1, addrs = 2 repeated },
Reservation { expire = 1, addrs = 2 repeated, voucher = 3 }, Limit { duration = 1, data = 2 }.

Each travels behind its length, at most 4,096 bytes. The type is written out when it is zero, too: js refuses a message
without one. What comes right behind CONNECT and STATUS belongs to the circuit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import open_envelope, seal
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.peer_record import read_addresses

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/stop"

MAX_MESSAGE = 4096
"""Longest message in bytes, without its length prefix (specification)."""

VOUCHER_DOMAIN = "libp2p-relay-rsvp"
VOUCHER_TYPE = b"\x03\x02"

_MAX_DURATION = (1 << 32) - 1  # specification: uint32


class HopType(IntEnum):
    """What a hop message is."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(IntEnum):
    """What a stop message is."""

    CONNECT = 0
    STATUS = 1


class Status(IntEnum):
    """How a request ended (specification, Status codes and error handling)."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True)
class Limit:
    """What a circuit may carry. That it is there at all makes the circuit a limited one to go; 0 means no limit."""

    duration: int = 0
    """Seconds (js relays write milliseconds)."""
    data: int = 0
    """Bytes in each direction."""

    def encode(self) -> bytes:
        """Return the message; as in go, a zero is left out."""
        duration = protobuf.uint(1, self.duration) if self.duration else b""
        return duration + (protobuf.uint(2, self.data) if self.data else b"")

    @classmethod
    def decode(cls, message: bytes) -> Limit:
        """Read it. Raises DecodeError."""
        fields = _Fields(message)
        return cls(min(fields.number(1) or 0, _MAX_DURATION), fields.number(2) or 0)


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a relay grants: circuits to the peer until `expire`."""

    expire: int
    """Unix time in seconds."""
    addrs: tuple[Multiaddr, ...] = ()
    """Where the relay can be reached; they end in /p2p and the relay's peer ID."""
    voucher: bytes = b""
    """An envelope in which the relay says so (`Voucher`), or nothing."""

    def encode(self) -> bytes:
        """Return the message."""
        addrs = b"".join(protobuf.blob(2, address.encode()) for address in self.addrs)
        return (
            protobuf.uint(1, self.expire) + addrs + (protobuf.blob(3, self.voucher) if self.voucher else b"")
        )

    @classmethod
    def decode(cls, message: bytes) -> Reservation:
        """Read it; addresses that make no sense are left out. Raises DecodeError."""
        fields = _Fields(message, repeated=(2,))
        return cls(fields.number(1) or 0, read_addresses(fields.lists[2]), fields.blob(3) or b"")


@dataclass(frozen=True, slots=True)
class Voucher:
    """A relay's signed word that `peer` may be reached through it."""

    relay: PeerId
    peer: PeerId
    expiration: int
    """Unix time in seconds."""

    def seal(self, identity: Identity) -> bytes:
        """Return the envelope. `identity` must be the relay's; ValueError otherwise."""
        if identity.peer_id != self.relay:
            raise ValueError("a voucher is signed by the relay it speaks of")
        payload = protobuf.blob(1, self.relay.raw) + protobuf.blob(2, self.peer.raw)
        return seal(identity, VOUCHER_DOMAIN, VOUCHER_TYPE, payload + protobuf.uint(3, self.expiration))

    @classmethod
    def open(cls, envelope: bytes) -> Voucher:
        """Read and verify a voucher. Raises DecodeError, also when its signer speaks of another relay."""
        key, payload = open_envelope(envelope, VOUCHER_DOMAIN, VOUCHER_TYPE)
        fields = _Fields(payload)
        relay, peer = fields.blob(1), fields.blob(2)
        if relay is None or peer is None:
            raise DecodeError("the voucher does not say of whom it speaks")
        voucher = cls(PeerId.decode(relay), PeerId.decode(peer), fields.number(3) or 0)
        if voucher.relay != PeerId.from_public_key(key):
            raise DecodeError("the voucher is not signed by the relay it speaks of")
        return voucher


@dataclass(frozen=True, slots=True)
class HopMessage:
    """One message between a relay and whoever asks it for a reservation or a circuit."""

    type: HopType
    peer: PeerId | None = None
    """CONNECT: to whom."""
    reservation: Reservation | None = None
    limit: Limit | None = None
    status: int | None = None
    """A `Status`, or a number that only the other side knows."""

    def encode(self) -> bytes:
        """Return the message behind its length."""
        out = [protobuf.uint(1, self.type)]
        if self.peer is not None:
            out.append(protobuf.blob(2, _encode_peer(self.peer)))
        if self.reservation is not None:
            out.append(protobuf.blob(3, self.reservation.encode()))
        if self.limit is not None:
            out.append(protobuf.blob(4, self.limit.encode()))
        if self.status is not None:
            out.append(protobuf.uint(5, self.status))
        return protobuf.length_prefixed(b"".join(out))

    @classmethod
    def decode(cls, message: bytes) -> HopMessage:
        """Read a message without its length. Raises DecodeError."""
        fields = _Fields(message)
        peer, reservation, limit = fields.blob(2), fields.blob(3), fields.blob(4)
        return cls(
            HopType(fields.one_of(1, HopType)),
            None if peer is None else _decode_peer(peer),
            None if reservation is None else Reservation.decode(reservation),
            None if limit is None else Limit.decode(limit),
            fields.number(5),
        )


@dataclass(frozen=True, slots=True)
class StopMessage:
    """One message between a relay and the peer to which a circuit shall lead."""

    type: StopType
    peer: PeerId | None = None
    """CONNECT: from whom, says the relay."""
    limit: Limit | None = None
    status: int | None = None
    """A `Status`, or a number that only the other side knows."""

    def encode(self) -> bytes:
        """Return the message behind its length."""
        out = [protobuf.uint(1, self.type)]
        if self.peer is not None:
            out.append(protobuf.blob(2, _encode_peer(self.peer)))
        if self.limit is not None:
            out.append(protobuf.blob(3, self.limit.encode()))
        if self.status is not None:
            out.append(protobuf.uint(4, self.status))
        return protobuf.length_prefixed(b"".join(out))

    @classmethod
    def decode(cls, message: bytes) -> StopMessage:
        """Read a message without its length. Raises DecodeError."""
        fields = _Fields(message)
        peer, limit = fields.blob(2), fields.blob(3)
        return cls(
            StopType(fields.one_of(1, StopType)),
            None if peer is None else _decode_peer(peer),
            None if limit is None else Limit.decode(limit),
            fields.number(4),
        )


def describe_status(status: int | None) -> str:
    """Say a status for people."""
    try:
        return f"{Status(status).name.lower().replace('_', ' ')} ({status})" if status else "no status"
    except ValueError:
        return f"status {status}"


class _Fields:
    """The known fields of one message: the last of each counts, but for those that may be repeated."""

    def __init__(self, message: bytes, repeated: Collection[int] = ()) -> None:
        self.lists: dict[int, list[bytes]] = {number: [] for number in repeated}
        self._found: dict[int, int | bytes] = {}
        if len(message) > MAX_MESSAGE:
            raise DecodeError(f"a relay message of {len(message)} bytes; at most {MAX_MESSAGE} are allowed")
        for number, _, value in protobuf.fields(message):
            if number not in self.lists:
                self._found[number] = value
            elif isinstance(value, bytes):
                self.lists[number].append(value)

    def number(self, field: int) -> int | None:
        """A number, if it is there."""
        value = self._found.get(field)
        if isinstance(value, bytes):
            raise DecodeError(f"field {field} of a relay message has the wrong wire type")
        return value

    def blob(self, field: int) -> bytes | None:
        """Bytes or a message, if they are there."""
        value = self._found.get(field)
        if isinstance(value, int):
            raise DecodeError(f"field {field} of a relay message has the wrong wire type")
        return value

    def one_of(self, field: int, known: type[IntEnum]) -> int:
        """A number that must be there and known. proto3 writers leave a zero out, so that nothing means zero."""
        value = self.number(field) or 0
        if value not in known._value2member_map_:
            raise DecodeError(f"a relay message of unknown type {value}")
        return value


def _encode_peer(peer: PeerId) -> bytes:
    return protobuf.blob(1, peer.raw)


def _decode_peer(message: bytes) -> PeerId:
    raw = _Fields(message).blob(1)
    if raw is None:
        raise DecodeError("a relay message names a peer without its ID")
    return PeerId.decode(raw)
