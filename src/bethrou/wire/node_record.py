"""Node records: what a member says of itself, signed by it, so that anybody may pass it on.

A signed envelope (RFC 0002) around JSON `{"id","seq","expires","name","tags","roles":["exit"],"addrs","agent"}`.
`id` is the peer ID, `addrs` are multiaddr texts, `expires` is Unix time in seconds. Fields only get added.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire.envelope import open_envelope, seal
from bethrou.wire.json_reader import decode_object, encode_compact, text_field, whole_field
from bethrou.wire.keys import Identity
from bethrou.wire.member_fields import read_addresses, read_labels, read_name, read_peer
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.reach import by_worth

DOMAIN = "bethrou-node-record"
PAYLOAD_TYPE = b"/bethrou/node-record"

MAX_PAYLOAD = 4096
"""Longest payload in bytes, so that 4,096 records are at most 16 MiB; one with five addresses has about 500."""

MAX_RECORD = MAX_PAYLOAD + 256
"""Longest envelope in bytes. Fields that no signature covers can be added to one, so it needs a bound of its own."""

MAX_ADDRESSES = 32
"""Addresses of one record; more are ignored. Honest members have a handful."""

MAX_NUMBER = (1 << 63) - 1
"""Largest `seq` and `expires`: what every implementation can hold."""

_MAX_AGENT = 128


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What `peer_id` says of itself. Its addresses are without /p2p at the end."""

    peer_id: PeerId
    seq: int
    """Of two records of a peer the one with the higher number counts."""
    expires: int
    """Unix time in seconds, after which it is void."""
    addrs: tuple[Multiaddr, ...]
    name: str = ""
    tags: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("exit",)
    """exit, relay, both or neither; what else a later version may say is kept."""
    agent: str = ""

    def seal(self, identity: Identity) -> bytes:
        """Return the signed envelope.

        ValueError when `identity` is not that of `peer_id`, and for more addresses or bytes than are read:
        `trimmed` makes a record fit.
        """
        if identity.peer_id != self.peer_id:
            raise ValueError("a node record is signed by the peer it speaks of")
        if not (0 <= self.seq <= MAX_NUMBER and 0 <= self.expires <= MAX_NUMBER):
            raise ValueError(f"seq and expires of a node record are 0 to {MAX_NUMBER}")
        if len(self.addrs) > MAX_ADDRESSES:
            raise ValueError(f"a node record has at most {MAX_ADDRESSES} addresses, not {len(self.addrs)}")
        payload = self._payload()
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a node record has at most {MAX_PAYLOAD} bytes, not {len(payload)}")
        return seal(identity, DOMAIN, PAYLOAD_TYPE, payload)

    @classmethod
    def open(cls, envelope: bytes) -> NodeRecord:
        """Read and verify a record. Raises DecodeError, also when its signer speaks of somebody else.

        Whether it has expired is the caller's question.
        """
        if len(envelope) > MAX_RECORD:
            raise DecodeError(f"node record is longer than {MAX_RECORD} bytes")
        key, payload = open_envelope(envelope, DOMAIN, PAYLOAD_TYPE)
        peer = PeerId.from_public_key(key)
        message = decode_object(payload, MAX_PAYLOAD)
        if read_peer(message) != peer:
            raise DecodeError("node record is not signed by the peer it speaks of")
        agent = text_field(message, "agent")
        return cls(
            peer_id=peer,
            seq=whole_field(message, "seq", MAX_NUMBER),
            expires=whole_field(message, "expires", MAX_NUMBER),
            addrs=read_addresses(message, peer, MAX_ADDRESSES),
            name=read_name(message),
            tags=read_labels(message, "tags"),
            roles=("exit",) if message.get("roles") is None else read_labels(message, "roles"),
            agent=agent if len(agent) <= _MAX_AGENT and agent.isprintable() else "",
        )

    def expired(self, now: float) -> bool:
        """Whether it is void at the Unix time `now`."""
        return now >= self.expires

    def trimmed(self) -> NodeRecord:
        """Return the record with as many of its addresses as fit, those of most use first (`by_worth`)."""
        record = replace(self, addrs=by_worth(self.addrs)[:MAX_ADDRESSES])
        while record.addrs and len(record._payload()) > MAX_PAYLOAD:
            record = replace(record, addrs=record.addrs[:-1])
        return record

    def _payload(self) -> bytes:
        message: dict[str, Any] = {"id": str(self.peer_id), "seq": self.seq, "expires": self.expires}
        if self.name:
            message["name"] = self.name
        if self.tags:
            message["tags"] = self.tags
        message["roles"] = self.roles
        message["addrs"] = [str(address) for address in self.addrs]
        if self.agent:
            message["agent"] = self.agent
        return encode_compact(message)


class RecordCache:
    """Records whose bytes were verified before: a signature costs 130 us, and every record comes again and again.

    What was used least recently goes when there are more than `max_records`, or `max_bytes` of envelopes.
    """

    __slots__ = ("_bytes", "_known", "_max_bytes", "_max_records")

    def __init__(self, max_records: int = 8192, max_bytes: int = 8 << 20) -> None:
        """Take the bounds: by default two records of each of the 4,096 members that are known at most."""
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: OrderedDict[bytes, tuple[NodeRecord, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, envelope: bytes) -> bool:
        return hashlib.sha256(envelope).digest() in self._known

    def open(self, envelope: bytes, peer: PeerId | None = None) -> NodeRecord:
        """Return the record, verified now or before. Raises DecodeError as `NodeRecord.open` does.

        It does so, too, when the record is not of `peer`, for whom it was given.
        """
        digest = hashlib.sha256(envelope).digest()
        known = self._known.get(digest)
        if known is None:
            record = NodeRecord.open(envelope)
            self._add(digest, record, len(envelope))
        else:
            record = known[0]
            self._known.move_to_end(digest)
        if peer is not None and record.peer_id != peer:
            raise DecodeError("node record is of another peer than it was given for")
        return record

    def _add(self, digest: bytes, record: NodeRecord, size: int) -> None:
        self._known[digest] = (record, size)
        self._bytes += size
        while len(self._known) > self._max_records or self._bytes > self._max_bytes:
            _, (_, size) = self._known.popitem(last=False)
            self._bytes -= size
