"""What members say through Redis: who is there, answered or told without being asked, in the open or sealed.

Each message is one JSON object:

- `Request`: `{"action":"discover","reply":CHANNEL}`, as the Go program sends it: whoever is there answers on CHANNEL.
- `Answer`: `{"id","addrs":[..]}`, as the Go program expects it, and ours has `"record"`, too. Nothing proves it.
- `Presence`: `{"action":"presence","v":1,"id","seq","ttl","record","mac"}`: told unasked, and again before ttl is over.
- `Gone`: the same with the action `gone`, when a member leaves.
- sealed: `{"action":"sealed","v":1,"box"}`, any of these inside XChaCha20-Poly1305; the box is a nonce of 24 bytes and
  the ciphertext, without additional data. For a Redis that is not to see who the members are.

record, mac and box are base64 (RFC 4648, section 4); record is the envelope of a node record. mac is HMAC-SHA256 over
`action|id|seq|ttl|record`, the values as they stand in the message; seq and ttl (seconds) are whole numbers. It proves
a member's message before the signature inside costs anything. Only the request has a key `reply`: whatever has none
is ignored by the Go program.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire.announcement_keys import AnnouncementKeys
from bethrou.wire.envelope import MAX_ENVELOPE
from bethrou.wire.json_reader import decode_object, encode_compact, text_field, whole_field
from bethrou.wire.member_fields import read_addresses, read_peer
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

__all__ = [
    "PRESENCE_TTL_FACTOR",
    "Announcement",
    "AnnouncementKeys",
    "Answer",
    "Gone",
    "Presence",
    "Request",
    "UnknownAnnouncement",
    "decode",
    "encode_answer",
    "encode_gone",
    "encode_presence",
    "encode_request",
    "presence_interval",
]

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

_VERSION = 1
_SHORTEST_INTERVAL = 15.0
_INTERVAL_PER_MEMBER = 0.03
_MAX_BASE64_ENVELOPE = (MAX_ENVELOPE + 2) // 3 * 4


class UnknownAnnouncement(DecodeError):
    """A message with an action or version that this program does not know: a later one's, most likely no damage."""


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

    Keys match whatever their case, and spaces in action and reply are part of them, as in the Go program.
    """
    message = _object(data)
    if _action(message) != "sealed":
        return _read(message, keys)
    _check_version(message)
    inner = _object(keys.open(_from_base64(text_field(message, "box"), MAX_MESSAGE)))
    if _action(inner) == "sealed":
        raise DecodeError("announcement is sealed twice")
    return replace(_read(inner, keys), sealed=True)


def encode_request(reply: str, keys: AnnouncementKeys, sealed: bool = False, nonce: bytes = b"") -> bytes:
    """Return a request; ValueError when `reply` is no name of a channel.

    A sealed message, this or another, takes 24 random bytes as its `nonce`, never the same twice.
    """
    if not _is_channel(reply):
        raise ValueError(f"a reply channel has 1 to {MAX_CHANNEL} printable characters, not spaces alone")
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
    return text_field(message, "action")


def _read(message: dict[str, Any], keys: AnnouncementKeys) -> Announcement:
    action = _action(message)
    if action in ("presence", "gone"):
        return _read_proved(action, message, keys)
    if action not in ("", "discover"):
        raise UnknownAnnouncement(f"announcement has the unknown action {action[:40]!r}")
    reply = text_field(message, "reply")
    if not reply and not action and "id" in message:
        return _read_answer(message)
    if not _is_channel(reply):
        raise DecodeError("request names no channel for the answers, or none that is printable and short")
    return Request(reply)


def _read_answer(message: dict[str, Any]) -> Answer:
    peer = read_peer(message)
    addresses = read_addresses(message, peer, MAX_ADDRESSES)
    record = _from_base64(text_field(message, "record"), _MAX_BASE64_ENVELOPE)
    if not addresses and not record:
        raise DecodeError("answer has no address of the peer that it speaks of")
    return Answer(peer, addresses, record or None)


def _read_proved(action: str, message: dict[str, Any], keys: AnnouncementKeys) -> Presence | Gone:
    _check_version(message)
    seq, ttl = whole_field(message, "seq", MAX_SEQ), whole_field(message, "ttl", MAX_TTL)
    name, record = text_field(message, "id"), text_field(message, "record")
    mac = _from_base64(text_field(message, "mac"), 44)
    if not keys.verify(mac, _proved_text(action, name, seq, ttl, record)):
        raise DecodeError(f"{action} is not of a member: its MAC is wrong")
    envelope = _from_base64(record, _MAX_BASE64_ENVELOPE)
    if not envelope:
        raise DecodeError(f"{action} has no node record")
    kind = Presence if action == "presence" else Gone
    return kind(read_peer(message), seq, float(ttl), envelope)


def _check_version(message: dict[str, Any]) -> None:
    version: object = message.get("v")
    if version != _VERSION or isinstance(version, bool):
        raise UnknownAnnouncement("announcement has an unknown version")


def _from_base64(text: str, longest: int) -> bytes:
    if len(text) > longest:
        raise DecodeError(f"base64 of {len(text)} characters exceeds {longest}")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise DecodeError("text is no valid base64") from error


def _is_channel(reply: str) -> bool:
    return len(reply) <= MAX_CHANNEL and reply.isprintable() and reply.strip() != ""


# -- writing -------------------------------------------------------------------------------------------------


def _proved(
    action: str, peer: PeerId, seq: int, ttl: float, record: bytes, keys: AnnouncementKeys
) -> dict[str, Any]:
    if not (0 <= seq <= MAX_SEQ and 0 <= ttl <= MAX_TTL):
        raise ValueError(f"a {action} has a seq of 0 to {MAX_SEQ} and a ttl of 0 to {MAX_TTL} seconds")
    if not record:
        raise ValueError(f"a {action} has a node record")
    name, whole, text = str(peer), math.ceil(ttl), _encode_envelope(record)
    mac = _to_base64(keys.mac(_proved_text(action, name, seq, whole, text)))
    return {"action": action, "v": _VERSION, "id": name, "seq": seq, "ttl": whole, "record": text, "mac": mac}


def _proved_text(action: str, name: str, seq: int, ttl: int, record: str) -> bytes:
    return f"{action}|{name}|{seq}|{ttl}|{record}".encode("utf-8", "replace")


def _encode(message: dict[str, Any], keys: AnnouncementKeys, sealed: bool, nonce: bytes) -> bytes:
    data = encode_compact(message)
    if sealed:
        box = _to_base64(keys.seal(data, nonce))
        data = encode_compact({"action": "sealed", "v": _VERSION, "box": box})
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"an announcement has at most {MAX_MESSAGE} bytes, not {len(data)}")
    return data


def _encode_envelope(record: bytes) -> str:
    if len(record) > MAX_ENVELOPE:
        raise ValueError(f"an envelope has at most {MAX_ENVELOPE} bytes, not {len(record)}")
    return _to_base64(record)


def _to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
