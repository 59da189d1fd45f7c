"""The exit's side of a proxied request: take it, reach the destination, join the two.

    stream --> request --> `dialing` (1.1.0) --> look-up, policy, dial --> `ok` --> splice

Both versions of the protocol pass through the same steps; what differs is how messages are framed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from bethrou.errors import BethrouError, DecodeError, Failure, RequestError
from bethrou.events import Emit, RequestEnded
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.net.splice import Splice, SpliceEnd
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy.destination import EarlyBytes, Judge, reach
from bethrou.proxy.exit_state import StateService
from bethrou.proxy.resolver import Resolver
from bethrou.wire import proxy_request as wire
from bethrou.wire.proxy_request import Answer, Connected, Dialing, ProxyRequest, Refused

PING_PROTOCOL = "/bethrou/ping/1.0.0"

REQUEST_TIMEOUT = 10.0
"""Seconds that a member has to send its request, once the stream is negotiated."""

DIAL_TIMEOUT = 10.0
"""Seconds for look-up and dial together; then the answer is `timeout`."""

KEEP_ALIVE_AFTER = 60.0
"""Seconds after which, and at twice of which at the latest, a destination's connection is told to find out by itself
whether the destination is still there. Most are over by then, and reaching the socket behind a transport costs."""

MAX_REQUESTS = 32_768
"""Requests carried at once; more are answered `overloaded`."""


_Messages = wire.JsonObjectReader | wire.PrefixedJsonReader


@dataclass(frozen=True)
class _Version:
    """How one version of the protocol frames its messages."""

    make_reader: type[wire.JsonObjectReader] | type[wire.PrefixedJsonReader]
    decode_request: Callable[[dict[str, object]], ProxyRequest]
    encode_answer: Callable[[Answer], bytes]


def _encode_answer_v1_0(answer: Answer) -> bytes:
    return b"" if isinstance(answer, Dialing) else wire.encode_answer_v1_0(answer)


_VERSIONS = {
    wire.PROTOCOL_V1_0: _Version(wire.JsonObjectReader, wire.decode_request_v1_0, _encode_answer_v1_0),
    wire.PROTOCOL_V1_1: _Version(wire.PrefixedJsonReader, wire.decode_request_v1_1, wire.encode_answer_v1_1),
}


@dataclass(eq=False, slots=True)
class Request:
    """One request under way. Thousands may be open and idle: nothing is kept that is not needed."""

    peer: str
    started: float
    asked: ProxyRequest | None = None
    early: int = 0
    """Bytes from the client that wait while the destination is dialled."""
    splice: Splice | None = None
    kept_alive: bool = False
    """Whether its destination's connection was told so (KEEP_ALIVE_AFTER)."""


