"""What a security protocol has to offer, whichever it is: a handshake from bytes to bytes, then records.

Two protocols do: Noise (wire/noise) and TLS 1.3 (wire/tls). The upgrade (net/upgrade.py) agrees on one with the peer
and runs its handshake; the link (net/link.py) and its muxer know nothing but `Sealer` and `Opener`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bethrou.errors import BethrouError
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import Keystream
from bethrou.wire.public_key import PublicKey

MAX_PLAINTEXT = 65519
"""Bytes that one call of `Sealer.seal` takes at most: what a Noise record carries, or four TLS records."""

MAX_PARTIAL = 65537
"""Bytes that an `Opener` leaves in front of a read at most: one unfinished record of the longest kind (Noise)."""


@dataclass(frozen=True, repr=False)
class SecureSession:
    """What a finished handshake proves and agrees on."""

    peer_id: PeerId
    public_key: PublicKey
    muxer: str | None
    """The muxer agreed on early; None means that multistream-select inside the channel decides."""


def choose_muxer(initiator: bool, ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """The initiator's first muxer that the responder also lists, or None without an overlap.

    Spec: libp2p/specs connections/inlined-muxer-negotiation.md.
    """
    first, second = (ours, theirs) if initiator else (theirs, ours)
    return next((name for name in first if name in second), None)


class Sealer(Protocol):
    """Encrypts the sending direction of a link, pnet included."""

    def seal(self, plaintext: memoryview | bytes) -> memoryview:
        """The bytes to write for 1 to `MAX_PLAINTEXT` bytes, in a buffer of their own."""

    def farewell(self, error: BethrouError | None = None) -> bytes:
        """The bytes to write before the link is closed, because of what `Opener.read` raised or of our own will; may
        be empty."""


class Opener(Protocol):
    """Decrypts the receiving direction of a link, whose pnet protection is already taken off."""

    def read(self, received: memoryview, start: int, end: int) -> tuple[memoryview | None, int]:
        """The next plaintext between `start` and `end`, and where the record behind it begins.

        None when no whole record is left; what is unfinished has at most `MAX_PARTIAL` bytes. The plaintext belongs
        to the caller. Raises `PeerError` when a record was altered or breaks the rules, `LinkLost` when the peer ends
        the session in so many words.
        """


class Handshake(Protocol):
    """One side of a handshake. Messages are passed whole, with their length in front as they travel."""

    @property
    def header_size(self) -> int:
        """Bytes in front of each message that tell its size."""

    @property
    def session(self) -> SecureSession | None:
        """There when the handshake is over."""

    def start(self) -> bytes:
        """The dialer's first message."""

    def body_size(self, header: bytes) -> int:
        """Bytes of a message behind its `header`. Raises `HandshakeError` when there may not be so many."""

    def receive(self, message: bytes) -> bytes:
        """Take the peer's message; return what to send back, or b"".

        Raises `HandshakeError` (bad message, bad signature, bad certificate) or `IdentityMismatch`.
        """

    def last_words(self) -> bytes:
        """What to tell the peer after `receive` has raised; b"" if nothing."""

    def records(self, keystream: Keystream) -> tuple[Sealer, Opener]:
        """What encrypts and decrypts from now on. `keystream` is pnet's of our direction."""


class Security(Protocol):
    """One security protocol, for all links of an identity."""

    @property
    def protocol_id(self) -> str:
        """Its name in multistream-select."""

    @property
    def name(self) -> str:
        """Its name in the configuration and in tables."""

    @property
    def title(self) -> str:
        """Its name in sentences."""

    def handshake(self, *, initiator: bool, expected: PeerId | None, muxers: Sequence[str]) -> Handshake:
        """Begin. `expected` is the peer that was dialled (None: whoever holds the network key)."""

    def under(self, identity: Identity) -> Security:
        """The same for another identity."""
