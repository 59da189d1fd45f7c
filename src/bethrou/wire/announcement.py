"""What members say through Redis: who is there, answered or told without being asked, in the open or sealed.

Each message is one JSON object:

- `Request`: `{"action":"discover","reply":CHANNEL}`, as the Go program sends it: whoever is there answers on CHANNEL.
- `Answer`: `{"id","addrs":[..]}`, as the Go program expects it, and ours has `"record"`, too. Nothing proves it.
- `Presence`: `{"action":"presence","v":1,"id","seq","ttl","record","mac"}`: told unasked, and again before ttl is over.
- `Gone`: the same with the action `gone`, when a member leaves.
- sealed: `{"action":"sealed","v":1,"box"}`, any of these inside XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), box =
  nonce of 24 bytes and ciphertext, no additional data. For a Redis that is not to see who the members are.

record, mac and box are base64 (RFC 4648, section 4); record is the envelope of a node record. mac is HMAC-SHA256 over
`action|id|seq|ttl|record`, the values as they stand in the message; seq and ttl (seconds) are whole numbers. It proves
a member's message before the signature inside costs anything. Keys are HKDF-SHA256 (RFC 5869) of the network key
without a salt. No message of ours but the request has a key `reply`, so that the Go program ignores them.
"""

from __future__ import annotations

import binascii
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from bethrou.errors import AddressError, DecodeError
from bethrou.wire.address_list import read_addresses
from bethrou.wire.envelope import MAX_ENVELOPE
from bethrou.wire.json_reader import decode_object, encode_compact, text_field
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

MAX_MESSAGE = 64 * 1024
"""Longest message in bytes that is looked at; ours have at most some 35 KiB, an ordinary one has 1."""

MAX_ADDRESSES = 128
"""Addresses of one answer that are looked at; the Go program lists those of every interface."""

MAX_CHANNEL = 256
"""Longest name of a reply channel in characters."""

MAX_TTL = 86400
"""Longest time in seconds for which a presence may hold."""

MAX_SEQ = (1 << 63) - 1
"""Largest number of a presence: what every implementation can hold."""

PRESENCE_TTL_FACTOR = 3
"""A presence holds for so many intervals: two of them may get lost."""

NONCE_SIZE = 24

_VERSION = 1
_SHORTEST_INTERVAL = 15.0
_INTERVAL_PER_MEMBER = 0.03
_MAX_BASE64_ENVELOPE = (MAX_ENVELOPE + 2) // 3 * 4


class UnknownAnnouncement(DecodeError):
    """A message with an action or version that this program does not know: a later one's, most likely no damage."""


class AnnouncementKeys:
    """The keys of a network for its announcements; its repr shows the network's fingerprint, never a key."""

    __slots__ = ("_fingerprint", "box_key", "mac_key")

    def __init__(self, network_key: NetworkKey) -> None:
        """Derive them."""
        self._fingerprint = network_key.fingerprint
        self.mac_key = _derive(network_key, b"bethrou announce v1")
        self.box_key = _derive(network_key, b"bethrou sealed v1")

    def __repr__(self) -> str:
        return f"AnnouncementKeys(fingerprint={self._fingerprint})"


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks who is there, and hears the answers on the channel `reply`."""

    reply: str
    sealed: bool = False
    """Whether it came sealed, and so from a member."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`peer` is said to be at `addrs`. Only `record` is proved, once the receiver has verified it."""

    peer: PeerId
    addrs: tuple[Multiaddr, ...]
    """Without /p2p at the end."""
    record: bytes | None
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Presence:
    """A member said so. Whose `record` it is stays to be verified, when its bytes are new."""

    peer: PeerId
    seq: int
    """Of two messages of a member the one with the higher number counts."""
    ttl: float
    """Seconds for which it holds."""
    record: bytes
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """`peer` leaves, if `record` proves that it said so, and `seq` that it did after its last presence."""

    peer: PeerId
    seq: int
    ttl: float
    record: bytes
    sealed: bool = False


Announcement = Request | Answer | Presence | Gone


def presence_interval(known: int) -> float:
    """Return how many seconds lie between two presences of a member that knows `known` members.

    So a network makes some 33 messages a second at most, however large it is. The caller spreads them.
    """
    return max(_SHORTEST_INTERVAL, known * _INTERVAL_PER_MEMBER)


