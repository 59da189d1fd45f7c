"""libp2p's use of Noise XX: who the peer is, and which muxer both agree on early.

Spec: libp2p/specs noise/README.md and connections/inlined-muxer-negotiation.md. Messages 2 and 3 carry a payload in
which each side signs its Noise static key with its identity key and lists the muxers that it can speak. The
handshake messages themselves travel with a 16-bit length in front, which is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bethrou.errors import DecodeError, HandshakeError, IdentityMismatch
from bethrou.wire import protobuf
from bethrou.wire.keys import Identity
from bethrou.wire.noise.handshake import TransportKeys, XXHandshake, public_bytes
from bethrou.wire.peer_id import PeerId
from bethrou.wire.public_key import PublicKey
from bethrou.wire.secure_channel import SecureSession, choose_muxer

PROTOCOL_ID = "/noise"
SIGNATURE_PREFIX = b"noise-libp2p-static-key:"

_IDENTITY_KEY, _IDENTITY_SIG, _EXTENSIONS = 1, 2, 4
_STREAM_MUXERS = 2

_MAX_MUXERS = 32
"""More names than that in a peer's list are no list of muxers."""


@dataclass(frozen=True)
class HandshakePayload:
    """NoiseHandshakePayload: an identity, its signature of the static key, and the muxers offered."""

    identity_key: PublicKey
    identity_sig: bytes
    stream_muxers: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The protobuf, as go writes it."""
        muxers = b"".join(protobuf.blob(_STREAM_MUXERS, name.encode()) for name in self.stream_muxers)
        return (
            protobuf.blob(_IDENTITY_KEY, self.identity_key.to_protobuf())
            + protobuf.blob(_IDENTITY_SIG, self.identity_sig)
            + (protobuf.blob(_EXTENSIONS, muxers) if muxers else b"")
        )

    @classmethod
    def decode(cls, data: bytes) -> HandshakePayload:
        """Raises `HandshakeError` when the payload lacks a part or is malformed."""
        key = signature = extensions = b""
        try:
            for number, _, value in protobuf.fields(data):
                if isinstance(value, int):
                    continue
                if number == _IDENTITY_KEY:
                    key = value
                elif number == _IDENTITY_SIG:
                    signature = value
                elif number == _EXTENSIONS:
                    extensions = value
            if not key or not signature:
                raise HandshakeError("Noise handshake: the peer sent no identity")
            return cls(PublicKey.from_protobuf(key), signature, _decode_muxers(extensions))
        except DecodeError as error:
            raise HandshakeError(f"Noise handshake: malformed identity payload: {error}") from None


def _decode_muxers(extensions: bytes) -> tuple[str, ...]:
    names = [
        value.decode("utf-8", "replace")
        for number, _, value in protobuf.fields(extensions)
        if number == _STREAM_MUXERS and not isinstance(value, int)
    ]
    if len(names) > _MAX_MUXERS:
        raise HandshakeError(f"Noise handshake: the peer lists {len(names)} muxers")
    return tuple(names)


class NoiseChannel:
    """One side of libp2p's Noise handshake, from messages to messages.

    The initiator sends `start()`, then answers message 2 with what `receive` returns; the responder answers message 1
    likewise. `session` is there when the handshake is over.

    `expected` is the peer that was dialled (None: whoever holds the network key). `muxers` are offered in this order;
    an empty list sends no extension. `ephemeral` and `static` make X25519 key pairs.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        initiator: bool,
        expected: PeerId | None,
        muxers: Sequence[str],
        static: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate,
        ephemeral: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate,
    ) -> None:
        self.session: SecureSession | None = None
        self.keys: TransportKeys | None = None
        """What the transport phase is encrypted with; there with the session."""
        self._initiator = initiator
        self._expected = expected
        self._muxers = tuple(muxers)
        static_key = static()
        self._handshake = XXHandshake(initiator, static_key, ephemeral())
        self._payload = HandshakePayload(
            identity.public_key,
            identity.sign(SIGNATURE_PREFIX + public_bytes(static_key)),
            self._muxers,
        ).encode()

    def start(self) -> bytes:
        """Message 1 (initiator). It carries no payload: nothing in it is encrypted yet."""
        return self._handshake.write(b"")

    def receive(self, message: bytes) -> bytes | None:
        """Take the peer's message; return the one to send back, if any.

        Raises `HandshakeError` (bad message, bad signature) or `IdentityMismatch` (not the peer that was dialled).
        """
        payload = self._handshake.read(message)
        if not self._initiator and self._handshake.remote_static is None:
            return self._handshake.write(self._payload)  # message 1 has no payload worth reading
        proven = self._verify(HandshakePayload.decode(payload))
        answer = self._handshake.write(self._payload) if self._initiator else None
        self.session = SecureSession(
            peer_id=PeerId.from_public_key(proven.identity_key),
            public_key=proven.identity_key,
            muxer=choose_muxer(self._initiator, self._muxers, proven.stream_muxers),
        )
        self.keys = self._handshake.split()
        return answer

    def _verify(self, payload: HandshakePayload) -> HandshakePayload:
        remote_static = self._handshake.remote_static
        assert remote_static is not None  # messages 2 and 3 carry it
        if not payload.identity_key.verify(payload.identity_sig, SIGNATURE_PREFIX + remote_static):
            raise HandshakeError("Noise handshake: the peer's signature does not match its identity")
        proven = PeerId.from_public_key(payload.identity_key)
        if self._expected is not None and proven != self._expected:
            raise IdentityMismatch(f"dialled {self._expected}, but {proven} answered")
        return payload
