"""Where applications connect: SOCKS5 on a local port, each request routed to an exit.

    socket --> handshake (10 s) --> route --> reply --> splice

Success is told only after the destination is connected. Nothing is sent from this machine itself, unless a rule of the
configuration says `direct`.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bethrou.config import Action
from bethrou.errors import DecodeError, Failure, RequestError
from bethrou.events import DescriptorsShort, Emit, RequestEnded, StrangerRefused
from bethrou.net.listener import Acceptor
from bethrou.net.splice import Splice, SpliceEnd
from bethrou.net.tasks import Tasks
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy.router import Routed, Router
from bethrou.proxy.strategies import STRATEGIES
from bethrou.snapshots import ConnectionSnapshot
from bethrou.wire.proxy_request import ProxyRequest, join_address
from bethrou.wire.socks5 import Connect, Credentials, Event, Reply, Socks5Server, Violation, reply, reply_code
from bethrou.wire.user_name import UserName

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that an application has to say what it wants."""

MANY = 128
"""Connections that wait for their request to be carried out, beyond which others are taken on one by one: five thousand
at a time would take half as much memory again."""

MAX_CONNECTIONS = 32_768
"""Applications' connections at once; more are closed."""


if TYPE_CHECKING:  # they bring the resolver, which few clients need
    from bethrou.proxy.destination import EarlyBytes
    from bethrou.proxy.direct import DirectDialer

DIRECT = "direct"
"""Stands where else the exit's peer ID does, when a request left from this machine itself."""

Ended = Callable[..., None]
"""Reports the end of a request: exit, result, reason and, if there was one, the splice's end."""


@dataclass(frozen=True, repr=False)
class Access:
    """Who may use the proxy: `users` (name to password), or everybody when it is empty."""

    users: Mapping[str, str]

    @property
    def anonymous(self) -> bool:
        """Whether no user name is needed."""
        return not self.users

    def admits(self, user: str, password: bytes) -> bool:
        """Whether the password is right; without users any is."""
        if self.anonymous:
            return True
        expected = self.users.get(user, "")
        return hmac.compare_digest(expected.encode(), password) and user in self.users


