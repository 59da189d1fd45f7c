"""TLS 1.3 records under private network protection (RFC 8446, sections 5 and 7): what every byte of a TLS link passes.

OpenSSL makes the handshake (handshake.py); from there on records are ours, as Noise's are, and for the same reasons:
each byte is encrypted straight to its place in front of pnet's XOR, or decrypted to where it stays, a link costs two
ciphers instead of two sets of OpenSSL's buffers, and what a peer may do behind the handshake is counted here.

A record is `23 || 3 3 || uint16 length || ciphertext`, whose plaintext is `content || content type`, perhaps padded
with zeros, at most 2^14 bytes of content. Besides data there may be key updates, session tickets (which are of no use
to us) and alerts.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from bethrou.errors import BethrouError, LinkLost, TlsError
from bethrou.wire.pnet import ROOM, Keystream, address_of
from bethrou.wire.tls.alerts import (
    BAD_RECORD_MAC,
    CLOSE_NOTIFY,
    DECODE_ERROR,
    INTERNAL_ERROR,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    describe_alert,
)

# Specification.
HEADER_SIZE = 5
TAG_SIZE = 16
MAX_CONTENT = 2**14
"""Bytes of content in a record (section 5.1)."""
MAX_CIPHERTEXT = MAX_CONTENT + 256
"""Bytes behind a record's header (section 5.2)."""
ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
_NEW_SESSION_TICKET, _KEY_UPDATE = 4, 24
_UPDATE_NOT_REQUESTED, _UPDATE_REQUESTED = 0, 1

# Implementation constants.
RECORDS_PER_KEY = 2**23
"""Records that we send under one key: AES-GCM is good for 2^24.5 full ones (section 5.5)."""

MAX_IDLE_RECORDS = 32
"""Records in a row that carry no data, but cost as much as others (go: 16, OpenSSL: 32)."""

MAX_KEY_UPDATES = 32
"""Key updates that a peer may make ahead of its data: one more with each MiB."""

_BYTES_PER_KEY_UPDATE = 2**20
_BATCH = 4
"""Records that are decrypted to one buffer: more would keep a large buffer for a small rest of it."""

_OVERHEAD = HEADER_SIZE + 1 + TAG_SIZE
_OPENING = bytes((APPLICATION_DATA, 3, 3))


class Suite(NamedTuple):
    """A cipher suite. All of ours hash with SHA-256."""

    cipher: type[AESGCM] | type[ChaCha20Poly1305]
    key_size: int


SUITES = {
    "TLS_AES_128_GCM_SHA256": Suite(AESGCM, 16),
    "TLS_CHACHA20_POLY1305_SHA256": Suite(ChaCha20Poly1305, 32),
}
"""By their names in RFC 8446 (appendix B.4), which are OpenSSL's, too. Every implementation has both."""


class TrafficKey:
    """One direction's key, and the number of the next record (sections 5.3 and 7.3)."""

    __slots__ = ("_cipher", "_iv", "_secret", "_suite", "number")

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite = suite
        self._secret = secret
        self.number = 0
        self._derive()

    def update(self) -> None:
        """Go on with the next key (section 7.2)."""
        self._secret = _expand_label(self._secret, b"traffic upd", 32)
        self.number = 0
        self._derive()

    def encrypt_into(self, plaintext: bytes, header: bytes, target: memoryview) -> None:
        """Encrypt the next record."""
        self._cipher.encrypt_into((self._iv ^ self.number).to_bytes(12, "big"), plaintext, header, target)
        self.number += 1

    def decrypt_into(self, ciphertext: memoryview, header: memoryview, target: memoryview) -> None:
        """Decrypt the next record. Raises `InvalidTag`."""
        self._cipher.decrypt_into((self._iv ^ self.number).to_bytes(12, "big"), ciphertext, header, target)
        self.number += 1

    def _derive(self) -> None:
        self._cipher = self._suite.cipher(_expand_label(self._secret, b"key", self._suite.key_size))
        self._iv = int.from_bytes(_expand_label(self._secret, b"iv", 12), "big")


