"""Between multiaddrs and what sockets call addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from bethrou.errors import AddressError
from bethrou.wire.multiaddr import Multiaddr


def remote_multiaddr(transport: asyncio.BaseTransport) -> Multiaddr:
    """The peer's end of a TCP connection, as seen here."""
    return _from_sockname(transport.get_extra_info("peername"))


def local_multiaddr(sock: socket.socket) -> Multiaddr:
    """Our end of a socket."""
    return _from_sockname(sock.getsockname())


def local_end(transport: asyncio.BaseTransport) -> Multiaddr | None:
    """Our end of a TCP connection; None of another pipe, or of a connection that is gone already."""
    name = transport.get_extra_info("sockname")
    return _from_sockname(name) if isinstance(name, tuple) else None


def _from_sockname(name: tuple[object, ...] | None) -> Multiaddr:
    if not name:
        return Multiaddr.tcp("0.0.0.0", 0)  # the connection is gone already
    host = str(name[0]).partition("%")[0]
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if address.version == 6 else None
    return Multiaddr.tcp(str(mapped or address), int(str(name[1])))


def is_loopback(address: Multiaddr) -> bool:
    """Whether only this machine can use the address."""
    host = address.host
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_plain_tcp(address: Multiaddr) -> bool:
    """Whether it is an IP address or name and a TCP port, and nothing else."""
    names = [name for name, _ in address.without_peer().parts]
    return address.host is not None and address.tcp_port is not None and len(names) == 2


def tcp_endpoint(address: Multiaddr) -> tuple[str, int]:
    """Host and port to connect to or listen on. Raises `AddressError` for what is not plain TCP."""
    host, port = address.host, address.tcp_port
    if host is None or port is None or not is_plain_tcp(address):
        raise AddressError(
            f"{address}: only plain TCP addresses (/ip4/…/tcp/… or /dns4/…/tcp/…) can be used here"
        )
    return host, port


def family_of(address: Multiaddr) -> socket.AddressFamily:
    """The address family that the multiaddr asks for."""
    kind = address.parts[0][0]
    if kind in ("ip4", "dns4"):
        return socket.AF_INET
    if kind in ("ip6", "dns6"):
        return socket.AF_INET6
    return socket.AF_UNSPEC
