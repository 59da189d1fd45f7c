"""The keys with which members prove announcements to each other, or hide them from whoever runs the Redis between them.

HKDF-SHA256 (RFC 5869) of the network key, without a salt: one key for HMAC-SHA256, one for XChaCha20-Poly1305
(draft-irtf-cfrg-xchacha-03), whose nonces are long enough to be drawn at random.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from bethrou.errors import DecodeError
from bethrou.wire.psk import NetworkKey

NONCE_SIZE = 24

_MAC_INFO = b"bethrou announce v1"
_BOX_INFO = b"bethrou sealed v1"
_TAG_SIZE = 16


class AnnouncementKeys:
    """The keys of one network; the repr shows its fingerprint, never a key."""

    __slots__ = ("_box_key", "_fingerprint", "_mac_key")

    def __init__(self, network_key: NetworkKey) -> None:
        """Derive them from what every member holds."""
        self._fingerprint = network_key.fingerprint
        self._mac_key = _derive(network_key, _MAC_INFO)
        self._box_key = _derive(network_key, _BOX_INFO)

    def mac(self, message: bytes) -> bytes:
        """Return the 32 bytes that prove `message` to be of a member."""
        return hmac.digest(self._mac_key, message, "sha256")

    def verify(self, mac: bytes, message: bytes) -> bool:
        """Return whether `mac` is that of `message`."""
        return hmac.compare_digest(mac, self.mac(message))

    def seal(self, message: bytes, nonce: bytes) -> bytes:
        """Return the box, which has `nonce` in front: NONCE_SIZE random bytes, never the same twice.

        ValueError when it is not so long.
        """
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a sealed announcement needs a nonce of {NONCE_SIZE} random bytes")
        return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(message, None, nonce, self._box_key)

    def open(self, box: bytes) -> bytes:
        """Return the message in a box. Raises DecodeError when no member made it, or it is damaged."""
        nonce, ciphertext = box[:NONCE_SIZE], box[NONCE_SIZE:]
        if len(ciphertext) < _TAG_SIZE:
            raise DecodeError("sealed announcement is too short")
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, None, nonce, self._box_key)
        except CryptoError as error:
            raise DecodeError("sealed announcement is not of a member, or damaged") from error

    def __repr__(self) -> str:
        return f"AnnouncementKeys(fingerprint={self._fingerprint})"


def _derive(network_key: NetworkKey, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(network_key.raw)
