"""Invites: the link by which one more device joins, `bethrou://join/` and base64 (RFC 4648 section 5, no padding).

In it is a signed envelope (RFC 0002), domain `bethrou-invite`, payload type `/bethrou/invite`, around a protobuf
message. It holds the network key and the secret that redeems the grant, so whoever has the link has both; what the
operator's signature adds is that nobody can change where the link leads. Fields only get added.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from bethrou.errors import DecodeError, InviteError
from bethrou.wire import protobuf
from bethrou.wire.envelope import open_envelope, seal
from bethrou.wire.grant import MAX_GRANT, Grant
from bethrou.wire.keys import Identity
from bethrou.wire.labels import is_label
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

SCHEME = "bethrou://join/"

MAX_LINK = 8192
"""Longest link that is looked at, in characters; a usual one has 700."""

MAX_ADDRESSES = 8
"""Addresses of nodes in a link; two or three are usual, and each makes the QR code larger."""

_DOMAIN, _TYPE = "bethrou-invite", b"/bethrou/invite"
_MAX_ENVELOPE = 6144
_KEY, _SECRET, _GRANT, _ADDRESS, _NAME = 1, 2, 3, 4, 5
_BASE64 = re.compile(r"[A-Za-z0-9_-]+")
_DAMAGED = "the invite is damaged: copy the whole link, in one piece"


@dataclass(frozen=True)
class Invite:
    """What a link says. Its repr has no secret in it."""

    operator: PeerId
    """Whose signature it carries: the operator's public key."""
    network_key: NetworkKey
    secret: Identity = field(compare=False)
    """The private half of the grant's key."""
    grant: Grant
    grant_envelope: bytes = field(repr=False)
    addresses: tuple[Multiaddr, ...]
    """Where nodes are, each with /p2p at its end."""
    network_name: str = ""

    @staticmethod
    def seal(
        operator: Identity,
        network_key: NetworkKey,
        secret: Identity,
        grant: bytes,
        addresses: tuple[Multiaddr, ...],
        network_name: str = "",
    ) -> str:
        """Return the link that `operator` signs. ValueError for more or other addresses than are read."""
        if not 0 < len(addresses) <= MAX_ADDRESSES or any(each.peer_id is None for each in addresses):
            raise ValueError(f"an invite has 1 to {MAX_ADDRESSES} addresses that say whose they are")
        payload = (
            protobuf.blob(_KEY, network_key.raw)
            + protobuf.blob(_SECRET, secret.seed)
            + protobuf.blob(_GRANT, grant)
            + b"".join(protobuf.blob(_ADDRESS, address.encode()) for address in addresses)
            + (protobuf.blob(_NAME, network_name.encode()) if network_name else b"")
        )
        envelope = seal(operator, _DOMAIN, _TYPE, payload)
        return SCHEME + base64.urlsafe_b64encode(envelope).decode().rstrip("=")

    @classmethod
    def open(cls, link: str) -> Invite:
        """Read and verify a link; blanks around it, and line breaks in it, do not count. Raises InviteError.

        Whether it has expired is the caller's question, and whether this is the operator that one trusts.
        """
        if len(link) > MAX_LINK:
            raise InviteError(f"this is no invite: it has more than {MAX_LINK} characters")
        text = "".join(link.split())
        if not text.lower().startswith(SCHEME):
            raise InviteError(f"this is no invite: one begins with {SCHEME}")
        digits = text[len(SCHEME) :].rstrip("=")
        if not _BASE64.fullmatch(digits):
            raise InviteError(_DAMAGED)
        try:
            envelope = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
            return cls._read(envelope)
        except (DecodeError, binascii.Error):
            raise InviteError(_DAMAGED) from None

    @classmethod
    def _read(cls, envelope: bytes) -> Invite:
        key, payload = open_envelope(envelope, _DOMAIN, _TYPE, _MAX_ENVELOPE)
        operator = PeerId.from_public_key(key)
        found: dict[int, bytes] = {}
        addresses: list[Multiaddr] = []
        for number, _, value in protobuf.fields(payload):
            if not isinstance(value, bytes):
                continue
            if number == _ADDRESS:
                addresses.append(Multiaddr.decode(value))
            else:
                found[number] = value
        if len(found.get(_KEY, b"")) != 32 or len(found.get(_SECRET, b"")) != 32:
            raise DecodeError("invite lacks a key")
        envelope_of_grant = found.get(_GRANT, b"")
        if len(envelope_of_grant) > MAX_GRANT:
            raise DecodeError("invite has too long a grant")
        network_key, secret = NetworkKey(found[_KEY]), Identity(found[_SECRET])
        grant = Grant.open(envelope_of_grant, operator)
        if grant.key != secret.peer_id or grant.network != network_key.fingerprint:
            raise DecodeError("invite has a grant that does not belong to its keys")
        # what this version does not dial is left out: a later one may know more transports
        usable = tuple(address for address in addresses[:MAX_ADDRESSES] if address.peer_id is not None)
        if not usable:
            raise DecodeError("invite has no address")
        name = found.get(_NAME, b"").decode("ascii", "replace")
        return cls(
            operator,
            network_key,
            secret,
            grant,
            envelope_of_grant,
            usable,
            name if is_label(name) else "",
        )
