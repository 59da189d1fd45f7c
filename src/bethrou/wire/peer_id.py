"""Peer IDs: the multihash of a peer's public key (spec: libp2p/specs peer-ids).

An Ed25519 key is short enough to be its own "hash" (identity multihash), so such a peer ID contains the key.
"""

from __future__ import annotations

from bethrou.errors import AddressError, DecodeError
from bethrou.wire import multibase, varint
from bethrou.wire.public_key import ED25519_PREFIX, PublicKey

MAX_RAW = 132
"""Longest multihash accepted: a 1024-bit hash with its two varints. Ed25519 needs 38 bytes."""

_IDENTITY_ED25519 = b"\x00\x24" + ED25519_PREFIX
_CIDV1_LIBP2P_KEY = b"\x01\x72"


_IDENTITY = 0x00
_SHA2_256 = (0x12, 32)
"""Codes of multihashes, spec: libp2p/specs peer-ids/peer-ids.md, Peer IDs."""


class PeerId:
    """The name of a peer: immutable, hashable, equal by its bytes."""

    __slots__ = ("_hash", "_raw", "_text")

    def __init__(self, raw: bytes) -> None:
        """Take a multihash that is known to be valid; for bytes of a peer use `decode`."""
        self._raw = raw
        self._text: str | None = None
        self._hash = hash(raw)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> PeerId:
        """Read a binary peer ID (a multihash and nothing behind it). Raises DecodeError."""
        raw = bytes(data)
        if len(raw) == 38 and raw.startswith(_IDENTITY_ED25519):
            return cls(raw)
        if len(raw) > MAX_RAW:
            raise DecodeError(f"peer ID is longer than {MAX_RAW} bytes")
        code, position = varint.decode(raw)
        length, position = varint.decode(raw, position)
        if len(raw) - position != length:
            raise DecodeError(f"peer ID says {length} bytes but has {len(raw) - position}")
        # others have no text form that could be read again; rust refuses them, too
        if code != _IDENTITY and (code, length) != _SHA2_256:
            raise DecodeError(f"peer ID is a multihash of the unknown kind {code:#x} with {length} bytes")
        return cls(raw)

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Read a peer ID as people write it: base58btc, or CIDv1 in any usual base. Raises AddressError."""
        try:
            if text.startswith(("Qm", "1")):
                peer = cls.decode(multibase.decode_base58(text))
                peer._text = text  # there is no other base58 text of these bytes
                return peer
            cid = multibase.decode(text)
            if not cid.startswith(_CIDV1_LIBP2P_KEY):
                raise DecodeError("it is no CIDv1 of a libp2p key")
            return cls.decode(cid[2:])
        except DecodeError as error:
            raise AddressError(f"{text[:80]!r} is no peer ID: {error}") from error

    @classmethod
    def from_public_key(cls, key: PublicKey) -> PeerId:
        """Return the peer ID of the holder of `key`."""
        return cls(_IDENTITY_ED25519 + key.raw)

    @property
    def raw(self) -> bytes:
        """The multihash."""
        return self._raw

    @property
    def short(self) -> str:
        """The last eight characters, for log lines: the first ones are the same for all Ed25519 keys."""
        return str(self)[-8:]

    def public_key(self) -> PublicKey | None:
        """Return the Ed25519 key that this peer ID contains; None when it only contains a hash."""
        if len(self._raw) == 38 and self._raw.startswith(_IDENTITY_ED25519):
            return PublicKey(self._raw[6:])
        return None

    def __str__(self) -> str:
        if self._text is None:
            self._text = multibase.encode_base58(self._raw)
        return self._text

    def __repr__(self) -> str:
        return f"PeerId({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerId) and self._raw == other._raw

    def __hash__(self) -> int:
        return self._hash
