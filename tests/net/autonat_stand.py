"""A member that asks by AutoNAT v2, and servers that it asks: true ones, and those that do what a test wants."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from bethrou.net.autonat import Autonat
from bethrou.net.autonat_server import AutonatServer
from bethrou.net.link import Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.snapshots import AddressReachability
from bethrou.wire.autonat import (
    DIAL_BACK,
    DIAL_REQUEST,
    MAX_MESSAGE,
    DialRequest,
    Message,
    decode,
    encode_dial_back,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed

from .hosts import ANYWHERE, Member

ELSEWHERE = Multiaddr.parse("/ip4/127.0.0.2/tcp/0")
"""Where a member listens that is seen at 127.0.0.1: the server cannot know that it is the same."""
UNUSED = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")


class Stand:
    """A client, and what it is connected to; everything is public."""

    def __init__(self, stack: AsyncExitStack, at: Multiaddr) -> None:
        self._stack = stack
        self.client = self.member("client", at)
        self.autonat = Autonat(self.client, os.urandom, random.Random(1), self.public)
        stack.push_async_callback(self.autonat.close)
        self.own = [self.client.address]

    def member(self, name: str, at: Multiaddr = ANYWHERE) -> Member:
        member = Member(name, at=at)
        self._stack.push_async_callback(member.close)
        return member

    def public(self, address: Multiaddr) -> bool:
        return address in self.own

    async def connect(self, member: Member) -> Link:
        link = await self.client.dial(member.peer_id, [member.address])
        await self.client.statement_of(link)
        return link

    async def server(
        self, name: str = "server", public: Callable[[Multiaddr], bool] = lambda address: True
    ) -> tuple[Member, Link]:
        member = self.member(name)
        server = AutonatServer(member, random.Random(2), time.perf_counter, public)
        self._stack.push_async_callback(server.close)
        return member, await self.connect(member)

    async def liar(self, name: str, behave: Callable[[Request], Coroutine[Any, Any, object]]) -> Member:
        """A server that does what the test wants with each request."""
        member = self.member(name)
        tasks = Tasks(member.loop)  # an assertion that fails in there is a complaint of the loop
        self._stack.push_async_callback(tasks.close)

        def take(link: Link, stream: YamuxStream, surplus: bytes) -> None:
            talk = Request(member, link, stream, ByteReader(stream, surplus))
            stream.set_protocol(talk.reader)
            tasks.start(behave(talk), "lie")

        member.handle(DIAL_REQUEST, take)
        await self.connect(member)
        return member


class Talk:
    """A conversation about a request, from either side."""

    def __init__(self, stream: YamuxStream, reader: ByteReader) -> None:
        self.stream = stream
        self.reader = reader

    def say(self, message: Message) -> None:
        self.stream.write(length_prefixed(message.encode()))

    async def hear(self) -> Message:
        return decode(await self.reader.read_prefixed(MAX_MESSAGE))


class Request(Talk):
    """A conversation as the server sees it."""

    def __init__(self, server: Member, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        super().__init__(stream, reader)
        self.server = server
        self.link = link

    async def request(self) -> DialRequest:
        message = await self.hear()
        assert isinstance(message, DialRequest)
        return message


async def begin(link: Link) -> Talk:
    negotiation = propose(await link.open_stream(), [DIAL_REQUEST])
    await negotiation.agreed()
    return Talk(negotiation.stream, negotiation.reader)


async def ask(link: Link, *addresses: Multiaddr) -> Message:
    """A request by hand, and the first answer."""
    talk = await begin(link)
    talk.say(DialRequest(addresses, 7))
    return await talk.hear()


async def show(link: Link, nonce: int) -> bytes:
    """A dial-back on `link`, and the answer."""
    negotiation = propose(await link.open_stream(), [DIAL_BACK])
    await negotiation.agreed()
    negotiation.stream.write(length_prefixed(encode_dial_back(nonce)))
    return await negotiation.reader.read_some()


@asynccontextmanager
async def a_stand(at: Multiaddr = ANYWHERE) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        yield Stand(stack, at)


def result(stand: Stand, word: str, confirmed: int, denied: int, asked: int) -> tuple[AddressReachability]:
    """What a check finds, `nameless`."""
    return (AddressReachability(str(stand.own[0]), word, confirmed, denied, asked),)


def nameless(found: Sequence[AddressReachability]) -> tuple[AddressReachability, ...]:
    """Without who said what."""
    return tuple(replace(each, confirmed_by=(), denied_by=()) for each in found)
