"""The table of multiaddr components: name, code, and how a value is written in text and in bytes.

Codes: multiformats/multicodec table.csv, tag "multiaddr". Both directions of a value raise ValueError,
DecodeError or AddressError; `multiaddr` turns that into the right one for its caller.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

from bethrou.wire import varint
from bethrou.wire.peer_id import PeerId


class Kind(NamedTuple):
    """One component: its code as it is written, and both directions of its value.

    `size` is that of the value in bytes; 0 means length-prefixed, None that there is no value.
    """

    name: str
    code: bytes
    size: int | None
    to_bytes: Callable[[str], bytes]
    to_text: Callable[[bytes], str]


def _ip4_to_bytes(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _ip4_to_text(raw: bytes) -> str:
    return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"


def _ip6_to_bytes(text: str) -> bytes:
    if "%" in text:
        raise ValueError("a zone is a component of its own, /ip6zone/NAME before /ip6")
    return ipaddress.IPv6Address(text).packed


def _ip6_to_text(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    # As Go prints it; Python does so only from 3.13 on.
    return str(address) if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"


def _port_to_bytes(text: str) -> bytes:
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or int(text) > 65535:
        raise ValueError(f"{text[:40]!r} is no port")
    return int(text).to_bytes(2, "big")


def _port_to_text(raw: bytes) -> str:
    return str(int.from_bytes(raw, "big"))


def _name_to_bytes(text: str) -> bytes:
    # Printable ASCII only: names are shown in logs, and domains travel in their IDNA form.
    if not 0 < len(text) <= 255 or not all("!" <= char <= "~" and char != "/" for char in text):
        raise ValueError(f"{text[:80]!r} is no name")
    return text.encode("ascii")


def _name_to_text(raw: bytes) -> str:
    text = raw.decode("latin-1")
    _name_to_bytes(text)
    return text


def _path_to_bytes(text: str) -> bytes:
    # Written so that it needs no slash: go has `+` for a space, js %20.
    raw = unquote_plus(text, encoding="latin-1").encode("latin-1")
    _path_to_text(raw)
    return raw


def _path_to_text(raw: bytes) -> str:
    if not raw or not all(0x20 <= byte < 0x7F for byte in raw):
        raise ValueError(f"{raw[:80]!r} is no path of printable ASCII")
    return quote(raw, safe="")


def _peer_to_bytes(text: str) -> bytes:
    return PeerId.parse(text).raw


def _peer_to_text(raw: bytes) -> str:
    return str(PeerId.decode(raw))


def _no_value(text: str) -> bytes:
    raise ValueError(f"value {text[:40]!r} behind a component that has none")


def _no_text(raw: bytes) -> str:
    raise ValueError(f"{len(raw)} bytes behind a component that has no value")


def _plain(name: str, code: int) -> Kind:
    return Kind(name, varint.encode(code), None, _no_value, _no_text)


def _name(name: str, code: int) -> Kind:
    return Kind(name, varint.encode(code), 0, _name_to_bytes, _name_to_text)


KINDS = (
    Kind("ip4", varint.encode(0x04), 4, _ip4_to_bytes, _ip4_to_text),
    Kind("ip6", varint.encode(0x29), 16, _ip6_to_bytes, _ip6_to_text),
    Kind("tcp", varint.encode(0x06), 2, _port_to_bytes, _port_to_text),
    Kind("udp", varint.encode(0x0111), 2, _port_to_bytes, _port_to_text),
    Kind("p2p", varint.encode(0x01A5), 0, _peer_to_bytes, _peer_to_text),
    _name("dns", 0x35),
    _name("dns4", 0x36),
    _name("dns6", 0x37),
    _name("dnsaddr", 0x38),
    _name("ip6zone", 0x2A),
    _name("sni", 0x01C1),
    Kind("http-path", varint.encode(0x01E1), 0, _path_to_bytes, _path_to_text),
    _plain("p2p-circuit", 0x0122),
    _plain("ws", 0x01DD),
    _plain("wss", 0x01DE),
    _plain("tls", 0x01C0),
    _plain("noise", 0x01C6),
    _plain("quic", 0x01CC),
    _plain("quic-v1", 0x01CD),
    _plain("webtransport", 0x01D1),
    _plain("webrtc-direct", 0x0118),
    _plain("webrtc", 0x0119),
    _plain("http", 0x01E0),
    _plain("https", 0x01BB),
)

BY_CODE = {varint.decode(kind.code)[0]: kind for kind in KINDS}

BY_NAME = {kind.name: kind for kind in KINDS} | {"ipfs": next(kind for kind in KINDS if kind.name == "p2p")}
"""By name; /ipfs is the old spelling of /p2p and becomes it."""
