"""Public keys of peers (spec: libp2p/specs peer-ids, "Keys"; message PublicKey of crypto.proto).

Only Ed25519: every libp2p implementation makes such keys by default, and a network of our own has no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bethrou.errors import DecodeError
from bethrou.wire import protobuf

ED25519 = 1
"""KeyType.Ed25519 of crypto.proto."""

ED25519_PREFIX = b"\x08\x01\x12\x20"
"""What stands before the 32 bytes of the key: Type = Ed25519, Data of 32 bytes."""

_KEY_TYPES = {0: "RSA", 1: "Ed25519", 2: "Secp256k1", 3: "ECDSA"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key. `raw` is its 32 bytes; ValueError for any other length."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(self.raw)}")

    @classmethod
    def from_protobuf(cls, data: bytes) -> PublicKey:
        """Read a PublicKey message. Raises DecodeError, which names the type of a key that is not Ed25519."""
        if len(data) == 36 and data.startswith(ED25519_PREFIX):
            return cls(data[4:])
        raw = read_ed25519(data, "public key")
        if len(raw) != 32:
            raise DecodeError(f"an Ed25519 public key has 32 bytes, this one {len(raw)}")
        return cls(raw)

    def to_protobuf(self) -> bytes:
        """Return the PublicKey message, 36 bytes, as every implementation writes it."""
        return ED25519_PREFIX + self.raw

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def read_ed25519(data: bytes, what: str) -> bytes:
    """Return the Data field of a PublicKey or PrivateKey message; `what` names it in the DecodeError."""
    key_type: int | None = None
    raw: bytes | None = None
    for number, wire_type, value in protobuf.fields(data):
        if number == 1 and wire_type == protobuf.VARINT and isinstance(value, int):
            key_type = value
        elif number == 2 and isinstance(value, bytes):
            raw = value
    if key_type is None or raw is None:
        raise DecodeError(f"{what} lacks its type or its data")
    if key_type != ED25519:
        name = _KEY_TYPES.get(key_type, f"unknown type {key_type}")
        raise DecodeError(f"{what} is of type {name}; only Ed25519 keys are supported")
    return raw