class ExitNode:
    """Serves `/bethrou/proxy` in both versions, `/bethrou/ping` and `/bethrou/state` on a host."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        resolver: Resolver,
        judge: Judge,
        emit: Emit,
        state: StateService,
    ) -> None:
        self._loop = loop
        self._host = host
        self._resolver = resolver
        self._judge = judge
        self._emit = emit
        self._state = state
        self._waiting = host.buffers.waiting
        self._tasks = Tasks(loop)
        self._request_limits = TimeoutQueue(loop, REQUEST_TIMEOUT)
        self._dial_limits = TimeoutQueue(loop, DIAL_TIMEOUT)
        self._look_for_lasting: asyncio.TimerHandle | None = None
        self._requests: set[Request] = set()
        for protocol, version in _VERSIONS.items():
            host.handle(protocol, partial(self._take, version))
        host.handle(PING_PROTOCOL, _serve_ping)

    @property
    def active(self) -> int:
        """Requests being carried."""
        return len(self._requests)

    @property
    def requests(self) -> Collection[Request]:
        """The requests being carried."""
        return self._requests

    def idle_for(self, seconds: float) -> bool:
        """Whether no request has moved a byte for `seconds`; requests still dialling count as moving."""
        now = self._loop.time()
        return all(
            request.splice is not None and now - request.splice.last_activity >= seconds
            for request in self._requests
        )

    async def close(self) -> None:
        """End every request at once."""
        for request in list(self._requests):
            if request.splice is not None:
                request.splice.abort(RequestError(Failure.DRAINING, "the exit is stopping"))
        await self._tasks.close()
        self._request_limits.close()
        self._dial_limits.close()
        if self._look_for_lasting is not None:
            self._look_for_lasting.cancel()

    # -- one request ------------------------------------------------------------------------------------------------

    def _take(self, version: _Version, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        reader = ByteReader(stream)
        stream.set_protocol(reader)
        request = Request(str(link.peer_id), self._loop.time())
        self._requests.add(request)
        self._state.streams = len(self._requests)
        messages = version.make_reader()
        try:
            # the usual request lies whole behind the proposal: it is taken on at once, in the same frame
            if (message := _receive(messages, surplus)) is not None:
                self._admit(request, stream, reader, version, message, messages.surplus)
        except RequestError as error:
            self._refuse(request, stream, version, error)
            return
        task = self._tasks.start(
            self._serve(request, stream, reader, version, messages), f"request of {link.peer_id.short}"
        )
        reader.on_lost = task.cancel

    def _admit(
        self,
        request: Request,
        stream: YamuxStream,
        reader: ByteReader,
        version: _Version,
        message: dict[str, Any],
        surplus: bytes,
    ) -> None:
        """Take the request that `message` is, and say so; `surplus` came behind it. Raises `RequestError`."""
        try:
            request.asked = version.decode_request(message)
        except DecodeError as error:
            raise RequestError(Failure.BAD_REQUEST, str(error)) from None
        reader.push_back(surplus)
        if self._state.draining:
            raise RequestError(Failure.DRAINING, "the exit is about to stop")
        if len(self._requests) > MAX_REQUESTS:
            raise RequestError(Failure.OVERLOADED, f"the exit carries {MAX_REQUESTS} requests")
        reader.pause()  # what a client sends in advance waits in its stream, where it is bounded
        request.early = reader.buffered
        if request.early and not self._waiting.add(request.early):
            self._forget_early(request)
            raise RequestError(Failure.OVERLOADED, "too much waits at the exit")
        dialing = version.encode_answer(Dialing())
        if dialing:
            stream.write(dialing)

    def _refuse(self, request: Request, stream: YamuxStream, version: _Version, error: RequestError) -> None:
        stream.write(version.encode_answer(Refused(error.failure, str(error))))
        stream.close()
        self._ended(request, error.failure.value, str(error))

    async def _serve(
        self,
        request: Request,
        stream: YamuxStream,
        reader: ByteReader,
        version: _Version,
        messages: _Messages,
    ) -> None:
        joined = False
        try:
            if request.asked is None:
                message = await self._read_request(reader, messages)
                self._admit(request, stream, reader, version, message, messages.surplus)
            assert request.asked is not None
            transport, early = await self._reach(request.asked)
            joined = True
            self._join(request, stream, reader, transport, early, version)
        except RequestError as error:
            self._refuse(request, stream, version, error)
        except BethrouError as error:
            stream.abort()
            self._ended(request, "aborted", str(error))
        finally:
            self._forget_early(request)
            if not joined and request in self._requests:
                stream.abort()
                self._ended(request, "aborted", "the client gave up while the destination was dialled")

    async def _read_request(self, reader: ByteReader, messages: _Messages) -> dict[str, Any]:
        message = None
        try:
            with self._request_limits.limit():
                while message is None:
                    data = await reader.read_some()
                    if not data:
                        raise RequestError(Failure.BAD_REQUEST, "the stream ended before a request")
                    message = _receive(messages, data)
        except TimeoutError:
            raise RequestError(Failure.BAD_REQUEST, "no request came") from None
        return message

    async def _reach(self, asked: ProxyRequest) -> tuple[asyncio.Transport, EarlyBytes]:
        try:
            with self._dial_limits.limit():
                return await reach(self._loop, asked.host, asked.port, self._resolver, self._judge)
        except TimeoutError:
            raise RequestError(Failure.TIMEOUT, f"no answer within {DIAL_TIMEOUT:.0f} s") from None

    def _forget_early(self, request: Request) -> None:
        if request.early:
            self._waiting.remove(request.early)
            request.early = 0

    def _join(
        self,
        request: Request,
        stream: YamuxStream,
        reader: ByteReader,
        transport: asyncio.Transport,
        early: EarlyBytes,
        version: _Version,
    ) -> None:
        reader.on_lost = None
        bound = transport.get_extra_info("sockname")
        stream.write(version.encode_answer(Connected((bound[0], bound[1]) if bound else None)))
        if self._look_for_lasting is None:
            self._look_for_lasting = self._loop.call_later(KEEP_ALIVE_AFTER, self._keep_lasting_alive)
        request.splice = Splice(
            self._loop,
            stream,
            transport,
            partial(self._splice_ended, request),
            right_scratch=self._host.buffers.socket,
            from_left=reader.detach(),
            from_right=early.data,
            left_ended=reader.ended,
            right_ended=early.ended,
            left_lost=reader.lost,
            right_lost=early.lost,
        )

    def _keep_lasting_alive(self) -> None:
        """Tell the connections that have lasted, and come back as long as there are any."""
        again = self._loop.call_later(KEEP_ALIVE_AFTER, self._keep_lasting_alive) if self._requests else None
        self._look_for_lasting = again
        now = self._loop.time()
        for request in self._requests:
            old = now - request.started >= KEEP_ALIVE_AFTER
            if old and not request.kept_alive and request.splice is not None:
                request.kept_alive = True
                request.splice.keep_right_alive()

    def _splice_ended(self, request: Request, end: SpliceEnd) -> None:
        if end.error is None:
            self._ended(request, "ok", "", end)
        else:
            who = "client" if end.failed_side == "left" else "destination"
            self._ended(request, "aborted", f"{who}: {end.error}", end)

    def _ended(self, request: Request, result: str, reason: str, end: SpliceEnd | None = None) -> None:
        self._requests.discard(request)
        self._state.streams = len(self._requests)
        asked = request.asked
        self._emit(
            RequestEnded(
                id=(asked.id or "") if asked else "",
                peer=request.peer,
                destination=wire.join_address(asked.host, asked.port) if asked else "",
                result=result,
                reason=reason,
                sent=end.from_left if end else 0,
                received=end.from_right if end else 0,
                seconds=self._loop.time() - request.started,
                user=(asked.user or "") if asked else "",
                connected=end.began - request.started if end else None,
                first_byte=end.first_byte_after(request.started) if end else None,
            )
        )


def _receive(messages: _Messages, data: bytes) -> dict[str, Any] | None:
    """The request, once it is complete. Raises `RequestError` for bytes that are none."""
    try:
        return messages.receive(data)
    except DecodeError as error:
        raise RequestError(Failure.BAD_REQUEST, str(error)) from None


def _serve_ping(_link: Link, stream: YamuxStream, _surplus: bytes) -> None:
    """Agreeing on the protocol was the whole answer."""
    stream.set_protocol(asyncio.Protocol())
    stream.close()
