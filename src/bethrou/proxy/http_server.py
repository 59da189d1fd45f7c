"""An application that speaks HTTP: CONNECT, requests in absolute form, and questions to this port itself.

    head (10 s) --> who is it? --> CONNECT:        as for SOCKS, a splice from then on
                               --> http://...:     http_exchange.py; then the next head, for up to a minute
                               --> /...:           a page or the PAC file, and the end

One task serves a connection, one request after the other: what is sent ahead waits, 64 KiB of it at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import h11

from bethrou.errors import LinkError, RequestError
from bethrou.net.tasks import Tasks
from bethrou.net.tcp import end_writing
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy.application import Application
from bethrou.proxy.http_exchange import Exchange
from bethrou.proxy.http_pipe import HttpPipe
from bethrou.proxy.upstream import Upstream, open_upstream
from bethrou.wire.destination import join_address
from bethrou.wire.http_answers import Answer, answer_locally, answer_to, login_wanted, refusal
from bethrou.wire.http_request import (
    HttpRefused,
    Target,
    basic_credentials,
    connect_target,
    first,
    forward_target,
    read_head,
)
from bethrou.wire.user_name import UserName

if TYPE_CHECKING:
    from bethrou.proxy.front_door import FrontDoor

IDLE_TIMEOUT = 60.0
"""Seconds for which a connection is kept for another request."""

FAREWELL = 1.0
"""Seconds for which what still comes is read after the last answer: a connection that is closed with unread bytes is
reset, and the answer may be lost with it."""

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class HttpServer:
    """Serves the connections of a front door that speak HTTP."""

    def __init__(self, door: FrontDoor) -> None:
        self.door = door
        self.carrier = door.carrier
        self.heads = TimeoutQueue(door.loop, door.handshakes.seconds)
        self.idle = TimeoutQueue(door.loop, IDLE_TIMEOUT)
        self.farewells = TimeoutQueue(door.loop, FAREWELL)
        self.tasks = Tasks(door.loop)

    def serve(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection that has begun with `data`."""
        connection = HttpConnection(self, transport, data)
        self.carrier.connections.add(connection)
        connection.task = self.tasks.start(connection.serve(), "http connection")

    async def close(self) -> None:
        """End all at once."""
        await self.tasks.close()
        for queue in (self.heads, self.idle, self.farewells):
            queue.close()