class SocksServer:
    """Serves one listening socket. `half_close_wait`: seconds for which FIN is held back from a 1.0.0 exit."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        access: Access,
        emit: Emit,
        *,
        randbytes: Callable[[int], bytes],
        scratch: memoryview,
        half_close_wait: float,
    ) -> None:
        self.loop = loop
        self.access = access
        """May be changed; who is connected stays."""
        self.handshakes = TimeoutQueue(loop, HANDSHAKE_TIMEOUT)
        self.connections: set[SocksConnection] = set()
        self._router = router
        self._emit = emit
        self._randbytes = randbytes
        self._scratch = scratch
        self.half_close_wait = half_close_wait
        self.direct: DirectDialer | None = None
        """Who dials from this machine; needed as soon as a rule says `direct`."""
        self._tasks = Tasks(loop)
        self._acceptor: Acceptor | None = None

    def listen(self, sock: socket.socket) -> None:
        """Serve a listening socket."""
        self._acceptor = Acceptor(
            self.loop,
            sock,
            self._accepted,
            lambda short: self._emit(DescriptorsShort("socks", short)),
            lambda: len(self._tasks) >= MANY,
        )

    def stop_listening(self) -> None:
        """Accept no more applications."""
        if self._acceptor is not None:
            self._acceptor.close()

    def snapshots(self) -> list[ConnectionSnapshot]:
        """The connections that carry a request, or wait for one to be carried."""
        now = self.loop.time()
        seen = [connection.snapshot(now) for connection in self.connections]
        return [snapshot for snapshot in seen if snapshot is not None]

    def close_connection(self, identifier: str) -> bool:
        """End the connection whose request has this ID. Whether there was one."""
        for connection in self.connections:
            if connection.request is not None and connection.request.id == identifier:
                connection.abort("closed by the user")
                return True
        return False

    def idle_for(self, seconds: float) -> bool:
        """Whether no connection has moved a byte for `seconds`; requests on their way count as moving."""
        now = self.loop.time()
        return all(connection.idle_since(now) >= seconds for connection in self.connections)

    async def close(self) -> None:
        """End every connection at once."""
        self.stop_listening()
        self.handshakes.close()
        for connection in list(self.connections):
            connection.abort()
        await self._tasks.close()

    # -- one connection ---------------------------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        if len(self.connections) >= MAX_CONNECTIONS:
            sock.close()
            return
        self._tasks.start(self._serve(sock), "socks connection")

    async def _serve(self, sock: socket.socket) -> None:
        try:
            _, connection = await self.loop.connect_accepted_socket(lambda: SocksConnection(self), sock)
        except OSError:
            sock.close()
            return
        wanted = await connection.wanted
        if wanted is not None and not connection.lost:
            task = asyncio.current_task()
            assert task is not None
            connection.on_lost = task.cancel
            await self._carry(connection, wanted, connection.name)

    def stranger(self, address: str, reason: str) -> None:
        """Something connected that is no SOCKS client, or must not come in."""
        self._emit(StrangerRefused("socks", address, reason))

    async def _carry(self, connection: SocksConnection, wanted: Connect, name: UserName) -> None:
        started = self.loop.time()
        request = ProxyRequest(wanted.host, wanted.port, self._randbytes(8).hex(), name.user or None)
        connection.request, connection.started = request, started
        ended = partial(self._ended, request, started)
        ruling = self._router.rule(request, name)
        try:
            if ruling.action is Action.DIRECT and self.direct is not None:
                transport, early = await self.direct.open(request)
                self._join_direct(connection, transport, early, ended)
            else:
                self._join(connection, await self._router.route(request, name, ruling), ended)
        except RequestError as error:
            connection.refuse(error.failure)
            ended(error.exit, error.failure.value, str(error))
        except asyncio.CancelledError:
            ended("", "aborted", "the application gave up")
            raise

    def _join(self, connection: SocksConnection, routed: Routed, ended: Ended) -> None:
        exit_, accepted = routed  # what is kept until the end is the exit, and nothing of the asking

        def finished(end: SpliceEnd) -> None:
            self.connections.discard(connection)
            self._router.finished(exit_)
            self._report(connection.peer, "exit", end, ended)

        transport = connection.take_over(str(exit_.peer), accepted.bound)
        connection.splice = Splice(
            self.loop,
            transport,
            accepted.stream,
            finished,
            left_scratch=self._scratch,
            from_left=connection.surplus(),
            from_right=accepted.reader.detach(),
            left_ended=connection.ended,
            right_ended=accepted.reader.ended,
            left_lost=connection.lost,
            right_lost=accepted.reader.lost,
            hold_fin_from_left=None if accepted.half_close else self.half_close_wait,
        )

    def _join_direct(
        self, connection: SocksConnection, transport: asyncio.Transport, early: EarlyBytes, ended: Ended
    ) -> None:
        def finished(end: SpliceEnd) -> None:
            self.connections.discard(connection)
            self._report(DIRECT, "destination", end, ended)

        bound = transport.get_extra_info("sockname")
        connection.splice = Splice(
            self.loop,
            connection.take_over(DIRECT, (bound[0], bound[1]) if bound else None),
            transport,
            finished,
            from_left=connection.surplus(),
            from_right=early.data,
            left_ended=connection.ended,
            right_ended=early.ended,
            left_lost=connection.lost,
            right_lost=early.lost,
        )

    def _report(self, peer: str, other: str, end: SpliceEnd, ended: Ended) -> None:
        if end.error is None:
            ended(peer, "ok", "", end)
        else:
            ended(
                peer, "aborted", f"{'application' if end.failed_side == 'left' else other}: {end.error}", end
            )

    def _ended(
        self,
        request: ProxyRequest,
        started: float,
        peer: str,
        result: str,
        reason: str,
        end: SpliceEnd | None = None,
    ) -> None:
        self._emit(
            RequestEnded(
                id=request.id or "",
                peer=peer,
                destination=join_address(request.host, request.port),
                result=result,
                reason=reason,
                sent=end.from_left if end else 0,
                received=end.from_right if end else 0,
                seconds=self.loop.time() - started,
                user=request.user or "",
            )
        )


class SocksConnection(asyncio.Protocol):
    """One application's connection until the splice takes over."""

    __slots__ = (
        "_asked",
        "_core",
        "_kept",
        "_server",
        "ended",
        "lost",
        "name",
        "on_lost",
        "peer",
        "request",
        "splice",
        "started",
        "transport",
        "wanted",
    )

    transport: asyncio.Transport

    def __init__(self, server: SocksServer) -> None:
        self.wanted: asyncio.Future[Connect | None] = server.loop.create_future()
        """Done with the request, or with None when there will be none."""
        self.name = UserName()
        """What the application called itself."""
        self.ended = False
        """Whether the application has sent all it will."""
        self.lost = False
        self.on_lost: Callable[[], object] | None = None
        """Called when the application is gone before the splice has taken over."""
        self.splice: Splice | None = None
        self.request: ProxyRequest | None = None
        """What it asked for."""
        self.started = 0.0
        """When it did, in the loop's seconds."""
        self.peer = ""
        """The exit that carries it, or `DIRECT`; "" while one is being chosen."""
        self._server = server
        self._core = Socks5Server(allow_anonymous=server.access.anonymous)
        self._asked = False
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)
        self._server.handshakes.start(self, self._too_slow)

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
        self._server.handshakes.stop(self)
        self._server.connections.discard(self)
        if not self.wanted.done():
            self.wanted.set_result(None)
        if self.on_lost is not None:
            self.on_lost()

    def take_over(self, peer: str, bound: tuple[str, int] | None) -> asyncio.Transport:
        """The request is carried out by `peer`: tell the application, and give its connection to the splice."""
        self.on_lost = None
        self.peer = peer
        self.transport.write(reply(Reply.SUCCEEDED, bound))
        return self.transport

    def snapshot(self, now: float) -> ConnectionSnapshot | None:
        """What the outside may see; None before there is a request."""
        request, splice = self.request, self.splice
        if request is None:
            return None
        return ConnectionSnapshot(
            id=request.id or "",
            destination=join_address(request.host, request.port),
            peer=self.peer,
            user=request.user or "",
            sent=splice.bytes_from_left if splice is not None else 0,
            received=splice.bytes_from_right if splice is not None else 0,
            seconds=now - self.started,
            idle=self.idle_since(now),
        )

    def surplus(self) -> bytes:
        """What the application sent behind its request; reading goes on. To be called once."""
        if self._kept:
            self.transport.resume_reading()
        surplus = self._core.surplus + self._kept
        # from here on this object only marks the connection, perhaps for days: let go of what the handshake took
        self._core, self._kept = None, b""  # type: ignore[assignment]
        self.wanted = self.name = None  # type: ignore[assignment]
        return surplus

    def refuse(self, failure: Failure) -> None:
        """Tell the application why there is no connection, and close."""
        self.on_lost = None
        if not self.lost:
            self.transport.write(reply(reply_code(failure)))
            self.transport.close()

    def abort(self, reason: str = "the client is stopping") -> None:
        """End at once."""
        if self.splice is not None:
            self.splice.abort(RequestError(Failure.INTERNAL, reason))
        else:
            self.transport.abort()

    def idle_since(self, now: float) -> float:
        """Seconds since the last byte; 0 while a request is on its way."""
        if self.splice is not None:
            return now - self.splice.last_activity
        return 0.0 if self._asked else float("inf")

    # -- the handshake ----------------------------------------------------------------------------------------------

    def _handle(self, event: Event | None) -> None:
        answer = self._core.data_to_send()
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
        if event is not None and not self.wanted.done():
            self._server.handshakes.stop(self)
            self._asked = True
            self.wanted.set_result(event)

    def _judge(self, offered: Credentials) -> str | None:
        """Why the application is not let in, or None."""
        try:
            self.name = UserName.parse(offered.user)
        except DecodeError as error:
            return str(error)
        if self.name.strategy is not None and self.name.strategy not in STRATEGIES:
            return "user name asks for an unknown strategy"
        if not self._server.access.admits(self.name.user, offered.password):
            return "wrong user name or password"
        return None

    def _end(self, last_words: bytes, reason: str) -> None:
        self._server.handshakes.stop(self)
        self._server.stranger(self._address(), reason)
        if last_words:
            self.transport.write(last_words)
        self.transport.close()

    def _too_slow(self) -> None:
        self._server.stranger(self._address(), f"no request within {HANDSHAKE_TIMEOUT:.0f} s")
        self.transport.abort()

    def _address(self) -> str:
        name = self.transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if name else "?"
