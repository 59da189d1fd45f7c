"""Multiaddrs: addresses that say every layer to speak (spec: multiformats/multiaddr, libp2p addressing).

Known are the components that Bethrou dials, and those that its peers list beside them. An address with any
other component does not parse: whoever reads a peer's list skips such entries.
"""

from __future__ import annotations

import ipaddress

from bethrou.errors import AddressError, DecodeError
from bethrou.wire import varint
from bethrou.wire.multiaddr_parts import BY_CODE, BY_NAME
from bethrou.wire.peer_id import PeerId

MAX_BYTES = 1024
"""Longest binary address accepted; a circuit address with both peer IDs has about 100 bytes."""

MAX_PARTS = 16
"""Most components in one address; a circuit through a secure WebSocket relay has 8."""

_P2P_CIRCUIT = "p2p-circuit"
_DNS_NAMES = frozenset({"dns", "dns4", "dns6", "dnsaddr"})
_HOST_NAMES = _DNS_NAMES | {"ip4", "ip6"}

Part = tuple[str, str | None]


class Multiaddr:
    """One address, immutable, hashable, equal by its binary form."""

    __slots__ = ("_encoded", "_parts", "_text")

    def __init__(self, encoded: bytes, parts: tuple[Part, ...]) -> None:
        """Take both forms of one valid address; use `parse`, `decode` or `tcp`."""
        self._encoded = encoded
        self._parts = parts
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> Multiaddr:
        """Read the text form; one trailing slash is allowed, as in Go. Raises AddressError."""
        if not text.startswith("/"):
            raise AddressError(f"{text[:120]!r} is no multiaddr: it must begin with '/'")
        words = text[1:].split("/")
        if words[-1] == "":
            words.pop()
        try:
            parts = tuple(_read_words(words))
            return cls._from_parts(parts)
        except (ValueError, DecodeError, AddressError) as error:
            raise AddressError(f"{text[:120]!r} is no multiaddr: {error}") from error

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Multiaddr:
        """Read the binary form. Raises DecodeError."""
        raw = bytes(data)
        if not 0 < len(raw) <= MAX_BYTES:
            raise DecodeError(f"multiaddr has {len(raw)} bytes, allowed are 1 to {MAX_BYTES}")
        parts: list[Part] = []
        position = 0
        while position < len(raw):
            part, position = _read_part(raw, position)
            parts.append(part)
        if len(parts) > MAX_PARTS:
            raise DecodeError(f"multiaddr has more than {MAX_PARTS} components")
        return cls(raw, tuple(parts))

    @classmethod
    def tcp(cls, ip: str, port: int) -> Multiaddr:
        """Return the address of a TCP port; an IPv6 address may carry a zone. Raises AddressError."""
        try:
            address = ipaddress.ip_address(ip)
            if not 0 <= port <= 65535:
                raise ValueError(f"port {port} is out of range")
        except ValueError as error:
            raise AddressError(f"no TCP address: {error}") from error
        if isinstance(address, ipaddress.IPv4Address):
            return cls.parse(f"/ip4/{ip}/tcp/{port}")
        bare, _, zone = ip.partition("%")
        prefix = f"/ip6zone/{zone}" if zone else ""
        return cls.parse(f"{prefix}/ip6/{bare}/tcp/{port}")

    @classmethod
    def _from_parts(cls, parts: tuple[Part, ...]) -> Multiaddr:
        if not parts:
            raise ValueError("it is empty")
        if len(parts) > MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS} components")
        encoded = b"".join(_write_part(name, value) for name, value in parts)
        if len(encoded) > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES} bytes")
        # Through the binary form, so that every value ends up in its canonical spelling.
        return cls.decode(encoded)

    def encode(self) -> bytes:
        """Return the binary form."""
        return self._encoded

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every component as (name, value); the value is None where the component has none."""
        return self._parts

    @property
    def peer_id(self) -> PeerId | None:
        """Whom the address leads to: its last /p2p, unless a /p2p-circuit without a target follows."""
        for name, value in reversed(self._parts):
            if name == "p2p" and value is not None:
                return _peer_id(value)
            if name == _P2P_CIRCUIT:
                break
        return None

    def without_peer(self) -> Multiaddr:
        """Return the address without a trailing /p2p (also a doubled one, which Go relays write).

        An address that is nothing but /p2p stays as it is.
        """
        parts = self._parts
        while len(parts) > 1 and parts[-1][0] == "p2p":
            parts = parts[:-1]
        return self if len(parts) == len(self._parts) else self._from_parts(parts)

    def with_peer(self, peer: PeerId) -> Multiaddr:
        """Return the address with `peer` as its destination, in place of another one at its end."""
        base = self.without_peer()
        tail = b"\xa5\x03" + varint.encode(len(peer.raw)) + peer.raw
        if base.parts[-1][0] == "p2p":
            return self.decode(tail)
        return self.decode(base.encode() + tail)

    @property
    def is_circuit(self) -> bool:
        """Whether the way leads through a relay."""
        return (_P2P_CIRCUIT, None) in self._parts

    @property
    def relay(self) -> Multiaddr | None:
        """The address of the relay (all before the last /p2p-circuit); None without relay or its address."""
        for index in range(len(self._parts) - 1, 0, -1):
            if self._parts[index][0] == _P2P_CIRCUIT:
                return self._from_parts(self._parts[:index])
        return None

    def circuit(self) -> Multiaddr:
        """Return the address of whoever is reached through the relay at this one."""
        return self.decode(self._encoded + BY_NAME[_P2P_CIRCUIT].code)

    @property
    def host(self) -> str | None:
        """The first IP address (an IPv6 one with its zone, if any) or DNS name."""
        zone = ""
        for name, value in self._parts:
            if name == "ip6zone":
                zone = f"%{value}"
            elif name in _HOST_NAMES and value is not None:
                return value + zone if name == "ip6" else value
        return None

    @property
    def tcp_port(self) -> int | None:
        """The first TCP port."""
        for name, value in self._parts:
            if name == "tcp" and value is not None:
                return int(value)
        return None

    @property
    def is_dns(self) -> bool:
        """Whether `host` is a name that must be looked up first."""
        first = next((name for name, _ in self._parts if name in _HOST_NAMES), None)
        return first in _DNS_NAMES

    def __str__(self) -> str:
        if self._text is None:
            self._text = "".join(
                f"/{name}" if value is None else f"/{name}/{value}" for name, value in self._parts
            )
        return self._text

    def __repr__(self) -> str:
        return f"Multiaddr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Multiaddr) and self._encoded == other._encoded

    def __hash__(self) -> int:
        return hash(self._encoded)


def _peer_id(value: str) -> PeerId:
    return PeerId.decode(BY_NAME["p2p"].to_bytes(value))


def _read_words(words: list[str]) -> list[Part]:
    parts: list[Part] = []
    rest = iter(words)
    for name in rest:
        kind = BY_NAME.get(name)
        if kind is None:
            raise ValueError(f"component {name!r} is unknown")
        value = None
        if kind.size is not None:
            value = next(rest, None)
            if value is None:
                raise ValueError(f"component {name!r} lacks its value")
        parts.append((kind.name, value))
    return parts


def _write_part(name: str, value: str | None) -> bytes:
    kind = BY_NAME[name]
    if value is None:
        return kind.code
    raw = kind.to_bytes(value)
    return kind.code + (varint.encode(len(raw)) if kind.size == 0 else b"") + raw


def _read_part(raw: bytes, position: int) -> tuple[Part, int]:
    code, position = varint.decode(raw, position)
    kind = BY_CODE.get(code)
    if kind is None:
        raise DecodeError(f"multiaddr has a component of unknown code {code:#x}")
    if kind.size is None:
        return (kind.name, None), position
    size = kind.size
    if size == 0:
        size, position = varint.decode(raw, position)
    end = position + size
    if end > len(raw):
        raise DecodeError(f"multiaddr ends inside its component {kind.name!r}")
    try:
        return (kind.name, kind.to_text(raw[position:end])), end
    except ValueError as error:
        raise DecodeError(f"multiaddr has a bad {kind.name!r}: {error}") from error
