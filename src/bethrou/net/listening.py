"""The sockets on which a host listens: where they are bound, what is spoken there, and which of them a connection can
be made beside.

A port may be listed twice, plain and as `/ws`: then what a peer sends first says which it is. TLS has a port of its
own.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable

from bethrou.errors import ConfigError
from bethrou.net.addresses import Endpoint, as_bound, endpoint, family_of, local_multiaddr
from bethrou.net.dialer import leads_out
from bethrou.net.listener import Acceptor, open_listening_socket
from bethrou.wire.multiaddr import Multiaddr


class Port:
    """One listening socket, and what is spoken there."""

    def __init__(self, sock: socket.socket, family: socket.AddressFamily) -> None:
        self.socket = sock
        self.family = family
        """As it was asked for."""
        self.plain: bool = False
        """Whether libp2p is spoken on bare TCP."""
        self.websocket: Endpoint | None = None
        """How WebSockets are spoken, if at all."""
        self._listed: list[Multiaddr] = []

    def speak(self, address: Multiaddr, wanted: Endpoint) -> Multiaddr:
        """Speak what `address` asks for, too; returns it with the port that was chosen. Raises `ConfigError`."""
        tls = self.websocket is not None and self.websocket.tls
        if wanted.websocket and self.websocket is not None:
            raise ConfigError(f"cannot listen on {address}: this port has WebSockets of another kind already")
        if self._listed and (tls or wanted.tls):
            raise ConfigError(f"cannot listen on {address}: with TLS, a port speaks nothing else")
        if wanted.websocket:
            self.websocket = wanted
        else:
            self.plain = True
        self._listed.append(address)
        return self.addresses[-1]

    @property
    def addresses(self) -> list[Multiaddr]:
        """What it is bound to, unspecified addresses as such, once for each thing that is spoken."""
        bound = local_multiaddr(self.socket)
        return [as_bound(address, bound) for address in self._listed]


class Listening:
    """All of one host. `accepted` gets each new socket, and where it came in; `shortage` is told when descriptors run
    out or are back."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        accepted: Callable[[Port, socket.socket], None],
        shortage: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._accepted = accepted
        self._shortage = shortage
        self._acceptors: list[Acceptor] = []
        self._ports: list[Port] = []

    def open(self, address: Multiaddr) -> Multiaddr:
        """Accept connections on `address`; returns it with the port that was chosen. Raises `UserError`s."""
        wanted = endpoint(address)
        family = family_of(address)
        port = next((port for port in self._open_ports if _is_at(port, wanted, family)), None)
        if port is None:
            sock = open_listening_socket(wanted.host, wanted.port, family)
            port = Port(sock, family)
            accepted = functools.partial(self._accepted, port)
            self._acceptors.append(Acceptor(self._loop, sock, accepted, self._shortage))
            self._ports.append(port)
        return port.speak(address, wanted)

    def close(self) -> None:
        """Accept no more. What was accepted stays."""
        for acceptor in self._acceptors:
            acceptor.close()

    @property
    def _open_ports(self) -> list[Port]:
        return [port for port in self._ports if port.socket.fileno() >= 0]

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that are open and speak plain TCP: a connection from another port would lead peers to that."""
        return [port.socket for port in self._open_ports if port.plain]

    @property
    def addresses(self) -> list[Multiaddr]:
        """What they are bound to, unspecified addresses as such."""
        return [address for port in self._open_ports for address in port.addresses]

    def socket_for(self, address: Multiaddr) -> socket.socket | None:
        """One from whose port the IP address in `address` can be connected to."""
        host = address.host
        if host is None:
            return None
        family = family_of(address)
        return next((sock for sock in self.sockets if sock.family == family and leads_out(sock, host)), None)

    def has(self, local: Multiaddr | None) -> bool:
        """Whether our end of a connection, `local`, is at one of the ports for plain TCP."""
        return local is not None and local.tcp_port in {
            local_multiaddr(sock).tcp_port for sock in self.sockets
        }


def _is_at(port: Port, wanted: Endpoint, family: socket.AddressFamily) -> bool:
    """Whether it is bound to just what is wanted; port 0 is always another one."""
    bound = local_multiaddr(port.socket)
    listed = port.addresses[0].host
    return (
        wanted.port != 0
        and wanted.port == bound.tcp_port
        and wanted.host in (bound.host, listed)
        and family == port.family
    )
