"""`/bethrou/member-list/1.0.0` in both roles: members bring each other to the same list and admissions.

Whoever has dialled a link asks when it is up; whoever learns something tells it to all its links at once. So a list
that one node has taken is everywhere within a few round trips, wherever there are links.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

from bethrou.discovery.membership import Membership
from bethrou.errors import BethrouError, DecodeError, LinkLost
from bethrou.events import Emit, TurnedAway
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire.member_exchange import (
    END,
    MAX_ADMISSIONS,
    PROTOCOL,
    Header,
    Kind,
    MessageReader,
    Standing,
    encode_item,
)
from bethrou.wire.peer_id import PeerId

TIMEOUT = 30.0
"""Seconds for one conversation: a list of 4,096 members, at the pace of a telephone."""

MAX_STREAMS = 2
"""Conversations that a peer may have open on a link; an honest one has one."""

MAX_CONVERSATIONS = 64
"""Conversations that others may have open here at once, and that we have: a list may have 2 MiB."""

MAX_STRANGERS = 8
"""Those of them that are with somebody who is no member: each may have us hold 2 MiB before it proves to be nothing."""

STRANGERS_ADMISSIONS = 4
"""Admissions that are read of somebody who is no member: each costs three signatures."""

FIRST_RETRY = 2.0
"""Seconds after a conversation that came to nothing; doubled up to a minute."""

TURNED_AWAY = {
    Standing.REMOVED: "this device was removed from the network: ask its operator for an invite",
    Standing.UNKNOWN: "this device is no member of the network: ask its operator for an invite",
}


class MemberSync:
    """Keeps `membership` and that of the peers of `host` alike. At work from construction until `close`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: Host, membership: Membership, emit: Emit
    ) -> None:
        self._host = host
        self._membership = membership
        self._book = membership.book
        self._emit = emit
        self.judge: Callable[[PeerId], Standing] = self._book.standing
        """What somebody is told to be here."""
        self._tasks = Tasks(loop)
        self._open: Counter[Link] = Counter()
        self._strangers = 0
        """Conversations under way with who was no member when they began."""
        self._under_way: set[Link] = set()
        """Links on which we are telling, or are about to."""
        self._again: set[Link] = set()
        """Links on which there is something new to tell when that is over."""
        self._turns = asyncio.Semaphore(MAX_CONVERSATIONS)
        self._closing = False
        host.handle(PROTOCOL, self.serve)
        self._stop_observing = host.observe_links(self._link_up, lambda link, reason: None)
        membership.on_change(self._spread)

    async def close(self) -> None:
        """Tell no more."""
        self._closing = True
        self._stop_observing()
        await self._tasks.close()

    # -- asking -----------------------------------------------------------------------------------------------------

    async def exchange(self, link: Link) -> Header:
        """Bring both sides to the same; what the other side has then. Raises `BethrouError` and `TimeoutError`."""
        async with asyncio.timeout(TIMEOUT):
            negotiation = await self._host.open(link, [PROTOCOL], self._header(Standing.MEMBER).encode())
            stream = negotiation.stream
            try:
                await negotiation.agreed()
                conversation = _Conversation(negotiation.reader, MAX_ADMISSIONS)
                theirs = await conversation.header()
                await self._present(theirs)
                await self._membership.take(await conversation.items())
                stream.write(self._for(link.peer_id, theirs) + END)
                stream.write_eof()
                final = await conversation.header()
                stream.close()
            finally:
                stream.abort()
        if final.you is not Standing.MEMBER:
            self._emit(TurnedAway(str(link.peer_id), final.you.value))
            link.close(TURNED_AWAY[final.you])
        return final

    def _link_up(self, link: Link) -> None:
        if link.initiator:
            self._tell(link)

    def _spread(self) -> None:
        for links in self._host.links.values():
            for link in links:
                self._tell(link)

    def _tell(self, link: Link) -> None:
        if self._closing:
            return
        if link in self._under_way:
            self._again.add(link)
            return
        self._under_way.add(link)
        self._tasks.start(self._tell_until_told(link), f"member list to {link.peer_id.short}")

    async def _tell_until_told(self, link: Link) -> None:
        delay = FIRST_RETRY
        try:
            while link.alive:
                statement = await self._host.statement_of(link)
                if statement is None or PROTOCOL not in statement.protocols:
                    return
                self._again.discard(link)
                try:
                    async with self._turns:
                        await self.exchange(link)
                except (BethrouError, TimeoutError):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(delay):
                            await asyncio.shield(link.closed)
                    delay = min(60.0, 2 * delay)
                    continue
                if link not in self._again:
                    return
        finally:
            self._under_way.discard(link)
            self._again.discard(link)

    # -- answering --------------------------------------------------------------------------------------------------

    def serve(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        """Handler of inbound streams."""
        stranger = self._book.standing(link.peer_id) is not Standing.MEMBER
        if (
            self._closing
            or self._open.get(link, 0) >= MAX_STREAMS
            or self._open.total() >= MAX_CONVERSATIONS
            or (stranger and self._strangers >= MAX_STRANGERS)
        ):
            stream.reset(RESOURCE_LIMIT)
            return
        self._open[link] += 1
        self._strangers += stranger
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        conversation = self._answer(link, stream, reader, stranger)
        self._tasks.start(conversation, f"member list of {link.peer_id.short}")

    async def _answer(self, link: Link, stream: YamuxStream, reader: ByteReader, stranger: bool) -> None:
        peer = link.peer_id
        try:
            async with asyncio.timeout(TIMEOUT):
                conversation = _Conversation(reader, STRANGERS_ADMISSIONS)
                theirs = await conversation.header()
                await self._present(theirs)
                if self._book.standing(peer) is Standing.MEMBER:
                    conversation.allow(MAX_ADMISSIONS)
                told = self._for(peer, theirs)
                stream.write(self._header(self.judge(peer)).encode() + told + END)
                await self._membership.take(await conversation.items())
                stream.write(self._header(self.judge(peer)).encode())
            stream.close()
        except DecodeError as error:
            link.close(f"broke the rules of the member list: {error}")
        except (BethrouError, TimeoutError):
            return
        finally:
            stream.abort()
            self._strangers -= stranger
            self._open[link] -= 1
            if not self._open[link]:
                del self._open[link]

    # -- both -------------------------------------------------------------------------------------------------------

    def _header(self, you: Standing) -> Header:
        own = self._book.admission_of(self._membership.own)
        return Header(self._book.serial, self._book.digest, own, you)

    def _for(self, peer: PeerId, theirs: Header) -> bytes:
        """What the other side lacks; nothing for who is no member, whoever has opened the conversation."""
        if self._book.standing(peer) is not Standing.MEMBER:
            return b""
        return _items(self._book.missing(theirs.serial, theirs.admissions))

    async def _present(self, theirs: Header) -> None:
        """Take the other side's own admission."""
        if theirs.admission is not None:
            await self._membership.take([(Kind.ADMISSION, theirs.admission)])


class _Conversation:
    """One side of a conversation, as it is read."""

    def __init__(self, reader: ByteReader, admissions: int) -> None:
        self._reader = reader
        self._messages = MessageReader(admissions)

    def allow(self, admissions: int) -> None:
        """So many admissions may come."""
        self._messages.admissions_left = admissions

    async def header(self) -> Header:
        while (header := self._messages.header()) is None:
            await self._more()
        return header

    async def items(self) -> list[tuple[Kind, bytes]]:
        """What is told, to its end."""
        items: list[tuple[Kind, bytes]] = []
        while True:
            item = self._messages.item()
            if item is None:
                await self._more()
            elif isinstance(item, tuple):
                items.append(item)
            else:
                return items

    async def _more(self) -> None:
        data = await self._reader.read_some()
        if not data:
            raise LinkLost("the peer ended in the middle of the member list")
        self._messages.receive(data)


def _items(items: list[tuple[Kind, bytes]]) -> bytes:
    return b"".join(encode_item(kind, envelope) for kind, envelope in items)
