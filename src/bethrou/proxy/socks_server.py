"""An application that speaks SOCKS5 or SOCKS4, until its request is carried out.

Every connection begins here, as SOCKS5: most are. A first byte that says otherwise changes what is spoken.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bethrou.errors import RequestError
from bethrou.proxy.application import Application
from bethrou.wire import socks4
from bethrou.wire.socks4 import Socks4Server
from bethrou.wire.socks5 import Connect, Credentials, Event, Socks5Server, Stranger, Violation
from bethrou.wire.user_name import UserName

if TYPE_CHECKING:
    from bethrou.proxy.front_door import FrontDoor


class SocksConnection(Application, asyncio.Protocol):
    """One application's connection until the splice takes over."""

    __slots__ = ("_asked", "_core", "_door", "_kept", "name", "wanted")

    def __init__(self, door: FrontDoor) -> None:
        super().__init__()
        self.wanted: asyncio.Future[Connect | None] = door.loop.create_future()
        """Done with the request, or with None when there will be none."""
        self.name = UserName()
        """What the application called itself."""
        self._door = door
        self._core: Socks5Server | Socks4Server = Socks5Server(door.access.anonymous)
        self._asked = False
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._door.connections.add(self)
        self._door.handshakes.start(self, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._asked:
            # payload before the reply: it belongs to the destination
            self._kept += data
            self.transport.pause_reading()
            return
        self._handle(self._core.receive(data))

    def eof_received(self) -> bool:
        self.ended = True
        # during a request the application may have ended its direction in advance; before it, it is gone
        return self._asked

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._let_go()
        if self.on_lost is not None:
            self.on_lost()

    def take_over(self, peer: str, bound: tuple[str, int] | None) -> asyncio.Transport:
        self.on_lost = None
        self.peer = peer
        self.transport.write(self._core.granted(bound))
        return self.transport

    def surplus(self) -> bytes:
        if self._kept:
            self.transport.resume_reading()
        surplus = self._core.surplus + self._kept
        # from here on this object only marks the connection, perhaps for days: let go of what the handshake took
        self._core, self._kept = None, b""  # type: ignore[assignment]
        self.wanted = self.name = None  # type: ignore[assignment]
        return surplus

    def refuse(self, error: RequestError) -> None:
        """Tell the application why there is no connection, and close."""
        self.on_lost = None
        if not self.lost:
            self.transport.write(self._core.refused(error.failure))
            self.transport.close()

    # -- the handshake ----------------------------------------------------------------------------------------------

    def _handle(self, event: Event | None) -> None:
        answer = self._core.data_to_send()
        if isinstance(event, Stranger):
            self._speak_otherwise(event.first)
            return
        while isinstance(event, Credentials):
            refusal = self._judge(event)
            event = self._core.answer_credentials(refusal is None)
            answer += self._core.data_to_send()
            if refusal is not None:
                self._end(answer, refusal)
                return
        if isinstance(event, Violation):
            self._end(answer + event.reply, event.reason)
            return
        if answer:
            self.transport.write(answer)
        if isinstance(event, Connect) and not self.wanted.done():
            self._door.handshakes.stop(self)
            self._asked = True
            self.wanted.set_result(event)

    def _judge(self, offered: Credentials) -> str | None:
        """Why the application is not let in, or None."""
        verdict = self._door.access.judge(offered.user, offered.password)
        if isinstance(verdict, str):
            return verdict
        self.name = verdict
        return None

    def _speak_otherwise(self, first: int) -> None:
        data = self._core.surplus
        if first == socks4.VERSION:
            self._core = Socks4Server(self._door.access.anonymous)
            self._handle(self._core.receive(data))
        elif ord("A") <= first <= ord("Z"):
            self._let_go()
            self._door.speaks_http(self.transport, data)
        elif first == 0x16:
            self._end(b"", "application speaks TLS; it takes this port for an HTTPS proxy or server")
        else:
            self._end(b"", f"application speaks neither SOCKS nor HTTP: its first byte is {first:#04x}")

    def _let_go(self) -> None:
        """This connection is nobody's any more, or somebody else's."""
        self._door.handshakes.stop(self)
        self._door.connections.discard(self)
        if not self.wanted.done():
            self.wanted.set_result(None)

    def _end(self, last_words: bytes, reason: str) -> None:
        self._door.handshakes.stop(self)
        self._door.stranger(self.address, reason)
        if last_words:
            self.transport.write(last_words)
        self.transport.close()

    def _too_slow(self) -> None:
        self._door.stranger(self.address, f"no request within {self._door.handshakes.seconds:g} s")
        self.transport.abort()
