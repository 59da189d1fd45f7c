"""Between multiaddrs and what sockets call addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import NamedTuple
from urllib.parse import quote, unquote

from bethrou.errors import AddressError
from bethrou.wire.multiaddr import Multiaddr, Part


def remote_multiaddr(transport: asyncio.BaseTransport) -> Multiaddr:
    """The peer's end of a TCP connection, as seen here."""
    return _from_sockname(transport.get_extra_info("peername"))


def peer_multiaddr(sock: socket.socket) -> Multiaddr:
    """The peer's end of a socket, as seen here."""
    try:
        return _from_sockname(sock.getpeername())
    except OSError:
        return _from_sockname(None)


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
    parts = address.without_peer().parts
    return address.host is not None and address.tcp_port is not None and len(parts) == 2


def is_websocket(address: Multiaddr) -> bool:
    """Whether a WebSocket leads there, and no relay."""
    return not address.is_circuit and any(name in ("ws", "wss") for name, _ in address.parts)


class Endpoint(NamedTuple):
    """What a multiaddr that can be dialled, or listened on, says of the connection below a link."""

    host: str
    port: int
    websocket: bool
    tls: bool
    server_name: str
    """For TLS, and for the Host header of a WebSocket: what `sni` says, else the host."""
    path: str
    """Of a WebSocket's request, with its slash; "" where the address names none."""


_SECURE = re.compile(r"(?:tls(?: sni)? ws|wss)(?: http-path)?")
_PLAIN = re.compile(r"ws(?: http-path)?")


def endpoint(address: Multiaddr) -> Endpoint:
    """What to connect to or listen on: `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT`, and nothing or one of these behind it:
    `/ws`, `/wss`, `/tls/ws`, `/tls/sni/NAME/ws`; behind these `/http-path/PATH` (spec: libp2p websockets).

    Raises `AddressError` for any other transport.
    """
    host, port = address.host, address.tcp_port
    behind = _behind_tcp(address)
    names = " ".join(name for name, _ in behind)
    secure = _SECURE.fullmatch(names) is not None
    websocket = secure or _PLAIN.fullmatch(names) is not None
    if host is None or port is None or address.is_circuit or (names and not websocket):
        raise AddressError(
            f"{address}: only TCP addresses (/ip4/…/tcp/… or /dns4/…/tcp/…) and WebSockets on them (/ws, /wss, "
            "/tls/sni/…/ws) can be used here"
        )
    values = dict(behind)
    path = values.get("http-path") or ""
    target = quote("/" + unquote(path).removeprefix("/"), safe="/:@!$&'()*+,;=") if path else ""
    return Endpoint(host, port, websocket, secure, values.get("sni") or host.partition("%")[0], target)


def _behind_tcp(address: Multiaddr) -> tuple[Part, ...]:
    parts = address.without_peer().parts
    names = [name for name, _ in parts]
    start = 1 if names[0] == "ip6zone" else 0
    return parts[start + 2 :] if names[start + 1 : start + 2] == ["tcp"] else parts


def as_bound(address: Multiaddr, bound: Multiaddr) -> Multiaddr:
    """The listen address `address` with the IP address and port of `bound` in place of its own.

    A name that a certificate is for stays: peers could not verify another.
    """
    stays = endpoint(address).tls and address.is_dns
    where = f"{_part_text(address.parts[0])}/tcp/{bound.tcp_port}" if stays else str(bound)
    return Multiaddr.parse(where + "".join(map(_part_text, _behind_tcp(address))))


def _part_text(part: Part) -> str:
    name, value = part
    return f"/{name}" if value is None else f"/{name}/{value}"


def tcp_endpoint(address: Multiaddr) -> tuple[str, int]:
    """Host and port to connect to. Raises `AddressError` for what is not plain TCP."""
    host, port = address.host, address.tcp_port
    if host is None or port is None or not is_plain_tcp(address):
        raise AddressError(
            f"{address}: only plain TCP addresses (/ip4/…/tcp/… or /dns4/…/tcp/…) can be used here"
        )
    return host, port


def family_of(address: Multiaddr) -> socket.AddressFamily:
    """The address family that the multiaddr asks for."""
    kind = next((name for name, _ in address.parts if name != "ip6zone"), "")
    if kind in ("ip4", "dns4"):
        return socket.AF_INET
    if kind in ("ip6", "dns6"):
        return socket.AF_INET6
    return socket.AF_UNSPEC
