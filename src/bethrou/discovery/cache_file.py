"""The file of the last-known-good list: JSON `{"members":[{"id","good","addrs","record"}]}`, the newest in front.

`good` is Unix time in whole seconds, `addrs` are multiaddr texts, `record` is the base64 of a signed node record, if
there was one. Fields only get added. The file is the owner's own, but disks fail and people edit: each entry is read by
itself, and a record is verified as if a stranger had sent it.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire.json_reader import decode_object, encode_compact, text_field, whole_field
from bethrou.wire.member_fields import read_addresses, read_peer
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import MAX_NUMBER, NodeRecord
from bethrou.wire.peer_id import PeerId

MAX_FILE = 2 << 20
"""Longest file in bytes; 256 members with ordinary records have some 200 KiB."""

MAX_MEMBERS = 256
"""Members in the file: far more than a client keeps connected (the setting `pool`)."""

MAX_ADDRESSES = 8
"""Addresses of a member at which it was reached; a record has others beside them."""

_SEPARATOR = b",\n"


@dataclass(frozen=True, slots=True)
class Good:
    """A member that was reached, and where."""

    peer: PeerId
    at: float
    """Unix time in seconds when it was last known to be reachable."""
    addresses: tuple[Multiaddr, ...]
    """Those that were good, the latest in front; without /p2p at the end."""
    record: bytes | None = None
    """The newest signed record that was known then."""


@dataclass(frozen=True, slots=True)
class CacheFile:
    """What a file says."""

    members: tuple[tuple[Good, NodeRecord | None], ...] = ()
    """Each with what its record says."""
    damaged: int = 0
    """Entries that made no sense or were not genuine."""


def encode(members: Iterable[Good]) -> bytes:
    """Return the file for the members that were good last, as many as fit."""
    newest = sorted(members, key=lambda good: good.at, reverse=True)[:MAX_MEMBERS]
    encoded: list[bytes] = []
    room = MAX_FILE - len(_framed([]))
    for good in newest:
        entry = _encode_entry(good)
        room -= len(entry) + len(_SEPARATOR)
        if room < 0:
            break
        encoded.append(entry)
    return _framed(encoded)


def decode(data: bytes) -> CacheFile:
    """Read a file. Raises DecodeError when it is none at all."""
    entries = decode_object(data, MAX_FILE).get("members")
    if not isinstance(entries, list):
        raise DecodeError("JSON field 'members' is no list")
    found: dict[PeerId, tuple[Good, NodeRecord | None]] = {}
    damaged = 0
    for entry in entries[:MAX_MEMBERS]:
        try:
            good, record = _decode_entry(entry)
        except DecodeError:
            damaged += 1
        else:
            found.setdefault(good.peer, (good, record))
    return CacheFile(tuple(found.values()), damaged)


def _framed(entries: list[bytes]) -> bytes:
    return b'{"members":[\n' + _SEPARATOR.join(entries) + b"\n]}\n"


def _encode_entry(good: Good) -> bytes:
    entry: dict[str, Any] = {
        "id": str(good.peer),
        "good": int(good.at),
        "addrs": [str(address) for address in good.addresses],
    }
    if good.record is not None:
        entry["record"] = binascii.b2a_base64(good.record, newline=False).decode()
    return encode_compact(entry)


def _decode_entry(entry: object) -> tuple[Good, NodeRecord | None]:
    if not isinstance(entry, dict):
        raise DecodeError("entry is no object")
    peer = read_peer(entry)
    addresses = read_addresses(entry, peer, MAX_ADDRESSES)
    envelope = _read_envelope(entry)
    record = NodeRecord.open(envelope) if envelope is not None else None
    if record is not None and record.peer_id != peer:
        raise DecodeError("record is of another peer")
    if not addresses:
        raise DecodeError("entry has no address")
    return Good(peer, float(whole_field(entry, "good", MAX_NUMBER)), addresses, envelope), record


def _read_envelope(entry: dict[str, Any]) -> bytes | None:
    text = text_field(entry, "record")
    if not text:
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise DecodeError("record is no base64") from error
