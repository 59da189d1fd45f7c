"""`/ipfs/id/1.0.0` and `/ipfs/id/push/1.0.0`: what each side tells the other about itself.

Spec: libp2p/specs identify/README.md. Opening the stream is the question; the answer is one message and FIN. Push is
the same message unasked, when something has changed. Every new link is asked at once, from both sides; a peer that
does not answer within 5 s is used all the same, by asking for protocols one at a time.
"""

from __future__ import annotations

import asyncio

from bethrou.errors import BethrouError, LinkLost
from bethrou.net.link import Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.wire.identify import MAX_MESSAGE, MAX_MESSAGES, PROTOCOL, PUSH_PROTOCOL, Identify, merge
from bethrou.wire.protobuf import length_prefixed

PROTOCOL_ID = PROTOCOL
PUSH_PROTOCOL_ID = PUSH_PROTOCOL

TIMEOUT = 5.0
"""Seconds for the whole exchange, as go and js have it."""


async def ask(link: Link) -> Identify | None:
    """What the peer says of itself; None when it does not say within `TIMEOUT`."""
    stream = await link.open_stream()
    try:
        async with asyncio.timeout(TIMEOUT):
            negotiation = propose(stream, [PROTOCOL_ID])
            stream.write_eof()
            await negotiation.agreed()
            return await read_statement(negotiation.reader)
    except (BethrouError, TimeoutError):
        stream.abort()
        return None
    finally:
        stream.close()


async def read_statement(reader: ByteReader) -> Identify:
    """All messages until the peer ends the stream, merged. Raises `DecodeError` or `LinkLost`."""
    messages: list[bytes] = []
    while len(messages) < MAX_MESSAGES:
        try:
            messages.append(await reader.read_prefixed(MAX_MESSAGE))
        except LinkLost:
            if not reader.ended or not messages:
                raise
            break
    return merge(messages)


def answer(stream: YamuxStream, statement: Identify) -> None:
    """Answer an inbound identify stream; `stream` has no other use."""
    stream.set_protocol(_Deaf())
    stream.write(length_prefixed(statement.encode()))
    stream.close()


async def push(link: Link, statement: Identify) -> None:
    """Tell the peer that something changed. A peer that will not listen is left alone."""
    stream = await link.open_stream()
    try:
        async with asyncio.timeout(TIMEOUT):
            negotiation = propose(stream, [PUSH_PROTOCOL_ID], length_prefixed(statement.encode()))
            stream.write_eof()
            await negotiation.agreed()
    except (BethrouError, TimeoutError):
        stream.abort()
    finally:
        stream.close()


class _Deaf(asyncio.Protocol):
    """For streams on which the peer has nothing to say."""
