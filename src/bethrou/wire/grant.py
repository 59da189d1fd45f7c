"""How a device is let in: what the operator grants, what the device makes of it, and what a node says of that.

    Grant       signed by the operator      one device, of this name and role, may join until then
    Redemption  signed by the grant's key   this peer ID is that device
    Admission   signed by a node            it has shown me both, at this time

An invite holds a grant and the private half of the grant's key. So nobody can redeem it for another peer ID than the
holder of the link wants, a node neither; and an admission convinces every member while the operator's key is elsewhere.
Each is a signed envelope (RFC 0002) around a protobuf message; fields only get added.
"""

from __future__ import annotations

from dataclasses import dataclass

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import open_envelope, seal
from bethrou.wire.keys import Identity, PublicKey
from bethrou.wire.labels import is_label
from bethrou.wire.peer_id import PeerId

CLIENT = "client"
NODE = "node"
ROLES = (CLIENT, NODE)
"""What a member may be; a node may do what a client may."""

MAX_GRANT = 2048
"""Longest grant in its envelope, in bytes; a usual one has 230."""

MAX_REDEMPTION = 512
"""Longest redemption in its envelope, in bytes; it has 190."""

MAX_ADMISSION = 4096
"""Longest admission in its envelope, in bytes; a usual one has 600."""

MAX_EXITS = 16
"""Tags of exits that one member may be confined to."""

MAX_TIME = 1 << 40
"""Largest Unix time in seconds that is believed: some 35,000 years."""

CLOCK_SKEW = 300
"""Seconds by which the clocks of members may differ."""

_GRANT_DOMAIN, _GRANT_TYPE = "bethrou-grant", b"/bethrou/grant"
_REDEMPTION_DOMAIN, _REDEMPTION_TYPE = "bethrou-redemption", b"/bethrou/redemption"
_ADMISSION_DOMAIN, _ADMISSION_TYPE = "bethrou-admission", b"/bethrou/admission"
_FINGERPRINT = 16


@dataclass(frozen=True, slots=True)
class Grant:
    """One device may join the network of this fingerprint."""

    network: str
    """Fingerprint of the network key, 32 hex digits."""
    key: PeerId
    """Public half of the key that redeems it, as a peer ID. It names the grant."""
    name: str
    """What the device will be called; "": what its user says."""
    role: str
    """`CLIENT` or `NODE`."""
    exits: tuple[str, ...]
    """Tags of the exits that it may use; none: all."""
    issued: int
    """Unix time in seconds."""
    expires: int
    """Unix time in seconds, at which it cannot be redeemed any more."""

    def seal(self, operator: Identity) -> bytes:
        """Return the envelope that `operator` signs. ValueError for what would not be read."""
        key = self.key.public_key()
        if key is None or self.role not in ROLES or len(self.exits) > MAX_EXITS:
            raise ValueError("a grant has an Ed25519 key, a known role and at most 16 tags")
        if not all(is_label(label) for label in (*self.exits, *filter(None, [self.name]))):
            raise ValueError("name and tags of a grant are labels")
        payload = (
            protobuf.blob(1, bytes.fromhex(self.network))
            + protobuf.blob(2, key.raw)
            + (protobuf.blob(3, self.name.encode()) if self.name else b"")
            + protobuf.uint(4, ROLES.index(self.role))
            + b"".join(protobuf.blob(5, tag.encode()) for tag in self.exits)
            + protobuf.uint(6, self.issued)
            + protobuf.uint(7, self.expires)
        )
        return seal(operator, _GRANT_DOMAIN, _GRANT_TYPE, payload)

    @classmethod
    def open(cls, envelope: bytes, operator: PeerId) -> Grant:
        """Read and verify a grant. Raises DecodeError, also when somebody else than `operator` has signed it."""
        key, payload = open_envelope(envelope, _GRANT_DOMAIN, _GRANT_TYPE, MAX_GRANT, exact=True)
        if PeerId.from_public_key(key) != operator:
            raise DecodeError("grant is not signed by this network's operator")
        parts = _Parts(payload, "grant")
        role = parts.number(4, len(ROLES) - 1)
        exits = parts.labels(5)
        if len(exits) > MAX_EXITS:
            raise DecodeError(f"grant names more than {MAX_EXITS} tags")
        return cls(
            network=parts.blob(1, _FINGERPRINT).hex(),
            key=_peer_of(parts.blob(2, 32)),
            name=parts.label(3),
            role=ROLES[role],
            exits=exits,
            issued=parts.number(6, MAX_TIME),
            expires=parts.number(7, MAX_TIME),
        )


