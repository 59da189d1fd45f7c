"""The client's side of a proxied request: ask one exit, and tell apart whose fault a failure is.

With 1.1.0 the exit says `dialing` at once; RST, `na` or 3 s of silence before that are the exit's fault, and another
may be asked. After it, silence is the destination's. With 1.0.0 (Go) there is no such sign: silence says nothing about
the exit, so it is never held against it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bethrou.errors import BethrouError, DecodeError, Failure, RequestError
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.negotiation import OutboundNegotiation
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.net.timeouts import TimeoutQueue
from bethrou.wire import proxy_request as wire
from bethrou.wire.identify import Identify
from bethrou.wire.proxy_request import PROTOCOL_V1_0, PROTOCOL_V1_1, Connected, Dialing, ProxyRequest, Refused

TAKE_TIMEOUT = 3.0
"""Seconds that an exit has to say `dialing`."""

ANSWER_TIMEOUT = 15.0
"""Seconds for the final answer: the exit gives up after 10, and the answer has a way to go."""


class ExitFault(Exception):
    """The exit did not take the request: another may be asked. `counts`: it is held against this exit."""

    def __init__(self, reason: str, failure: Failure = Failure.INTERNAL, counts: bool = True) -> None:
        super().__init__(reason)
        self.failure = failure
        self.counts = counts


@dataclass(frozen=True)
class Accepted:
    """A request that an exit carries out: raw bytes from here on."""

    stream: YamuxStream
    reader: ByteReader
    bound: tuple[str, int] | None
    """The exit's own address towards the destination."""
    half_close: bool
    """Whether the exit passes FIN on in both directions (1.1.0), or ends the stream at the first (1.0.0, Go)."""


class Limits:
    """The two timeouts, shared by all requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.take = TimeoutQueue(loop, TAKE_TIMEOUT)
        self.answer = TimeoutQueue(loop, ANSWER_TIMEOUT)

    def close(self) -> None:
        """Forget all."""
        self.take.close()
        self.answer.close()


async def ask(
    host: Host, link: Link, statement: Identify | None, request: ProxyRequest, limits: Limits
) -> Accepted:
    """Have the exit at the other end of `link` carry `request` out.

    `statement` is what the exit's identify said. Raises `ExitFault` when another exit may be asked, and
    `RequestError` when the answer is final.
    """
    protocols = statement.protocols if statement is not None else ()
    conversation = _Conversation(host, link, limits)
    done = False
    try:
        if PROTOCOL_V1_1 in protocols:
            accepted = await conversation.in_v1_1(request)
        else:
            accepted = await conversation.in_v1_0(request, known=PROTOCOL_V1_0 in protocols)
        done = True
        return accepted
    except RequestError:
        raise
    except (BethrouError, OSError) as error:
        raise ExitFault(str(error)) from None
    finally:
        if not done:
            conversation.abort()


class _Conversation:
    """One request on one stream. The time to wait for a stream counts: an exit may have too many unanswered."""

    __slots__ = ("_host", "_limits", "_link", "_negotiation")

    def __init__(self, host: Host, link: Link, limits: Limits) -> None:
        self._host = host
        self._link = link
        self._limits = limits
        self._negotiation: OutboundNegotiation | None = None

    def abort(self) -> None:
        """End the stream, if there is one."""
        if self._negotiation is not None:
            self._negotiation.stream.abort()

    async def in_v1_1(self, request: ProxyRequest) -> Accepted:
        messages = wire.PrefixedJsonReader()
        try:
            with self._limits.take.limit():
                negotiation = await self._open(PROTOCOL_V1_1, wire.encode_request_v1_1(request))
                await negotiation.agreed()
                answer = wire.decode_answer_v1_1(await _next_message(negotiation.reader, messages))
        except TimeoutError:
            raise ExitFault(f"the exit did not take the request within {TAKE_TIMEOUT:.0f} s") from None
        if isinstance(answer, Dialing):
            answer = await self._final_answer(negotiation.reader, messages)
        if isinstance(answer, Refused):
            raise _verdict(answer)
        negotiation.reader.push_back(messages.surplus)
        return Accepted(negotiation.stream, negotiation.reader, answer.bound, half_close=True)

    async def _final_answer(
        self, reader: ByteReader, messages: wire.PrefixedJsonReader
    ) -> Connected | Refused:
        try:
            with self._limits.answer.limit():
                answer = wire.decode_answer_v1_1(await _next_message(reader, messages))
        except TimeoutError:
            raise _no_answer() from None
        if isinstance(answer, Dialing):
            raise DecodeError("the exit said `dialing` twice")
        return answer

    async def in_v1_0(self, request: ProxyRequest, known: bool) -> Accepted:
        """`known`: the exit says that it speaks this, so that the request can be sent with the proposal."""
        messages = wire.JsonObjectReader()
        first = wire.encode_request_v1_0(request)
        try:
            with self._limits.answer.limit():
                negotiation = await self._open(PROTOCOL_V1_0, first if known else b"")
                await negotiation.agreed()
                if not known:
                    negotiation.reader.write(first)
                answer = wire.decode_answer_v1_0(await _next_message(negotiation.reader, messages))
        except TimeoutError:
            raise _no_answer() from None
        if isinstance(answer, Refused):
            raise _verdict(answer)
        negotiation.reader.push_back(messages.surplus)
        return Accepted(negotiation.stream, negotiation.reader, None, half_close=False)

    async def _open(self, protocol: str, first: bytes) -> OutboundNegotiation:
        self._negotiation = await self._host.open(self._link, [protocol], first)
        return self._negotiation


def _no_answer() -> RequestError:
    return RequestError(Failure.TIMEOUT, f"no answer within {ANSWER_TIMEOUT:.0f} s")


async def _next_message(
    reader: ByteReader, messages: wire.PrefixedJsonReader | wire.JsonObjectReader
) -> dict[str, Any]:
    message = messages.receive(b"")
    while message is None:
        data = await reader.read_some()
        if not data:
            raise DecodeError("the exit ended the stream instead of answering")
        message = messages.receive(data)
    return message


def _verdict(answer: Refused) -> RequestError | ExitFault:
    if answer.failure.final:
        return RequestError(answer.failure, answer.message)
    counts = answer.failure is Failure.INTERNAL
    return ExitFault(answer.message or answer.failure.value, answer.failure, counts)
