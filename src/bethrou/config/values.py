"""The small languages inside options and YAML values: durations, listen addresses, exit rules, DNS servers.

Each parse function takes the text as written and raises ConfigError with what is wrong and how to write it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from bethrou.errors import ConfigError
from bethrou.printable import quoted
from bethrou.wire.labels import LABEL_FORM, is_label

MAX_DURATION = 366 * 86400.0
"""Longest duration accepted, in seconds: a longer one is a slip of the pen, not a plan."""

DNS_PORT = 53

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})"
_PART = re.compile(rf"({_NUMBER})({'|'.join(sorted(_UNITS, key=len, reverse=True))})", re.ASCII)
_PLAIN = re.compile(_NUMBER, re.ASCII)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", re.ASCII)

_SIZE = re.compile(rf"({_NUMBER})\s*([kMGT]?)(i?)B?", re.ASCII)
_SIZES = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}

MAX_SIZE = 1 << 62
"""Largest number of bytes accepted."""

SHOWN = 60
"""How many characters of a bad value an error repeats."""


def parse_duration(text: str) -> float:
    """Read a duration in seconds: as Go writes it (`30s`, `1m30s`, `500ms`) or as a plain number of seconds."""
    plain = text.strip()
    seconds = float(plain) if _PLAIN.fullmatch(plain) else _sum_of_parts(plain)
    if seconds is None:
        hint = "must not be negative" if plain.startswith("-") else "is no duration"
        raise ConfigError(f"{quoted(text, SHOWN)} {hint} (write 30s, 1m30s, 500ms or a number of seconds)")
    if seconds > MAX_DURATION:
        raise ConfigError(f"{quoted(text, SHOWN)} is longer than a year")
    return seconds


def _sum_of_parts(text: str) -> float | None:
    seconds, position = 0.0, 0
    while part := _PART.match(text, position):
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    return seconds if position and position == len(text) else None


class HostPort(NamedTuple):
    """Where to listen: a host (name, IPv4 or bare IPv6 address; empty = all interfaces) and a TCP port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost is taken as reachable."""
        try:
            address = ip_address(self.host)
            # Python 3.13 began to look inside mapped addresses; nobody needs to listen on one.
            mapped = address.version == 6 and address.ipv4_mapped is not None
            return address.is_loopback and not mapped
        except ValueError:
            return self.host.lower().rstrip(".") == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> HostPort:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all interfaces). Port 0 lets the system choose."""
    host, port = _split_port(text)
    if port is None:
        raise ConfigError(f"{quoted(text, SHOWN)} has no port (write HOST:PORT, for example 127.0.0.1:1080)")
    if host and _as_address(host) is None and not _HOST.fullmatch(host):
        raise ConfigError(f"{quoted(text, SHOWN)} has no usable host (write HOST:PORT or [IPV6]:PORT)")
    return HostPort(host, _port(port, text, lowest=0))


@dataclass(frozen=True, slots=True)
class AddressRule:
    """What `--allow` and `--deny` name: every address of a network, at every port or at one."""

    network: IPv4Network | IPv6Network
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.network)
        if self.network.version == 6:
            return f"[{self.network}]:{self.port}"
        return f"{self.network}:{self.port}"


def parse_address_rule(text: str) -> AddressRule:
    """Read `CIDR`, `CIDR:PORT` or `[IPV6-CIDR]:PORT`; an address alone is a network of one."""
    host, port = _split_port(text)
    form = "CIDR, CIDR:PORT or [IPV6-CIDR]:PORT, for example 10.1.0.0/16 or 10.1.2.3/32:8080"
    network = _network(host, text, form)
    return AddressRule(network, None if port is None else _port(port, text, lowest=1))


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Read `CIDR`; an address alone is a network of one."""
    return _network(text.strip(), text, "CIDR, for example 10.1.0.0/16 or fd00::/8")


def _network(cidr: str, whole: str, form: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(cidr)
    except ValueError as error:
        raise ConfigError(f"{quoted(whole, SHOWN)} is no network{_network_hint(cidr, form)}") from error


def _network_hint(text: str, form: str) -> str:
    try:
        return f": it has bits set behind the prefix (did you mean {ip_network(text, strict=False)}?)"
    except ValueError:
        return f" (write {form})"


class DnsServer(NamedTuple):
    """A name server that an exit asks."""

    address: IPv4Address | IPv6Address
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def parse_dns_server(text: str) -> DnsServer:
    """Read `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`. A name is refused: who would look it up?"""
    host, port = _split_port(text)
    address = _as_address(host)
    if address is None:
        raise ConfigError(
            f"{quoted(text, SHOWN)} is no name server (write an IP address, ADDRESS:PORT, or system)"
        )
    return DnsServer(address, DNS_PORT if port is None else _port(port, text, lowest=1))


@dataclass(frozen=True, slots=True)
class ResolverChoice:
    """How an exit looks names up: by asking `servers`, or those of resolv.conf when there are none."""

    servers: tuple[DnsServer, ...] = ()
    system: bool = False
    """Call the system's getaddrinfo instead, with all that nsswitch.conf says (mDNS, LDAP)."""


def parse_resolver(texts: Sequence[str]) -> ResolverChoice:
    """Read the values of `--resolver`: name servers, or the one word `system`."""
    if any(text.strip() == "system" for text in texts):
        if len(texts) > 1:
            raise ConfigError("system cannot be combined with other resolvers")
        return ResolverChoice(system=True)
    return ResolverChoice(tuple(parse_dns_server(text) for text in texts))


def parse_size(text: str) -> int:
    """Read a number of bytes: `500000`, `500kB`, `1.5MB`, `10MiB` (units of 1,000, or of 1,024 with an i)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{quoted(text, SHOWN)} is no number of bytes (write 500000, 500kB, 10MB or 10MiB)")
    number, unit, binary = match.groups()
    factor: int = (1024 if binary else 1000) ** _SIZES[unit]
    size = float(number) * factor
    if size > MAX_SIZE:
        raise ConfigError(f"{quoted(text, SHOWN)} is more than anybody can count")
    return round(size)


def parse_label(text: str) -> str:
    """Read a node's name or tag."""
    if not is_label(text):
        raise ConfigError(f"{quoted(text, SHOWN)} must have {LABEL_FORM}")
    return text


def _split_port(text: str) -> tuple[str, str | None]:
    """Split `HOST:PORT`; a bare IPv6 address or network keeps its colons."""
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        return text, None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _port(digits: str, whole: str, lowest: int) -> int:
    if not _PORT.fullmatch(digits) or not lowest <= int(digits) <= 65535:
        raise ConfigError(f"{quoted(whole, SHOWN)} has no port from {lowest} to 65535 behind the colon")
    return int(digits)


def _as_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