class RecordSealer:
    """Encrypts the sending direction of a link."""

    __slots__ = ("_key", "_keystream", "_owes_update")

    def __init__(self, suite: Suite, secret: bytes, keystream: Keystream) -> None:
        self._key = TrafficKey(suite, secret)
        self._keystream = keystream
        self._owes_update = False

    def seal(self, plaintext: memoryview | bytes) -> memoryview:
        """The bytes to write for `plaintext`, as many records as it takes, in a buffer of their own."""
        if self._owes_update or self._key.number >= RECORDS_PER_KEY:
            return memoryview(self._update_key() + bytes(self._seal(plaintext, APPLICATION_DATA)))
        return self._seal(plaintext, APPLICATION_DATA)

    def owe_update(self) -> None:
        """The peer wants another key before our next data (section 4.6.3)."""
        self._owes_update = True

    def farewell(self, error: BethrouError | None = None) -> bytes:
        """The alert with which we end: `error` of the peer, or just the end (section 6)."""
        if isinstance(error, LinkLost):
            return b""  # the peer has ended it
        alert = CLOSE_NOTIFY
        if error is not None:
            alert = error.alert if isinstance(error, TlsError) else INTERNAL_ERROR
        level = 1 if alert == CLOSE_NOTIFY else 2
        return bytes(self._seal(bytes((level, alert)), ALERT))

    def _update_key(self) -> bytes:
        self._owes_update = False
        message = bytes((_KEY_UPDATE, 0, 0, 1, _UPDATE_NOT_REQUESTED))
        record = bytes(self._seal(message, HANDSHAKE))
        self._key.update()
        return record

    def _seal(self, plaintext: memoryview | bytes, content_type: int) -> memoryview:
        total = len(plaintext)
        count = -(-total // MAX_CONTENT) or 1
        buffer = bytearray(ROOM + total + count * _OVERHEAD)
        view = memoryview(buffer)
        kind = bytes((content_type,))
        position = ROOM
        for start in range(0, total or 1, MAX_CONTENT):
            content = b"".join((plaintext[start : start + MAX_CONTENT], kind))
            size = len(content) + TAG_SIZE
            body = position + HEADER_SIZE
            header = _OPENING + size.to_bytes(2, "big")
            view[position:body] = header
            position = body + size
            self._key.encrypt_into(content, header, view[body:position])
        self._keystream.xor_sealed(address_of(buffer), ROOM, position)
        return view[ROOM:]


class RecordOpener:
    """Decrypts the receiving direction of a link, and does what the peer's other records ask for.

    `sealer` is that of the same link: it is told when the peer wants new keys.
    """

    __slots__ = ("_data", "_idle", "_key", "_pending", "_sealer", "_updates")

    def __init__(self, suite: Suite, secret: bytes, sealer: RecordSealer) -> None:
        self._key = TrafficKey(suite, secret)
        self._sealer = sealer
        self._pending: tuple[int, bytes] | None = None
        """Content type and content of a record that held no data, and came right behind some."""
        self._idle = 0
        self._updates = 0
        self._data = 0

    def read(self, received: memoryview, start: int, end: int) -> tuple[memoryview | None, int]:
        """The data of the next records, and where the one behind them begins (wire/secure_channel.py, Opener).

        Raises `TlsError`, or `LinkLost` when the peer says that it ends the session.
        """
        self._act_on_pending()
        plaintext: memoryview | None = None
        size = taken = 0
        while taken < _BATCH:
            behind = _end_of_record(received, start, end, tolerant=size > 0)
            if behind is None:
                break
            if plaintext is None:
                plaintext = memoryview(bytearray(min(end - start, _BATCH * MAX_CIPHERTEXT)))
            # The byte of a record's content type is overwritten by the next one.
            target = plaintext[size : size + behind - start - HEADER_SIZE - TAG_SIZE]
            body = start + HEADER_SIZE
            try:
                self._key.decrypt_into(received[body:behind], received[start:body], target)
            except InvalidTag:
                if size:
                    break  # what came before it is good
                raise TlsError(
                    BAD_RECORD_MAC, "TLS record altered on its way (wrong authentication tag)"
                ) from None
            start = behind
            size += self._take(target)
            if self._pending is None:
                taken += 1
            elif size:
                break
            else:
                self._act_on_pending()
        return (plaintext[:size] if plaintext is not None and size else None), start

    def _take(self, plaintext: memoryview) -> int:
        """Bytes of data in what a record held; what is no data becomes `_pending`."""
        size = len(plaintext) - 1
        while size >= 0 and not plaintext[size]:
            size -= 1  # padding
        kind = plaintext[size] if size >= 0 else 0
        if kind == APPLICATION_DATA and 0 < size <= MAX_CONTENT:
            self._idle = 0
            self._data += size
            return size
        self._pending = kind, bytes(plaintext[: max(size, 0)])
        return 0

    def _act_on_pending(self) -> None:
        """Do what a record asks for that held no data. What came before it has been passed on by now."""
        if self._pending is None:
            return
        (kind, content), self._pending = self._pending, None
        if len(content) > MAX_CONTENT:
            raise TlsError(RECORD_OVERFLOW, f"TLS record with {len(content)} bytes of content")
        self._idle += 1
        if self._idle > MAX_IDLE_RECORDS:
            raise TlsError(
                UNEXPECTED_MESSAGE, f"more than {MAX_IDLE_RECORDS} TLS records in a row without data"
            )
        if kind == ALERT:
            self._take_alert(content)
        elif kind == HANDSHAKE:
            self._take_messages(content)
        elif kind != APPLICATION_DATA:
            raise TlsError(
                UNEXPECTED_MESSAGE, f"TLS record of type {kind}" if kind else "TLS record without content"
            )

    def _take_alert(self, alert: bytes) -> None:
        if len(alert) != 2:
            raise TlsError(DECODE_ERROR, "malformed TLS alert")
        if alert[1] == CLOSE_NOTIFY:
            raise LinkLost("the peer closed the connection")
        raise LinkLost(f"the peer ended the connection: TLS alert {describe_alert(alert[1])}")

    def _take_messages(self, messages: bytes) -> None:
        """Handshake messages behind the handshake. They may be cut by records (section 5.1), which nobody does."""
        while messages:
            end = 4 + int.from_bytes(messages[1:4], "big")
            if len(messages) < end:
                raise TlsError(DECODE_ERROR, "TLS message cut by the end of a record")
            kind, body, messages = messages[0], messages[4:end], messages[end:]
            if kind == _KEY_UPDATE:
                if messages:
                    raise TlsError(UNEXPECTED_MESSAGE, "TLS key update with something behind it")
                self._update_key(body)
            elif kind != _NEW_SESSION_TICKET:
                raise TlsError(UNEXPECTED_MESSAGE, f"TLS message of type {kind} behind the handshake")

    def _update_key(self, body: bytes) -> None:
        if body not in (b"\x00", b"\x01"):
            raise TlsError(DECODE_ERROR, "malformed TLS key update")
        self._updates += 1
        if self._updates > MAX_KEY_UPDATES + self._data // _BYTES_PER_KEY_UPDATE:
            raise TlsError(UNEXPECTED_MESSAGE, f"{self._updates} TLS key updates for {self._data} bytes")
        self._key.update()
        if body[0] == _UPDATE_REQUESTED:
            self._sealer.owe_update()


def _end_of_record(received: memoryview, start: int, end: int, tolerant: bool) -> int | None:
    """Where the record that begins at `start` ends; None if it is not all there.

    Also None for one that may not be, if `tolerant`.
    """
    body = start + HEADER_SIZE
    if body > end:
        return None
    try:
        behind = body + check_header(received[start:body])
    except TlsError:
        if tolerant:
            return None
        raise
    return behind if behind <= end else None


def check_header(header: memoryview | bytes) -> int:
    """Bytes behind the header of a protected record. Raises `TlsError` when there may be no such record."""
    size = header[3] << 8 | header[4]
    if header[0] != APPLICATION_DATA:
        raise TlsError(UNEXPECTED_MESSAGE, f"TLS record of type {header[0]} instead of an encrypted one")
    if size > MAX_CIPHERTEXT:
        raise TlsError(RECORD_OVERFLOW, f"TLS record of {size} bytes; at most {MAX_CIPHERTEXT} are allowed")
    if size <= TAG_SIZE:
        raise TlsError(DECODE_ERROR, f"TLS record of {size} bytes: too short")
    return size


def _expand_label(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label with an empty context and SHA-256, for up to 32 bytes (section 7.1, RFC 5869)."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\x00"
    return hmac.digest(secret, info + b"\x01", "sha256")[:size]
