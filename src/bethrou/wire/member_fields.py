"""What members say of themselves and each other in JSON: peer IDs, addresses, names and tags.

One bad address, name or tag is left out and nothing else is lost: an address is a hint at where to dial, and a name is
how a member wants to be called. Who it is, is proved by a signature or by Noise.
"""

from __future__ import annotations

from typing import Any

from bethrou.errors import AddressError, DecodeError
from bethrou.wire.json_reader import text_field
from bethrou.wire.labels import is_label
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

MAX_LABELS = 32
"""Tags (or the like) of one member; more are ignored."""

MAX_ADDRESS = 1024
"""Longest text of an address that is looked at, in characters. A circuit through a named relay has about 250."""


def read_peer(message: dict[str, Any], key: str = "id") -> PeerId:
    """Return the peer ID in a message. Raises DecodeError when it is missing or none."""
    try:
        return PeerId.parse(text_field(message, key))
    except AddressError as error:
        raise DecodeError(f"JSON field {key!r}: {error}") from error


def read_addresses(message: dict[str, Any], peer: PeerId, limit: int) -> tuple[Multiaddr, ...]:
    """Return where `peer` is, of the first `limit` entries of `addrs`: without /p2p at the end, each once.

    What is no address is left out (others know transports that we do not), and so is an address of somebody else.
    Raises DecodeError when `addrs` is no list.
    """
    entries = message.get("addrs")
    if not isinstance(entries, list):
        raise DecodeError("JSON field 'addrs' is no list")
    found: dict[Multiaddr, None] = {}
    own = f"/p2p/{peer}"  # nearly all end so; to read a peer ID that is known takes longer than all the rest
    for entry in entries[:limit]:
        if not isinstance(entry, str) or len(entry) > MAX_ADDRESS:
            continue
        try:
            address = Multiaddr.parse(entry.removesuffix(own) or entry)
        except AddressError:
            continue
        if address.peer_id in (None, peer):
            found[address.without_peer()] = None
    return tuple(found)


def read_name(message: dict[str, Any]) -> str:
    """Return `name`; "" when it is missing or not one that stands behind `exit=` in a SOCKS user name.

    No member may have a peer ID for a name: it could get the requests that are meant for another one. Raises
    DecodeError when it is no text.
    """
    name = text_field(message, "name")
    return name if is_label(name) and not _is_peer_id(name) else ""


def read_labels(message: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return the good ones of the first MAX_LABELS of a list, in order; none when it is missing.

    Raises DecodeError when it is no list.
    """
    value = message.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DecodeError(f"JSON field {key!r} is no list")
    return tuple(label for label in value[:MAX_LABELS] if isinstance(label, str) and is_label(label))


def _is_peer_id(name: str) -> bool:
    try:
        PeerId.parse(name)
    except AddressError:
        return False
    return True
