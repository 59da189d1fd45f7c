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
    negotiation: OutboundNegotiation | None = None
    done = False
    try:
        if PROTOCOL_V1_1 in protocols:
            negotiation = await host.open(link, [PROTOCOL_V1_1], wire.encode_request_v1_1(request))
            accepted = await _converse_v1_1(negotiation, limits)
        else:
            known = PROTOCOL_V1_0 in protocols
            first = wire.encode_request_v1_0(request)
            negotiation = await host.open(link, [PROTOCOL_V1_0], first if known else b"")
            accepted = await _converse_v1_0(negotiation, b"" if known else first, limits)
        done = True
        return accepted
    except RequestError:
        raise
    except (BethrouError, OSError) as error:
        raise ExitFault(str(error)) from None
    finally:
        if negotiation is not None and not done:
            negotiation.reader.transport.abort()


async def _converse_v1_1(negotiation: OutboundNegotiation, limits: Limits) -> Accepted:
    reader = negotiation.reader
    messages = wire.PrefixedJsonReader()
    try:
        with limits.take.limit():
            await negotiation.agreed()
            answer = wire.decode_answer_v1_1(await _next_message(reader, messages))
    except TimeoutError:
        raise ExitFault(f"the exit did not take the request within {TAKE_TIMEOUT:.0f} s") from None
    if isinstance(answer, Dialing):
        answer = await _final_answer(reader, messages, limits)
    if isinstance(answer, Refused):
        raise _verdict(answer)
    reader.push_back(messages.surplus)
    return Accepted(negotiation.stream, reader, answer.bound, half_close=True)


async def _final_answer(
    reader: ByteReader, messages: wire.PrefixedJsonReader, limits: Limits
) -> Connected | Refused:
    try:
        with limits.answer.limit():
            answer = wire.decode_answer_v1_1(await _next_message(reader, messages))
    except TimeoutError:
        raise RequestError(Failure.TIMEOUT, f"no answer within {ANSWER_TIMEOUT:.0f} s") from None
    if isinstance(answer, Dialing):
        raise DecodeError("the exit said `dialing` twice")
    return answer


async def _converse_v1_0(negotiation: OutboundNegotiation, request: bytes, limits: Limits) -> Accepted:
    reader = negotiation.reader
    messages = wire.JsonObjectReader()
    try:
        with limits.answer.limit():
            await negotiation.agreed()
            if request:
                reader.write(request)
            answer = wire.decode_answer_v1_0(await _next_message(reader, messages))
    except TimeoutError:
        raise RequestError(Failure.TIMEOUT, f"no answer within {ANSWER_TIMEOUT:.0f} s") from None
    if isinstance(answer, Refused):
        raise _verdict(answer)
    reader.push_back(messages.surplus)
    return Accepted(negotiation.stream, reader, None, half_close=False)


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