def decode(data: bytes, keys: AnnouncementKeys) -> Announcement:
    """Read one message. Raises UnknownAnnouncement for what a later version may say, DecodeError for all else.

    Keys match whatever their case, and spaces around action and reply do not count, as in the Go program.
    """
    message = _object(data)
    if _action(message) != "sealed":
        return _read(message, keys)
    inner = _object(_open_box(message, keys))
    if _action(inner) == "sealed":
        raise DecodeError("announcement is sealed twice")
    return replace(_read(inner, keys), sealed=True)


def encode_request(reply: str, keys: AnnouncementKeys, sealed: bool = False, nonce: bytes = b"") -> bytes:
    """Return a request; ValueError when `reply` is no name of a channel.

    A sealed message, this or another, takes 24 random bytes as its `nonce`, never the same twice.
    """
    if not _is_channel(reply):
        raise ValueError(
            f"a reply channel has 1 to {MAX_CHANNEL} printable characters, no spaces around them"
        )
    return _encode({"action": "discover", "reply": reply}, keys, sealed, nonce)


def encode_answer(
    peer: PeerId,
    addrs: Sequence[Multiaddr],
    record: bytes | None,
    keys: AnnouncementKeys,
    sealed: bool = False,
    nonce: bytes = b"",
) -> bytes:
    """Return an answer. ValueError without addresses, or with one of another peer: either ends a Go client's search."""
    if not addrs:
        raise ValueError("an answer without addresses would end the discovery of a Go client")
    if any(address.peer_id not in (None, peer) for address in addrs):
        raise ValueError("an answer has addresses of the peer that it speaks of")
    message: dict[str, Any] = {"id": str(peer), "addrs": [str(address.with_peer(peer)) for address in addrs]}
    if record is not None:
        message["record"] = _encode_envelope(record)
    return _encode(message, keys, sealed, nonce)


def encode_presence(
    peer: PeerId,
    seq: int,
    ttl: float,
    record: bytes,
    keys: AnnouncementKeys,
    sealed: bool = False,
    nonce: bytes = b"",
) -> bytes:
    """Return a presence; `ttl` is rounded up to whole seconds. ValueError for numbers that nobody reads."""
    return _encode(_proved("presence", peer, seq, ttl, record, keys), keys, sealed, nonce)


def encode_gone(
    peer: PeerId,
    seq: int,
    ttl: float,
    record: bytes,
    keys: AnnouncementKeys,
    sealed: bool = False,
    nonce: bytes = b"",
) -> bytes:
    """Return a goodbye; all is as in a presence."""
    return _encode(_proved("gone", peer, seq, ttl, record, keys), keys, sealed, nonce)


# -- reading -------------------------------------------------------------------------------------------------


def _object(data: bytes) -> dict[str, Any]:
    """Return the message with its keys in lower case; the last of equal ones wins."""
    return {key.casefold(): value for key, value in decode_object(data, MAX_MESSAGE).items()}


def _action(message: dict[str, Any]) -> str:
    return text_field(message, "action").strip()


def _read(message: dict[str, Any], keys: AnnouncementKeys) -> Announcement:
    action = _action(message)
    if action in ("presence", "gone"):
        return _read_proved(action, message, keys)
    if action not in ("", "discover"):
        raise UnknownAnnouncement(f"announcement has the unknown action {action[:40]!r}")
    reply = text_field(message, "reply").strip()
    if not reply and not action and "id" in message:
        return _read_answer(message)
    if not _is_channel(reply):
        raise DecodeError("request names no channel for the answers, or none that is printable and short")
    return Request(reply)


def _read_answer(message: dict[str, Any]) -> Answer:
    peer = _peer(message)
    entries = message.get("addrs")
    if not isinstance(entries, list):
        raise DecodeError("JSON field 'addrs' is no list")
    addresses = read_addresses(entries, peer, MAX_ADDRESSES)
    record = _base64(text_field(message, "record"), _MAX_BASE64_ENVELOPE)
    if not addresses and not record:
        raise DecodeError("answer has no address of the peer that it speaks of")
    return Answer(peer, addresses, record or None)


def _read_proved(action: str, message: dict[str, Any], keys: AnnouncementKeys) -> Presence | Gone:
    _check_version(message)
    seq, ttl = _number(message, "seq", MAX_SEQ), _number(message, "ttl", MAX_TTL)
    name, record = text_field(message, "id"), text_field(message, "record")
    mac = _base64(text_field(message, "mac"), 44)
    if not hmac.compare_digest(mac, _mac(keys, action, name, seq, ttl, record)):
        raise DecodeError(f"{action} is not of a member: its MAC is wrong")
    envelope = _base64(record, _MAX_BASE64_ENVELOPE)
    if not envelope:
        raise DecodeError(f"{action} has no node record")
    kind = Presence if action == "presence" else Gone
    return kind(_peer(message), seq, float(ttl), envelope)


def _open_box(message: dict[str, Any], keys: AnnouncementKeys) -> bytes:
    _check_version(message)
    box = _base64(text_field(message, "box"), MAX_MESSAGE)
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(
            box[NONCE_SIZE:], None, box[:NONCE_SIZE], keys.box_key
        )
    except (CryptoError, ValueError) as error:
        raise DecodeError("sealed announcement is not of a member, or damaged") from error


def _check_version(message: dict[str, Any]) -> None:
    version: object = message.get("v")
    if version != _VERSION or isinstance(version, bool):
        raise UnknownAnnouncement("announcement has an unknown version")


def _peer(message: dict[str, Any]) -> PeerId:
    try:
        return PeerId.parse(text_field(message, "id"))
    except AddressError as error:
        raise DecodeError(str(error)) from error


def _number(message: dict[str, Any], key: str, highest: int) -> int:
    value: object = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise DecodeError(f"JSON field {key!r} is no whole number from 0 to {highest}")
    return value


def _base64(text: str, longest: int) -> bytes:
    if len(text) > longest:
        raise DecodeError(f"base64 of {len(text)} characters exceeds {longest}")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise DecodeError("text is no valid base64") from error


def _is_channel(reply: str) -> bool:
    return 0 < len(reply) <= MAX_CHANNEL and reply.isprintable() and reply == reply.strip()


# -- writing -------------------------------------------------------------------------------------------------


def _proved(
    action: str, peer: PeerId, seq: int, ttl: float, record: bytes, keys: AnnouncementKeys
) -> dict[str, Any]:
    if not (0 <= seq <= MAX_SEQ and 0 <= ttl <= MAX_TTL):
        raise ValueError(f"a {action} has a seq of 0 to {MAX_SEQ} and a ttl of 0 to {MAX_TTL} seconds")
    if not record:
        raise ValueError(f"a {action} has a node record")
    name, whole, text = str(peer), math.ceil(ttl), _encode_envelope(record)
    mac = binascii.b2a_base64(_mac(keys, action, name, seq, whole, text), newline=False).decode()
    return {"action": action, "v": _VERSION, "id": name, "seq": seq, "ttl": whole, "record": text, "mac": mac}


def _encode(message: dict[str, Any], keys: AnnouncementKeys, sealed: bool, nonce: bytes) -> bytes:
    data = encode_compact(message)
    if sealed:
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a sealed announcement needs a nonce of {NONCE_SIZE} random bytes")
        ciphertext = crypto_aead_xchacha20poly1305_ietf_encrypt(data, None, nonce, keys.box_key)
        box = binascii.b2a_base64(nonce + ciphertext, newline=False).decode()
        data = encode_compact({"action": "sealed", "v": _VERSION, "box": box})
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"an announcement has at most {MAX_MESSAGE} bytes, not {len(data)}")
    return data


def _encode_envelope(record: bytes) -> str:
    if len(record) > MAX_ENVELOPE:
        raise ValueError(f"an envelope has at most {MAX_ENVELOPE} bytes, not {len(record)}")
    return binascii.b2a_base64(record, newline=False).decode()


# -- keys ----------------------------------------------------------------------------------------------------


def _derive(network_key: NetworkKey, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(network_key.raw)


def _mac(keys: AnnouncementKeys, action: str, name: str, seq: int, ttl: int, record: str) -> bytes:
    text = f"{action}|{name}|{seq}|{ttl}|{record}"
    return hmac.digest(keys.mac_key, text.encode("utf-8", "replace"), "sha256")
