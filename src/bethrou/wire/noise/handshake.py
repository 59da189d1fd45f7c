"""Noise_XX_25519_ChaChaPoly_SHA256, ignorant of libp2p: a direct translation of the Noise specification.

Revision 34, section 5 (processing rules) and 7.5 (interactive patterns)::

    XX:
      -> e
      <- e, ee, s, es
      -> s, se

Key pairs are passed in, so that recorded handshakes can be replayed bit by bit.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bethrou.errors import HandshakeError

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
KEY_SIZE = 32
TAG_SIZE = 16

pack_nonce = struct.Struct("<4xQ").pack
"""A cipher's nonce: 4 zero bytes, then the message counter, little endian (section 12.3)."""


def public_bytes(key: X25519PrivateKey) -> bytes:
    """The 32 bytes of a key pair's public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@dataclass(frozen=True, repr=False)
class TransportKeys:
    """What a finished handshake leaves (section 5.2, Split): one key for each direction."""

    send: bytes
    receive: bytes
    handshake_hash: bytes


class _SymmetricState:
    """Chaining key, handshake hash and the handshake's cipher (section 5.2)."""

    def __init__(self) -> None:
        # The name has exactly 32 bytes, so it is its own hash.
        self.chaining_key = PROTOCOL_NAME
        self.hash = PROTOCOL_NAME
        self._cipher: ChaCha20Poly1305 | None = None
        self._counter = 0
        self.mix_hash(b"")  # the empty prologue is mixed in too

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, shared_secret: bytes) -> None:
        self.chaining_key, key = self._derive(shared_secret)
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        if self._cipher is None:
            ciphertext = plaintext
        else:
            ciphertext = self._cipher.encrypt(pack_nonce(self._counter), plaintext, self.hash)
            self._counter += 1
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        if self._cipher is None:
            plaintext = ciphertext
        else:
            try:
                plaintext = self._cipher.decrypt(pack_nonce(self._counter), ciphertext, self.hash)
            except InvalidTag:
                raise HandshakeError("Noise handshake: a message was not encrypted for us") from None
            self._counter += 1
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        return self._derive(b"")

    def _derive(self, material: bytes) -> tuple[bytes, bytes]:
        """HKDF with two outputs (section 4.3)."""
        secret = hmac.digest(self.chaining_key, material, "sha256")
        first = hmac.digest(secret, b"\x01", "sha256")
        second = hmac.digest(secret, first + b"\x02", "sha256")
        return first, second


class XXHandshake:
    """One side of the XX pattern. `write` and `read` are called in turn, the initiator writing first.

    Raises `HandshakeError` when the peer's message is too short, not for us, or out of turn.
    """

    def __init__(self, initiator: bool, static: X25519PrivateKey, ephemeral: X25519PrivateKey) -> None:
        self.initiator = initiator
        self.remote_static: bytes | None = None
        """The peer's static public key, known from message 2 (initiator) or 3 (responder) on."""
        self._static = static
        self._ephemeral = ephemeral
        self._remote_ephemeral = b""
        self._symmetric = _SymmetricState()
        self._step = 0

    @property
    def finished(self) -> bool:
        """Whether all three messages have passed."""
        return self._step == 3

    def write(self, payload: bytes) -> bytes:
        """The next message of ours, with `payload`."""
        self._take_turn(writing=True)
        return (self._write_e, self._write_e_ee_s_es, self._write_s_se)[self._step - 1](payload)

    def read(self, message: bytes) -> bytes:
        """The payload of the peer's next message."""
        self._take_turn(writing=False)
        return (self._read_e, self._read_e_ee_s_es, self._read_s_se)[self._step - 1](message)

    def split(self) -> TransportKeys:
        """The keys of the transport phase. The first of the two encrypts initiator to responder."""
        if not self.finished:
            raise HandshakeError("Noise handshake: not finished")
        first, second = self._symmetric.split()
        send, receive = (first, second) if self.initiator else (second, first)
        return TransportKeys(send, receive, self._symmetric.hash)

    def _take_turn(self, writing: bool) -> None:
        initiators_turn = self._step in (0, 2)
        if self.finished or (initiators_turn == self.initiator) != writing:
            raise HandshakeError("Noise handshake: message out of turn")
        self._step += 1

    def _write_e(self, payload: bytes) -> bytes:
        public = public_bytes(self._ephemeral)
        self._symmetric.mix_hash(public)
        return public + self._symmetric.encrypt_and_hash(payload)

    def _read_e(self, message: bytes) -> bytes:
        self._remote_ephemeral, rest = _cut(message, KEY_SIZE)
        self._symmetric.mix_hash(self._remote_ephemeral)
        return self._symmetric.decrypt_and_hash(rest)

    def _write_e_ee_s_es(self, payload: bytes) -> bytes:
        public = public_bytes(self._ephemeral)
        self._symmetric.mix_hash(public)
        self._mix_dh(self._ephemeral, self._remote_ephemeral)  # ee
        static = self._symmetric.encrypt_and_hash(public_bytes(self._static))
        self._mix_dh(self._static, self._remote_ephemeral)  # es
        return public + static + self._symmetric.encrypt_and_hash(payload)

    def _read_e_ee_s_es(self, message: bytes) -> bytes:
        self._remote_ephemeral, rest = _cut(message, KEY_SIZE)
        self._symmetric.mix_hash(self._remote_ephemeral)
        self._mix_dh(self._ephemeral, self._remote_ephemeral)  # ee
        static, rest = _cut(rest, KEY_SIZE + TAG_SIZE)
        self.remote_static = self._symmetric.decrypt_and_hash(static)
        self._mix_dh(self._ephemeral, self.remote_static)  # es
        return self._symmetric.decrypt_and_hash(rest)

    def _write_s_se(self, payload: bytes) -> bytes:
        static = self._symmetric.encrypt_and_hash(public_bytes(self._static))
        self._mix_dh(self._static, self._remote_ephemeral)  # se
        return static + self._symmetric.encrypt_and_hash(payload)

    def _read_s_se(self, message: bytes) -> bytes:
        static, rest = _cut(message, KEY_SIZE + TAG_SIZE)
        self.remote_static = self._symmetric.decrypt_and_hash(static)
        self._mix_dh(self._ephemeral, self.remote_static)  # se
        return self._symmetric.decrypt_and_hash(rest)

    def _mix_dh(self, private: X25519PrivateKey, public: bytes) -> None:
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # a point of low order gives an all-zero secret
            raise HandshakeError("Noise handshake: the peer sent an unusable public key") from None
        self._symmetric.mix_key(shared)


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise HandshakeError("Noise handshake: message too short")
    return message[:size], message[size:]
