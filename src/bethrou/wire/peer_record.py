"""Peer records: the addresses of a peer, signed by itself (spec: libp2p/specs RFC 0003).

PeerRecord { peer_id = 1 bytes, seq = 2 uint64, addresses = 3 repeated AddressInfo { multiaddr = 1 bytes } },
inside a signed envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import open_envelope, seal
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

DOMAIN = "libp2p-peer-record"
PAYLOAD_TYPE = b"\x03\x01"

MAX_ADDRESSES = 128
"""Addresses taken from one record or identify message; more are ignored. Honest peers list a dozen."""


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where `peer_id` says it can be reached; of two records the one with the higher `seq` counts."""

    peer_id: PeerId
    seq: int
    addresses: tuple[Multiaddr, ...]

    def seal(self, identity: Identity) -> bytes:
        """Return the envelope. `identity` must be that of `peer_id`; ValueError otherwise."""
        if identity.peer_id != self.peer_id:
            raise ValueError("a peer record is signed by the peer it speaks of")
        body = protobuf.blob(1, self.peer_id.raw) + protobuf.uint(2, self.seq)
        body += b"".join(protobuf.blob(3, protobuf.blob(1, address.encode())) for address in self.addresses)
        return seal(identity, DOMAIN, PAYLOAD_TYPE, body)

    @classmethod
    def open(cls, envelope: bytes) -> PeerRecord:
        """Read and verify a record. Raises DecodeError, also when its signer speaks of somebody else."""
        key, payload = open_envelope(envelope, DOMAIN, PAYLOAD_TYPE)
        peer_id: PeerId | None = None
        seq = 0
        infos: list[bytes] = []
        for number, _, value in protobuf.fields(payload):
            if number == 1 and isinstance(value, bytes):
                peer_id = PeerId.decode(value)
            elif number == 2 and isinstance(value, int):
                seq = value
            elif number == 3 and isinstance(value, bytes):
                infos.append(value)
        if peer_id is None or peer_id != PeerId.from_public_key(key):
            raise DecodeError("peer record is not signed by the peer it speaks of")
        return cls(peer_id, seq, read_addresses([_multiaddr_field(info) for info in infos]))


def read_addresses(encoded: Sequence[bytes]) -> tuple[Multiaddr, ...]:
    """Return those of the binary addresses that parse, in order, each once, at most MAX_ADDRESSES.

    Peers list transports that others do not know; such entries are no reason to lose the rest.
    """
    found: dict[Multiaddr, None] = {}
    for raw in encoded[:MAX_ADDRESSES]:
        try:
            found[Multiaddr.decode(raw)] = None
        except DecodeError:
            continue
    return tuple(found)


def _multiaddr_field(info: bytes) -> bytes:
    raw = b""
    for number, _, value in protobuf.fields(info):
        if number == 1 and isinstance(value, bytes):
            raw = value
    return raw