def seal_redemption(secret: Identity, peer: PeerId) -> bytes:
    """Return the envelope in which the holder of an invite, whose key is `secret`, says that it is `peer`."""
    return seal(secret, _REDEMPTION_DOMAIN, _REDEMPTION_TYPE, protobuf.blob(1, peer.raw))


def open_redemption(envelope: bytes, grant: Grant) -> PeerId:
    """Return who redeems `grant`. Raises DecodeError when it is not the holder of its key who says so."""
    key, payload = open_envelope(envelope, _REDEMPTION_DOMAIN, _REDEMPTION_TYPE, MAX_REDEMPTION, exact=True)
    if PeerId.from_public_key(key) != grant.key:
        raise DecodeError("redemption is not signed by the key of the invite")
    peer = PeerId.decode(_Parts(payload, "redemption").blob(1))
    if peer.public_key() is None:
        raise DecodeError("redemption is for a peer ID that holds no Ed25519 key")
    return peer


@dataclass(frozen=True, slots=True)
class Admission:
    """`node` has seen `peer` redeem `grant`. Whether that node may say so is the reader's question."""

    grant: Grant
    peer: PeerId
    node: PeerId
    time: int
    """Unix time in seconds, by the node's clock."""

    @staticmethod
    def seal(node: Identity, grant: bytes, redemption: bytes, time: int) -> bytes:
        """Return the envelope in which `node` says that it has seen both at `time`."""
        payload = protobuf.blob(1, grant) + protobuf.blob(2, redemption) + protobuf.uint(3, time)
        return seal(node, _ADMISSION_DOMAIN, _ADMISSION_TYPE, payload)

    @classmethod
    def open(cls, envelope: bytes, operator: PeerId) -> Admission:
        """Read and verify an admission and what is in it. Raises DecodeError.

        It does so, too, for one that was redeemed before it was granted or after it had expired.
        """
        key, payload = open_envelope(envelope, _ADMISSION_DOMAIN, _ADMISSION_TYPE, MAX_ADMISSION, exact=True)
        parts = _Parts(payload, "admission")
        grant = Grant.open(parts.blob(1), operator)
        time = parts.number(3, MAX_TIME)
        if not grant.issued - CLOCK_SKEW <= time < grant.expires:
            raise DecodeError("admission was given when its grant was not valid")
        peer = open_redemption(parts.blob(2), grant)
        return cls(grant, peer, PeerId.from_public_key(key), time)


def _peer_of(key: bytes) -> PeerId:
    return PeerId.from_public_key(PublicKey(key))


class _Parts:
    """The fields of a message; `what` names it in errors. Of equal fields the last counts, as in protobuf."""

    def __init__(self, payload: bytes, what: str) -> None:
        self._what = what
        self._values: dict[int, list[int | bytes]] = {}
        for number, _, value in protobuf.fields(payload):
            self._values.setdefault(number, []).append(value)

    def blob(self, number: int, size: int | None = None) -> bytes:
        value = self._values.get(number, [b""])[-1]
        if not isinstance(value, bytes) or not value or (size is not None and len(value) != size):
            raise DecodeError(f"{self._what} has no good field {number}")
        return value

    def number(self, number: int, highest: int) -> int:
        value = self._values.get(number, [b""])[-1]
        if not isinstance(value, int) or value > highest:
            raise DecodeError(f"{self._what} has no good field {number}")
        return value

    def labels(self, number: int) -> tuple[str, ...]:
        return tuple(self._label(value, number) for value in self._values.get(number, []))

    def label(self, number: int) -> str:
        """The label; "" when there is none."""
        labels = self.labels(number)
        return labels[-1] if labels else ""

    def _label(self, value: int | bytes, number: int) -> str:
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else ""
        if not is_label(text):
            raise DecodeError(f"{self._what} has no good field {number}")
        return text
