"""Destinations of proxied requests: a host (name or IP address) and a TCP port, judged before any look-up.

Strict on purpose. `127.1`, `0x7f000001`, `2130706433` and `0177.0.0.1` are IPv4 addresses to some resolvers
and names to others; such a gap is how a policy gets bypassed, so here they are names that do not exist
(the same rule as the WHATWG URL standard's "ends in a number", with refusal in place of conversion).
"""

from __future__ import annotations

import ipaddress
import re
import socket

from bethrou.errors import Failure, RequestError

MAX_HOST = 255
"""Longest host in characters: the field of SOCKS5 has one length byte, and DNS allows no more."""

_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_NAME_CHARS = re.compile(r"[A-Za-z0-9_.-]*")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DOTTED_DECIMALS = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
"""An IPv4 address without leading zeros. One match costs a fifth of what the ipaddress module takes."""
_PORT = re.compile(r"[0-9]{1,5}")


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`; an IPv6 host comes without brackets.

    Raises RequestError: BAD_REQUEST for what is no address, NO_SUCH_HOST for names that cannot exist.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        raise RequestError(Failure.BAD_REQUEST, f"address {shown(text)} has no port")
    if not _PORT.fullmatch(port):
        raise RequestError(Failure.BAD_REQUEST, f"address {shown(text)} has a bad port")
    if host.startswith("[") and host.endswith("]"):
        return _check_ipv6(host[1:-1]), check_port(int(port))
    if ":" in host:
        raise RequestError(Failure.BAD_REQUEST, f"address {shown(text)} has an IPv6 host without brackets")
    return check_host(host), check_port(int(port))


def join_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_host(host: str) -> str:
    """Return a host that may be looked up or dialled: a name as it came, an IP address in canonical form.

    Raises RequestError like `split_address`.
    """
    if len(host) <= MAX_HOST and _NAME.fullmatch(host):
        return _check_ipv4(host) if _ENDS_IN_NUMBER.fullmatch(host) else host
    if ":" in host and len(host) <= MAX_HOST:
        return _check_ipv6(host)
    if not host:
        raise RequestError(Failure.BAD_REQUEST, "host is empty")
    if len(host) > MAX_HOST:
        raise RequestError(Failure.BAD_REQUEST, f"host {shown(host)} is longer than {MAX_HOST} characters")
    if not _NAME_CHARS.fullmatch(host):
        raise RequestError(Failure.BAD_REQUEST, f"host {shown(host)} has characters that no name has")
    raise RequestError(
        Failure.NO_SUCH_HOST, f"name {shown(host)} has a part that is empty or over 63 characters"
    )


def check_port(port: int) -> int:
    """Return a port that can be dialled. Raises RequestError(BAD_REQUEST) outside 1..65535."""
    if not 1 <= port <= 65535:
        raise RequestError(Failure.BAD_REQUEST, f"port {port} is out of range")
    return port


def pack_address(host: str) -> bytes | None:
    """Return the 4 or 16 bytes of an IP address in text form; None for anything else."""
    # inet_pton does no I/O, and takes a tenth of the ipaddress module's time.
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return None


def shown(text: str) -> str:
    """Return `text` quoted for a log line or an error: ASCII only, escaped, at most 80 characters of it."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _check_ipv4(host: str) -> str:
    if not _DOTTED_DECIMALS.fullmatch(host):
        raise RequestError(
            Failure.NO_SUCH_HOST,
            f"host {shown(host)} is neither a name nor an IPv4 address in dotted decimals",
        )
    return host


def _check_ipv6(host: str) -> str:
    try:
        if "%" in host:
            raise ValueError("a zone means something on one machine only")
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise RequestError(Failure.BAD_REQUEST, f"host {shown(host)} is no IPv6 address") from None
