"""One HTTP request passed on to its destination, and the answer passed back.

The body goes up while the answer comes down: an answer may begin before the body has ended. Each direction waits when
the other end does not take more. A request that has begun is never sent again; when its connection had served others
before and ends without a word, the application's is ended alike: it knows that this can happen to a kept connection,
and whether the request may be repeated. When the application has sent all it will, the destination is told: to many
that means that nobody waits for the answer any more, as it would without a proxy.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11

from bethrou.errors import LinkError
from bethrou.net.splice import Splice, SpliceEnd
from bethrou.proxy.http_pipe import HttpPipe
from bethrou.proxy.upstream import Upstream
from bethrou.wire.destination import join_address
from bethrou.wire.http_answers import refusal
from bethrou.wire.http_request import (
    Target,
    headers_for_application,
    headers_for_origin,
    trailers,
    wanted_upgrade,
)

if TYPE_CHECKING:
    from bethrou.proxy.http_server import HttpConnection, HttpServer

MAX_ANSWER_HEAD = 64 * 1024
"""Bytes of an answer's head, and of each chunk's head and the trailers, that may wait to be complete."""

_FAILED = (h11.RemoteProtocolError, LinkError, OSError)
"""What a destination can do wrong, or the way to it."""


class Exchange:
    """One request. `near` has read its head from `app`; the answer is written with it, too."""

    def __init__(
        self,
        server: HttpServer,
        app: HttpConnection,
        upstream: Upstream,
        near: h11.Connection,
        request: h11.Request,
        target: Target,
    ) -> None:
        self._server = server
        self._app = app
        self._upstream = upstream
        self._near = near
        self._far = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD)
        self._request = request
        self._target = target
        self._sending: asyncio.Task[None] | None = None
        self._held_fin: asyncio.TimerHandle | None = None
        self._violation = ""
        """What the application did wrong in its body."""
        self._answered = False
        """Whether the head of the final answer has been passed on."""
        self.broken = False
        """Whether the application's connection cannot be used any more."""

    @property
    def upstream_reusable(self) -> bool:
        """Whether the destination's connection can have another request."""
        far = self._far
        return far.our_state is h11.DONE and far.their_state is h11.DONE and not far.trailing_data[0]

    async def run(self, whole: bool) -> None:
        """Pass the request and its answer on. `whole`: the request has no body."""
        before = self._upstream.pipe.received
        self._send_head(whole)
        if not whole:
            self._sending = self._server.tasks.start(self._send_body(), "http request body")
        self._app.pipe.on_end = self._pass_end_on
        self._pass_end_on()
        try:
            await self._pass_answer_on()
            if self._sending is not None and self._app.splice is None:
                await asyncio.wait({self._sending})
            if self._violation:  # an answer whose end is the connection's looks complete now
                raise h11.RemoteProtocolError(self._violation)
            self._upstream.used = True
        except _FAILED as error:
            self._failed(str(error), silent=self._upstream.pipe.received == before)
        finally:
            self._app.pipe.on_end = None
            if self._held_fin is not None:
                self._held_fin.cancel()
            await self._stop_sending()

    async def _stop_sending(self) -> None:
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            await asyncio.wait({self._sending})

    # -- up ----------------------------------------------------------------------------------------------------------

    def _send_head(self, whole: bool) -> None:
        request = h11.Request(
            method=self._request.method,
            target=self._target.path,
            headers=headers_for_origin(self._request, self._target),
        )
        data = self._far.send(request) or b""
        if whole:
            data += self._far.send(h11.EndOfMessage()) or b""
        self._upstream.pipe.write(data)

    async def _send_body(self) -> None:
        try:
            while not self._upstream.pipe.lost:
                event = await _next_event(self._near, self._app.pipe)
                if isinstance(event, h11.Data):
                    self._upstream.pipe.write(self._far.send(event) or b"")
                    await self._upstream.pipe.drain()
                elif isinstance(event, h11.EndOfMessage):
                    end = h11.EndOfMessage(headers=trailers(event))
                    self._upstream.pipe.write(self._far.send(end) or b"")
                    self._pass_end_on()
                    return
                else:
                    return
        except (h11.RemoteProtocolError, OSError) as error:
            self._violation = str(error)
            self._upstream.fail(f"application: {error}")

    def _pass_end_on(self) -> None:
        """If the application has sent all it will, and this request is the end of it, tell the destination."""
        pipe = self._app.pipe
        last = (
            self._far.our_state is not h11.SEND_BODY and not pipe.buffered and not self._near.trailing_data[0]
        )
        if not pipe.ended or not last:
            return
        if self._upstream.half_close:
            self._upstream.end_writing()
        elif self._held_fin is None:
            self._hold_end()

    def _hold_end(self) -> None:
        """Tell it only when nothing has come for a while: a 1.0.0 exit drops the answer when it is told earlier."""
        loop = self._server.carrier.loop
        quiet = loop.time() - self._upstream.pipe.last_activity
        wait = self._server.carrier.half_close_wait
        if quiet < wait:
            self._held_fin = loop.call_later(wait - quiet, self._hold_end)
        else:
            self._upstream.end_writing()

    # -- down --------------------------------------------------------------------------------------------------------

    async def _pass_answer_on(self) -> None:
        while True:
            event = await _next_event(self._far, self._upstream.pipe)
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._switch(event)
                    return
                self._pass_information_on(event)
            elif isinstance(event, h11.Response):
                self._pass_head_on(event)
            elif isinstance(event, h11.Data):
                self._app.pipe.write(self._near.send(event) or b"")
            elif isinstance(event, h11.EndOfMessage):
                self._app.pipe.write(self._near.send(h11.EndOfMessage(headers=self._trailers(event))) or b"")
                return
            else:
                raise h11.RemoteProtocolError("the destination has ended the connection")
            await self._app.pipe.drain()

    def _pass_information_on(self, event: h11.InformationalResponse) -> None:
        if self._request.http_version == b"1.0":
            return  # it knows none (spec: RFC 9110, section 15.2)
        headers = headers_for_application(event)
        information = h11.InformationalResponse(
            status_code=event.status_code, reason=event.reason, headers=headers
        )
        self._app.pipe.write(self._near.send(information) or b"")

    def _pass_head_on(self, event: h11.Response) -> None:
        headers = headers_for_application(event)
        in_vain = self._near.they_are_waiting_for_100_continue
        if in_vain and self._sending is not None:
            self._sending.cancel()  # the body that was to come after 100 may never come now
        if in_vain or self._server.door.draining:
            headers.append((b"Connection", b"close"))
        self._answered = True
        response = h11.Response(status_code=event.status_code, reason=event.reason, headers=headers)
        self._app.pipe.write(self._near.send(response) or b"")

    def _trailers(self, event: h11.EndOfMessage) -> list[tuple[bytes, bytes]]:
        return trailers(event) if self._request.http_version == b"1.1" else []

    def _switch(self, event: h11.InformationalResponse) -> None:
        """Both ends speak another protocol from here on (WebSocket, say): the connection becomes a pipe."""
        if wanted_upgrade(self._request) is None or (self._sending is not None and not self._sending.done()):
            raise h11.RemoteProtocolError("the destination changes the protocol too early")
        app, upstream = self._app, self._upstream
        headers = headers_for_application(event)
        switching = h11.InformationalResponse(status_code=101, reason=event.reason, headers=headers)
        app.pipe.write(self._near.send(switching) or b"")
        app.pipe.on_lost = None
        carrier = self._server.carrier

        def finished(end: SpliceEnd) -> None:
            carrier.connections.discard(app)
            upstream.spliced(end)

        far = upstream.pipe
        from_left = self._near.trailing_data[0] + app.pipe.detach()
        from_right = self._far.trailing_data[0] + far.detach()
        far.received -= len(from_right)  # the splice counts them
        app.splice = Splice(
            carrier.loop,
            app.transport,
            far.transport,
            finished,
            left_scratch=carrier.scratch if upstream.through_exit else None,
            from_left=from_left,
            from_right=from_right,
            left_ended=app.pipe.ended,
            right_ended=far.ended,
            left_lost=app.pipe.lost,
            right_lost=far.lost,
            hold_fin_from_left=None if upstream.half_close else carrier.half_close_wait,
        )

    # -- when it fails -----------------------------------------------------------------------------------------------

    def _failed(self, reason: str, silent: bool) -> None:
        """`silent`: the destination has not said a word."""
        where = join_address(self._target.host, self._target.port)
        self._upstream.fail(reason)
        if self._answered:
            self._app.pipe.break_off()
            self.broken = True
        elif self._violation:
            sentence = f"the request's body: {self._violation}"
            self._app.answer(refusal(400, sentence, "http_request_error"), close=True)
        elif silent and self._upstream.used:
            self.broken = True
        else:
            sentence = f"{where}: {'no answer came' if silent else reason}"
            self._app.answer(refusal(502, sentence, "http_response_incomplete"))


async def _next_event(http: h11.Connection, pipe: HttpPipe) -> object:
    """What `http` finds next in what `pipe` brings. Raises `h11.RemoteProtocolError`, and how the pipe ended."""
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await pipe.read_some())
    return event
