"""Identify: what a peer says about itself (spec: libp2p/specs identify; `/ipfs/id/1.0.0` and its push).

Identify { publicKey = 1, listenAddrs = 2 repeated, protocols = 3 repeated, observedAddr = 4,
protocolVersion = 5, agentVersion = 6, signedPeerRecord = 8 }. A peer sends one or more messages and then FIN;
go splits the record off when the whole exceeds 2 KiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.keys import PublicKey
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.peer_record import PeerRecord, read_addresses

PROTOCOL = "/ipfs/id/1.0.0"
PUSH_PROTOCOL = "/ipfs/id/push/1.0.0"

MAX_MESSAGE = 8192
"""Longest single message in bytes (go and js)."""

MAX_MESSAGES = 10
"""Most messages of one exchange (go and js)."""

MAX_PROTOCOLS = 512
"""Protocol names kept of one peer; more are ignored. Go peers list some twenty."""

_MAX_PROTOCOL_CHARS = 256
_MAX_VERSION_CHARS = 128


@dataclass(frozen=True, slots=True)
class Identify:
    """One peer's statement about itself. Nothing in it is proven but `signed_peer_record`, once verified."""

    public_key: PublicKey | None = None
    listen_addrs: tuple[Multiaddr, ...] = ()
    protocols: tuple[str, ...] = ()
    observed_addr: Multiaddr | None = None
    """Ours, as the peer sees it."""
    protocol_version: str = ""
    agent_version: str = ""
    signed_peer_record: bytes | None = None
    """The envelope, not verified yet; see `believable_addresses`."""

    def encode(self) -> bytes:
        """Return the message without its length prefix, field for field as go writes it.

        Below 2 KiB every implementation reads it in one piece; rust reads no more than 4 KiB.
        """
        out: list[bytes] = []
        if self.public_key is not None:
            out.append(protobuf.blob(1, self.public_key.to_protobuf()))
        out += [protobuf.blob(2, address.encode()) for address in self.listen_addrs]
        out += [protobuf.blob(3, protocol.encode()) for protocol in self.protocols]
        if self.observed_addr is not None:
            out.append(protobuf.blob(4, self.observed_addr.encode()))
        out.append(protobuf.blob(5, self.protocol_version.encode()))
        out.append(protobuf.blob(6, self.agent_version.encode()))
        if self.signed_peer_record is not None:
            out.append(protobuf.blob(8, self.signed_peer_record))
        return b"".join(out)


def decode(message: bytes) -> Identify:
    """Read a statement that came in one message. Raises DecodeError."""
    return merge((message,))


def merge(messages: Sequence[bytes]) -> Identify:
    """Read a statement that came in several messages, without their length prefixes. Raises DecodeError.

    Addresses and protocol names that make no sense are left out; a key of a type other than Ed25519 raises.
    """
    if len(messages) > MAX_MESSAGES:
        raise DecodeError(f"identify came in more than {MAX_MESSAGES} messages")
    single: dict[int, bytes] = {}
    repeated: dict[int, list[bytes]] = {2: [], 3: []}
    for message in messages:
        if len(message) > MAX_MESSAGE:
            raise DecodeError(f"identify message is longer than {MAX_MESSAGE} bytes")
        for number, _, value in protobuf.fields(message):
            if not isinstance(value, bytes):
                continue
            if number in repeated:
                repeated[number].append(value)
            else:
                single[number] = value
    return Identify(
        public_key=PublicKey.from_protobuf(single[1]) if 1 in single else None,
        listen_addrs=read_addresses(repeated[2]),
        protocols=_read_protocols(repeated[3]),
        observed_addr=next(iter(read_addresses([single[4]])), None) if 4 in single else None,
        protocol_version=_read_version(single.get(5, b"")),
        agent_version=_read_version(single.get(6, b"")),
        signed_peer_record=single.get(8),
    )


def believable_addresses(statement: Identify, peer: PeerId) -> tuple[Multiaddr, ...]:
    """Return the addresses at which `peer`, whom the secure channel has proven, says it can be reached.

    As in go: a good record is preferred to the unsigned list, a broken one is ignored, and a good one of
    another peer means that none is believed. None ends in /p2p; those that lead to somebody else are dropped.
    """
    addresses = statement.listen_addrs
    if statement.signed_peer_record is not None:
        try:
            record = PeerRecord.open(statement.signed_peer_record)
        except DecodeError:
            pass
        else:
            addresses = record.addresses if record.peer_id == peer else ()
    own = [address.without_peer() for address in addresses if address.peer_id in (None, peer)]
    return tuple(dict.fromkeys(own))


def _read_protocols(encoded: Sequence[bytes]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for raw in encoded[:MAX_PROTOCOLS]:
        text = raw.decode("utf-8", "replace")
        if 0 < len(text) <= _MAX_PROTOCOL_CHARS and text.isprintable():
            found[intern(text)] = None  # thousands of peers list the same ones
    return tuple(found)


def _read_version(raw: bytes) -> str:
    # Shown in logs and on the dashboard: no control characters, no novel.
    text = raw.decode("utf-8", "replace")[:_MAX_VERSION_CHARS]
    return "".join(char if char.isprintable() else "?" for char in text)