class HttpConnection(Application):
    """One application's connection: what a request is answered with, and whether another may follow."""

    __slots__ = (
        "_awaiting",
        "_end_reason",
        "_http",
        "_method",
        "_server",
        "_whole",
        "pipe",
        "task",
        "upstream",
    )

    task: asyncio.Task[None]

    def __init__(self, server: HttpServer, transport: asyncio.Transport, data: bytes) -> None:
        super().__init__()
        self.transport = transport
        self.pipe = HttpPipe(server.door.loop, transport, data)
        self.upstream: Upstream | None = None
        """The destination of the last request, as long as it can be used for the next."""
        self._server = server
        self._http: h11.Connection | None = None
        """What has read the current request; a new one for each, so that nothing is left over in it."""
        self._method = b""
        """That of the current request."""
        self._whole = False
        """Whether the current request has no body that is still to come."""
        self._awaiting = False
        """Whether there is no request now."""
        self._end_reason = ""

    async def serve(self) -> None:
        """Answer requests until one is the last."""
        try:
            while await self._answer_next():
                continue
            if self.splice is None:
                await self._farewell()
        except (OSError, LinkError):
            self.pipe.break_off()  # in the middle of an answer, or the application is gone
        finally:
            if self.splice is None:
                self._release()

    # -- one request -------------------------------------------------------------------------------------------------

    async def _answer_next(self) -> bool:
        """Whether another request may follow."""
        try:
            head = await self._next_head()
            if not head:
                return False
            self._http, request = read_head(head)
            self._method = request.method
            self._whole = self._http.next_event() is not h11.NEED_DATA
            return await self._obey(request)
        except HttpRefused as refused:
            self._turn_away(refused)
            return False

    async def _next_head(self) -> bytes:
        if self._http is not None:
            self.pipe.push_back(self._http.trailing_data[0])
            self._http = None
            if not await self._begins_again():
                return b""
        try:
            with self._server.heads.limit():
                return await self.pipe.read_head()
        except TimeoutError:
            raise HttpRefused(408, f"no request within {self._server.heads.seconds:g} s") from None

    async def _begins_again(self) -> bool:
        """Wait for another request; meanwhile the destination may end its connection."""
        if self._server.door.draining:
            return False
        self._awaiting = True
        if self.upstream is not None:
            self.upstream.pipe.on_end = self._close_upstream
            if self.upstream.pipe.ended:
                self._close_upstream()
        try:
            with self._server.idle.limit():
                return await self.pipe.begins()
        except TimeoutError:
            return False
        finally:
            self._awaiting = False
            if self.upstream is not None:
                self.upstream.pipe.on_end = None

    async def _obey(self, request: h11.Request) -> bool:
        if request.method != b"CONNECT" and request.target[:1] in b"/*":
            return self._answer_here(request)
        name = self._admit(request)
        if name is None:
            return self._reusable()
        if request.method == b"CONNECT":
            await self._connect(request, name)
            return False
        return await self._forward(request, name)

    def _admit(self, request: h11.Request) -> UserName | None:
        """Who sends it; None when the application has been told to log in."""
        access = self._server.door.access
        try:
            credentials = basic_credentials(request)
        except HttpRefused as refused:
            verdict: UserName | str = str(refused)
        else:
            if credentials is None:
                if access.anonymous:
                    return UserName()
                # the usual way in which a login begins, so the log says nothing of it
                self.answer(login_wanted("a user name and password are needed"))
                return None
            verdict = access.judge(*credentials)
        if isinstance(verdict, UserName):
            return verdict
        self._server.door.stranger(self.address, verdict)
        self.answer(login_wanted(verdict))
        return None

    def _answer_here(self, request: h11.Request) -> bool:
        """A request for this port itself. Nothing follows it on this connection: it may come from a page."""
        host = first(request.headers, b"host")
        answer = answer_locally(
            request.method.decode("ascii"),
            request.target.decode("ascii"),
            None if host is None else host.decode("latin-1"),
            not self._server.door.access.anonymous,
        )
        if answer.status != 200:
            self._server.door.stranger(
                self.address, "application takes this port for a web server; as a proxy it would name a host"
            )
        self.answer(answer, close=True)
        return False

    def _turn_away(self, refused: HttpRefused) -> None:
        """Something that is no request."""
        self._server.door.stranger(self.address, str(refused))
        if self._http is not None:
            self.answer(refusal(refused.status, str(refused)), close=True)
        elif refused.status:
            self.pipe.write(refusal(refused.status, str(refused)).encoded())

    # -- CONNECT -----------------------------------------------------------------------------------------------------

    async def _connect(self, request: h11.Request, name: UserName) -> None:
        try:
            host, port = connect_target(request)
        except RequestError as error:
            self._server.door.stranger(self.address, str(error))
            self.answer(answer_to(error, "CONNECT"))
            return
        self._close_upstream()
        if self.pipe.lost:
            return
        self.on_lost = self.pipe.on_lost = self.task.cancel
        await self._server.carrier.carry(self, host, port, name)

    def take_over(self, peer: str, bound: tuple[str, int] | None) -> asyncio.Transport:
        self.on_lost = self.pipe.on_lost = None
        self.peer = peer
        self.pipe.write(_ESTABLISHED)
        return self.transport

    def surplus(self) -> bytes:
        self.ended, self.lost = self.pipe.ended, self.pipe.lost
        assert self._http is not None
        surplus = self._http.trailing_data[0] + self.pipe.detach()
        # from here on this object only marks the connection
        self._http = None
        return surplus

    def refuse(self, error: RequestError) -> None:
        self.on_lost = self.pipe.on_lost = None
        assert self.request is not None
        self.answer(answer_to(error, join_address(self.request.host, self.request.port)))
        self.request = None

    # -- requests in absolute form -----------------------------------------------------------------------------------

    async def _forward(self, request: h11.Request, name: UserName) -> bool:
        try:
            target = forward_target(request)
        except RequestError as error:
            self._server.door.stranger(self.address, str(error))
            self.answer(answer_to(error, "URL"))
            return self._reusable()
        if self.pipe.lost:
            return False
        self.pipe.on_lost = self.task.cancel
        try:
            upstream = await self._reach(target, name)
            if upstream is None:
                return self._reusable()
            return await self._exchange(upstream, request, target)
        finally:
            self.pipe.on_lost = None

    async def _reach(self, target: Target, name: UserName) -> Upstream | None:
        """The destination of a request, connected; None when the application has been told why it is not."""
        carrier = self._server.carrier
        wanted = carrier.request(target.host, target.port, name)
        ruling = carrier.rule(wanted, name)
        if self.upstream is not None:
            if self.upstream.serves(target.host, target.port, name, ruling):
                return self.upstream
            self._close_upstream()
        self.request, self.started, self.peer = wanted, carrier.loop.time(), ""
        try:
            self.upstream = await open_upstream(carrier, wanted, self.started, name, ruling)
        except RequestError as error:
            self.request = None
            self.answer(answer_to(error, join_address(target.host, target.port)))
            return None
        self.peer = self.upstream.peer
        return self.upstream

    async def _exchange(self, upstream: Upstream, request: h11.Request, target: Target) -> bool:
        assert self._http is not None
        exchange = Exchange(self._server, self, upstream, self._http, request, target)
        try:
            await exchange.run(whole=self._whole)
        except asyncio.CancelledError:
            upstream.fail(self._end_reason or "the application gave up")
            raise
        if self.splice is not None:
            return False
        if not exchange.upstream_reusable:
            self._close_upstream()
        return not exchange.broken and self._reusable()

    # -- answers of our own ------------------------------------------------------------------------------------------

    def answer(self, answer: Answer, close: bool = False) -> None:
        """Answer the current request, which has had no answer. `close`: nothing may follow."""
        http = self._http
        assert http is not None
        headers = answer.fields
        # what comes behind a CONNECT is meant for its destination: none of it may be read as a request
        if close or not self._whole or self._server.door.draining or self._method == b"CONNECT":
            headers.append(("Connection", "close"))
        head = (
            http.send(h11.Response(status_code=answer.status, reason=answer.phrase, headers=headers)) or b""
        )
        body = b"" if self._method == b"HEAD" else http.send(h11.Data(data=answer.body)) or b""
        self.pipe.write(head + body + (http.send(h11.EndOfMessage()) or b""))

    def _reusable(self) -> bool:
        """Whether the current request and its answer are complete, and another one may follow."""
        http = self._http
        return http is not None and http.our_state is h11.DONE and http.their_state is h11.DONE

    # -- as others see it --------------------------------------------------------------------------------------------

    def moved(self) -> tuple[int, int]:
        upstream = self.upstream
        if upstream is None:
            return super().moved()
        sent, received = super().moved()
        return upstream.pipe.sent + sent, upstream.pipe.received + received

    def idle_since(self, now: float) -> float:
        if self.splice is not None:
            return super().idle_since(now)
        if self._awaiting or self.request is None:
            return float("inf")
        if self.upstream is None:
            return 0.0
        return now - max(self.pipe.last_activity, self.upstream.pipe.last_activity)

    def abort(self, reason: str = "the client is stopping") -> None:
        if self.splice is None:
            self._end_reason = reason
            self.pipe.break_off()
        else:
            super().abort(reason)

    def drain(self) -> None:
        if self._awaiting:
            self.transport.close()

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _farewell(self) -> None:
        """Close once what was said has arrived."""
        if not self.pipe.lost and not self.transport.is_closing():
            end_writing(self.transport)
            with contextlib.suppress(TimeoutError), self._server.farewells.limit():
                await self.pipe.skip()

    def _close_upstream(self) -> None:
        upstream, self.upstream, self.request = self.upstream, None, None
        if upstream is not None:
            upstream.close()

    def _release(self) -> None:
        """Nothing more is to be said."""
        self._server.carrier.connections.discard(self)
        self.pipe.on_lost = None
        if self.upstream is not None and self._end_reason:
            self.upstream.fail(self._end_reason)
        self._close_upstream()
        if not self.pipe.lost:
            self.transport.close()
