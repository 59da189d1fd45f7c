"""The identity of a member: an Ed25519 key pair and the files it is kept in.

Two forms are read: the 68 bytes that Go's MarshalPrivateKey writes (PrivateKey message of crypto.proto:
Type, Data = seed and public key) and PKCS#8 PEM (RFC 8410), the text that `openssl genpkey` makes.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bethrou.errors import DecodeError, KeyFileError
from bethrou.wire.peer_id import PeerId
from bethrou.wire.public_key import PublicKey, read_ed25519

__all__ = ["Identity", "PublicKey"]

MAX_FILE = 16384
"""Longest identity file that is looked at, in bytes."""

_PROTOBUF_PREFIX = b"\x08\x01\x12\x40"
_PEM_PKCS8 = b"-----BEGIN PRIVATE KEY-----"


class Identity:
    """A member's private key. It signs; it never appears in a repr, a log or an error."""

    __slots__ = ("_key", "_peer_id", "_public_key", "_seed")

    def __init__(self, seed: bytes) -> None:
        """Take the 32 secret bytes (RFC 8032 "private key"); ValueError for any other length."""
        if len(seed) != 32:
            raise ValueError(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self._seed)
        self._public_key = PublicKey(self._key.public_key().public_bytes_raw())
        self._peer_id = PeerId.from_public_key(self._public_key)

    @classmethod
    def generate(cls, randbytes: Callable[[int], bytes]) -> Identity:
        """Make a new identity from 32 bytes of `randbytes` (in the program: os.urandom)."""
        return cls(randbytes(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """Return the identity of 32 secret bytes; ValueError for any other length."""
        return cls(seed)

    @classmethod
    def parse(cls, data: bytes) -> Identity:
        """Read the contents of an identity file in either form. Raises KeyFileError saying what is wrong."""
        if not data:
            raise KeyFileError("identity file is empty")
        if len(data) > MAX_FILE:
            raise KeyFileError(f"identity file is longer than {MAX_FILE} bytes")
        text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith(b"-----BEGIN "):
            return _parse_pem(text)
        return _parse_protobuf(data)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._seed

    def to_protobuf(self) -> bytes:
        """Return the PrivateKey message, 68 secret bytes: what Go keeps in node.key."""
        return _PROTOBUF_PREFIX + self._seed + self._public_key.raw

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the Ed25519 signature over `message`."""
        return self._key.sign(message)

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._public_key

    @property
    def peer_id(self) -> PeerId:
        """The name under which other members know the holder."""
        return self._peer_id

    def __repr__(self) -> str:
        return f"Identity({self._peer_id})"


def _parse_protobuf(data: bytes) -> Identity:
    try:
        raw = read_ed25519(data, "private key")
    except DecodeError as error:
        raise KeyFileError(
            f"identity file holds neither a libp2p private key nor PEM text: {error}"
        ) from error
    if len(raw) not in (64, 96):
        raise KeyFileError(
            f"identity file is damaged: an Ed25519 private key has 64 bytes of data, this one {len(raw)}"
        )
    identity = Identity(raw[:32])
    # 96 bytes is an old form of Go's with the public key twice. Go checks only that; a pair that does not
    # belong together would sign what nobody can verify, so we check both.
    if any(raw[start : start + 32] != identity.public_key.raw for start in range(32, len(raw), 32)):
        raise KeyFileError("identity file is damaged: its public key does not belong to its private key")
    return identity


def _parse_pem(text: bytes) -> Identity:
    if not text.startswith(_PEM_PKCS8):
        # Up to the closing dashes and no further: behind them the secret begins.
        label = text.removeprefix(b"-----BEGIN ").split(b"-", 1)[0].decode("ascii", "replace")
        raise KeyFileError(
            f"identity file is PEM of kind {label[:40]!r}; an unencrypted 'PRIVATE KEY' (PKCS#8, Ed25519) "
            "is needed, as `openssl genpkey -algorithm ed25519` makes it"
        )
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError("identity file is PEM, but its private key cannot be read") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("identity file is PEM, but its private key is not of type Ed25519")
    return Identity(key.private_bytes_raw())
