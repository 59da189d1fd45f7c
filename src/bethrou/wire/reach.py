"""From where an address can be used, and so what it is worth to somebody who is told of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import IntEnum

from bethrou.wire.multiaddr import Multiaddr


class Reach(IntEnum):
    """From where an address can be used, those of most use first."""

    PUBLIC = 0
    """A globally routable IP address."""
    NAME = 1
    """A DNS name; what it leads to is not known."""
    CIRCUIT = 2
    """By way of a relay. The relay's own address is not of the kinds below."""
    PRIVATE = 3
    """An IP address of a network that is not the Internet."""
    LINK_LOCAL = 4
    """Only from the same network segment."""
    LOOPBACK = 5
    """Only from the same machine."""
    NOWHERE = 6
    """From nowhere: an unspecified, multicast or broadcast address, port 0, or no host at all."""


def reach(address: Multiaddr) -> Reach:
    """Return from where `address` can be used. For a circuit with its relay's address, that address counts, too."""
    if address.tcp_port == 0:
        return Reach.NOWHERE
    host = address.host
    if host is None:
        return Reach.NOWHERE if address.relay is None else Reach.CIRCUIT
    found = _reach_of_name(host) if address.is_dns else _reach_of_ip(host)
    return Reach.CIRCUIT if address.is_circuit and found < Reach.LINK_LOCAL else found


def is_public(address: Multiaddr) -> bool:
    """Whether `address` is a globally routable IP address with a port, without a relay."""
    return reach(address) is Reach.PUBLIC


def by_worth(addresses: Iterable[Multiaddr]) -> tuple[Multiaddr, ...]:
    """Return the addresses, each once: public ones first, those of this machine last, else in their order."""
    return tuple(sorted(dict.fromkeys(addresses), key=reach))


def _reach_of_name(name: str) -> Reach:
    name = name.lower().rstrip(".")
    # RFC 6761, 6.3: these names are always this machine.
    return Reach.LOOPBACK if name == "localhost" or name.endswith(".localhost") else Reach.NAME


def _reach_of_ip(host: str) -> Reach:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        return Reach.NOWHERE
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_link_local:
        return Reach.LINK_LOCAL
    # What Python calls global differs a little between its versions; here it only sets an order.
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE
