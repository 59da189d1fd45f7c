"""The sockets on which a host listens: where they are bound, and which of them a connection can be made beside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from bethrou.net.addresses import family_of, local_multiaddr, tcp_endpoint
from bethrou.net.dialer import leads_out
from bethrou.net.listener import Acceptor, open_listening_socket
from bethrou.wire.multiaddr import Multiaddr


class Listening:
    """All of one host. `accepted` gets each new socket; `shortage` is told when descriptors run out or are back."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        accepted: Callable[[socket.socket], None],
        shortage: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._accepted = accepted
        self._shortage = shortage
        self._acceptors: list[Acceptor] = []

    def open(self, address: Multiaddr) -> Multiaddr:
        """Accept connections on `address`; returns it with the port that was chosen. Raises `UserError`s."""
        host, port = tcp_endpoint(address)
        sock = open_listening_socket(host, port, family_of(address))
        self._acceptors.append(Acceptor(self._loop, sock, self._accepted, self._shortage))
        return local_multiaddr(sock)

    def close(self) -> None:
        """Accept no more. What was accepted stays."""
        for acceptor in self._acceptors:
            acceptor.close()

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that are open."""
        return [acceptor.socket for acceptor in self._acceptors if acceptor.socket.fileno() >= 0]

    @property
    def addresses(self) -> list[Multiaddr]:
        """What they are bound to, unspecified addresses as such."""
        return [local_multiaddr(sock) for sock in self.sockets]

    def socket_for(self, address: Multiaddr) -> socket.socket | None:
        """One from whose port the IP address in `address` can be connected to."""
        host = address.host
        if host is None:
            return None
        family = family_of(address)
        return next((sock for sock in self.sockets if sock.family == family and leads_out(sock, host)), None)

    def has(self, local: Multiaddr | None) -> bool:
        """Whether our end of a connection, `local`, is at one of these ports."""
        return local is not None and local.tcp_port in {address.tcp_port for address in self.addresses}
