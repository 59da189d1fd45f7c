"""Which IP addresses are not part of the public Internet: the IANA registries as a table of ours.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, 8190), IPv4 Multicast Address Space,
Internet Protocol Version 6 Address Space. An address is public only where they say "Globally Reachable: True"
or do not mention it; False and "N/A" (Teredo, 6to4, deprecated blocks) are not public. For IPv6 only
2000::/3 has been given out at all, so everything outside it is not public unless listed.

`ipaddress.is_global` will not do: what it says about NAT64, 6to4, mapped and site-local addresses, 192.0.0.0/24
and multicast is wrong for our purpose in Python 3.11, and differs between versions.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_PUBLIC, _NOT_PUBLIC = True, False

_IPV4 = (
    ("0.0.0.0/8", "This network", _NOT_PUBLIC),
    ("10.0.0.0/8", "Private-Use", _NOT_PUBLIC),
    ("100.64.0.0/10", "Shared Address Space", _NOT_PUBLIC),
    ("127.0.0.0/8", "Loopback", _NOT_PUBLIC),
    ("169.254.0.0/16", "Link Local", _NOT_PUBLIC),
    ("172.16.0.0/12", "Private-Use", _NOT_PUBLIC),
    ("192.0.0.0/24", "IETF Protocol Assignments", _NOT_PUBLIC),
    ("192.0.0.9/32", "Port Control Protocol Anycast", _PUBLIC),
    ("192.0.0.10/32", "Traversal Using Relays around NAT Anycast", _PUBLIC),
    ("192.0.2.0/24", "Documentation (TEST-NET-1)", _NOT_PUBLIC),
    # 192.31.196.0/24 AS112-v4, 192.52.193.0/24 AMT and 192.175.48.0/24 Direct Delegation AS112 are public.
    ("192.88.99.0/24", "Deprecated (6to4 Relay Anycast)", _NOT_PUBLIC),
    ("192.168.0.0/16", "Private-Use", _NOT_PUBLIC),
    ("198.18.0.0/15", "Benchmarking", _NOT_PUBLIC),
    ("198.51.100.0/24", "Documentation (TEST-NET-2)", _NOT_PUBLIC),
    ("203.0.113.0/24", "Documentation (TEST-NET-3)", _NOT_PUBLIC),
    ("224.0.0.0/4", "Multicast", _NOT_PUBLIC),
    ("240.0.0.0/4", "Reserved", _NOT_PUBLIC),
    ("255.255.255.255/32", "Limited Broadcast", _NOT_PUBLIC),
)

_IPV6 = (
    ("::/0", "Reserved by IETF", _NOT_PUBLIC),
    ("2000::/3", "Global Unicast", _PUBLIC),
    ("::/128", "Unspecified Address", _NOT_PUBLIC),
    ("::1/128", "Loopback Address", _NOT_PUBLIC),
    ("::ffff:0:0/96", "IPv4-mapped Address", _NOT_PUBLIC),
    # Public in itself; the IPv4 address inside is judged, too.
    ("64:ff9b::/96", "IPv4-IPv6 Translat.", _PUBLIC),
    ("64:ff9b:1::/48", "IPv4-IPv6 Translat. (local use)", _NOT_PUBLIC),
    ("100::/64", "Discard-Only Address Block", _NOT_PUBLIC),
    ("100:0:0:1::/64", "Dummy IPv6 Prefix", _NOT_PUBLIC),
    ("2001::/23", "IETF Protocol Assignments", _NOT_PUBLIC),
    ("2001::/32", "TEREDO", _NOT_PUBLIC),
    ("2001:1::1/128", "Port Control Protocol Anycast", _PUBLIC),
    ("2001:1::2/128", "Traversal Using Relays around NAT Anycast", _PUBLIC),
    ("2001:1::3/128", "DNS-SD Service Registration Protocol Anycast", _PUBLIC),
    ("2001:2::/48", "Benchmarking", _NOT_PUBLIC),
    ("2001:3::/32", "AMT", _PUBLIC),
    ("2001:4:112::/48", "AS112-v6", _PUBLIC),
    ("2001:10::/28", "Deprecated (previously ORCHID)", _NOT_PUBLIC),
    ("2001:20::/28", "ORCHIDv2", _PUBLIC),
    ("2001:30::/28", "Drone Remote ID Protocol Entity Tags Prefix", _PUBLIC),
    ("2001:db8::/32", "Documentation", _NOT_PUBLIC),
    ("2002::/16", "6to4", _NOT_PUBLIC),
    ("3fff::/20", "Documentation", _NOT_PUBLIC),
    ("5f00::/16", "Segment Routing (SRv6) SIDs", _NOT_PUBLIC),
    ("fc00::/7", "Unique-Local", _NOT_PUBLIC),
    ("fe80::/10", "Link-Local Unicast", _NOT_PUBLIC),
    ("fec0::/10", "Site-Local (deprecated)", _NOT_PUBLIC),
    ("ff00::/8", "Multicast", _NOT_PUBLIC),
)

_Row = tuple[int, int, str, bool]


def _compile(table: tuple[tuple[str, str, bool], ...]) -> tuple[_Row, ...]:
    """Turn CIDRs into (mask, value, name, public), longest prefix first, so that the first match counts."""
    networks = sorted(((ip_network(cidr), name, public) for cidr, name, public in table), key=_prefix)
    return tuple(
        (int(network.netmask), int(network.network_address), name, public)
        for network, name, public in reversed(networks)
    )


def _prefix(row: tuple[object, ...]) -> int:
    return int(str(row[0]).partition("/")[2])


_IPV4_ROWS = _compile(_IPV4)
_IPV6_ROWS = _compile(_IPV6)

_MAPPED = int(IPv6Address("::ffff:0:0")) >> 32
_NAT64 = int(IPv6Address("64:ff9b::")) >> 32
_6TO4 = 0x2002


def special_use(address: Address) -> str | None:
    """Return the registry's name of the block that keeps `address` off the Internet; None if it is public."""
    bits = int(address)
    for mask, value, name, public in _IPV4_ROWS if address.version == 4 else _IPV6_ROWS:
        if bits & mask == value:
            return None if public else name
    return None


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to `address` may end up at.

    Of the forms with one at a known place: IPv4-mapped (RFC 4291), NAT64 with the well-known prefix (RFC 6052)
    and 6to4 (RFC 3056).
    """
    if address.version == 4:
        return None
    bits = int(address)
    if bits >> 32 in (_MAPPED, _NAT64):
        return IPv4Address(bits & 0xFFFFFFFF)
    if bits >> 112 == _6TO4:
        return IPv4Address(bits >> 80 & 0xFFFFFFFF)
    return None
