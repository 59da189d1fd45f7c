"""The member list: which peer IDs belong to a network, signed by its operator.

A signed envelope (RFC 0002), domain `bethrou-member-list`, payload type `/bethrou/member-list`, around JSON
`{"network","name","serial","issued","members":[{"id","name","role","exits","grant"}],"removed":[{"id","grant"}]}`. Of
two lists the one with the higher serial counts. One list has one encoding (keys in this order, entries by peer ID), so
that two copies can be compared by their bytes. Fields only get added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire.envelope import open_envelope, seal
from bethrou.wire.grant import MAX_EXITS, ROLES
from bethrou.wire.json_reader import decode_object, encode_compact, text_field, whole_field
from bethrou.wire.keys import Identity
from bethrou.wire.labels import is_label
from bethrou.wire.member_fields import read_peer
from bethrou.wire.peer_id import PeerId

MAX_LIST = 2 << 20
"""Longest envelope in bytes: what MAX_MEMBERS and MAX_REMOVED of the usual size take."""

MAX_MEMBERS = 4096
"""Members of a list; as many nodes are known at most, and a network has fewer."""

MAX_REMOVED = 4096
"""Removed devices of a list. None may be forgotten: an admission that somebody kept would count again."""

MAX_SERIAL = (1 << 63) - 1

_DOMAIN, _TYPE = "bethrou-member-list", b"/bethrou/member-list"
_OVERHEAD = 256  # bytes of an envelope around its payload


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its peer ID, what it is called, and what it may."""

    peer: PeerId
    name: str = ""
    role: str = "client"
    """`client` or `node`; a node may say who has joined."""
    exits: tuple[str, ...] = ()
    """Tags of the exits that it may use; none: all."""
    grant: PeerId | None = None
    """The invite by which it came, if it came by one: nobody else can come by that."""


@dataclass(frozen=True, slots=True)
class Removed:
    """One that is no member any more, and the invite by which it had come."""

    peer: PeerId
    grant: PeerId | None = None


@dataclass(frozen=True, slots=True)
class MemberList:
    """Who belongs to the network of this fingerprint."""

    network: str
    serial: int
    issued: int
    """Unix time in seconds."""
    members: tuple[Member, ...] = ()
    removed: tuple[Removed, ...] = ()
    name: str = ""
    """What the network is called."""

    def seal(self, operator: Identity) -> bytes:
        """Return the envelope that `operator` signs. ValueError for more than is read."""
        if len(self.members) > MAX_MEMBERS or len(self.removed) > MAX_REMOVED:
            raise ValueError(f"a list has at most {MAX_MEMBERS} members and {MAX_REMOVED} removed ones")
        payload = self._payload()
        if len(payload) > MAX_LIST - _OVERHEAD:
            raise ValueError(f"a member list has at most {MAX_LIST - _OVERHEAD} bytes, not {len(payload)}")
        return seal(operator, _DOMAIN, _TYPE, payload)

    @classmethod
    def open(cls, envelope: bytes, operator: PeerId) -> MemberList:
        """Read and verify a list. Raises DecodeError, also when somebody else than `operator` has signed it."""
        key, payload = open_envelope(envelope, _DOMAIN, _TYPE, MAX_LIST, exact=True)
        if PeerId.from_public_key(key) != operator:
            raise DecodeError("member list is not signed by this network's operator")
        message = decode_object(payload, MAX_LIST)
        members = [_read_member(entry) for entry in _entries(message, "members", MAX_MEMBERS)]
        removed = [
            Removed(read_peer(entry), _read_grant(entry))
            for entry in _entries(message, "removed", MAX_REMOVED)
        ]
        named = [member.peer for member in members] + [each.peer for each in removed]
        if len(set(named)) != len(named):
            raise DecodeError("member list names a peer twice")
        return cls(
            network=text_field(message, "network"),
            serial=whole_field(message, "serial", MAX_SERIAL),
            issued=whole_field(message, "issued", MAX_SERIAL),
            members=tuple(members),
            removed=tuple(removed),
            name=_read_name(message),
        )

    def _payload(self) -> bytes:
        members = sorted(self.members, key=lambda member: member.peer.raw)
        removed = sorted(self.removed, key=lambda each: each.peer.raw)
        return encode_compact(
            {
                "network": self.network,
                "name": self.name,
                "serial": self.serial,
                "issued": self.issued,
                "members": [_member_json(member) for member in members],
                "removed": [_with_grant({"id": str(each.peer)}, each.grant) for each in removed],
            }
        )


def _member_json(member: Member) -> dict[str, Any]:
    message: dict[str, Any] = {"id": str(member.peer)}
    if member.name:
        message["name"] = member.name
    message["role"] = member.role
    if member.exits:
        message["exits"] = list(member.exits)
    return _with_grant(message, member.grant)


def _with_grant(message: dict[str, Any], grant: PeerId | None) -> dict[str, Any]:
    return message if grant is None else {**message, "grant": str(grant)}


def _entries(message: dict[str, Any], key: str, limit: int) -> list[dict[str, Any]]:
    entries = message.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DecodeError(f"JSON field {key!r} is no list of objects")
    if len(entries) > limit:
        raise DecodeError(f"member list has more than {limit} {key}")
    return entries


def _read_member(entry: dict[str, Any]) -> Member:
    role, name, exits = text_field(entry, "role"), _read_name(entry), entry.get("exits", [])
    if not isinstance(exits, list) or len(exits) > MAX_EXITS:
        raise DecodeError(f"JSON field 'exits' is no list of at most {MAX_EXITS} tags")
    # A tag that cannot be read must not turn "these exits" into "all exits".
    if not all(isinstance(tag, str) and is_label(tag) for tag in exits):
        raise DecodeError("member list has a tag that is no label")
    # A role of a later version is the least that there is here.
    return Member(
        read_peer(entry), name, role if role in ROLES else "client", tuple(exits), _read_grant(entry)
    )


def _read_name(entry: dict[str, Any]) -> str:
    name = text_field(entry, "name")
    if name and not is_label(name):
        raise DecodeError("member list has a name that is no label")
    return name


def _read_grant(entry: dict[str, Any]) -> PeerId | None:
    return read_peer(entry, "grant") if entry.get("grant") is not None else None
