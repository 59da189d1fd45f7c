"""`/bethrou/members/1.0.0`, the asking side: whoever knows one node learns of all others from it.

Every member to which there is a link, and which answers the protocol, is asked when the link comes up and then about
once a minute, in networks of many hundreds more rarely. A node says who it is with each question, so that whom it asks
learns of it, too; a client says nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from bethrou.discovery.member_records import SOURCE, MemberRecords, is_near
from bethrou.discovery.members_service import MAX_ANSWER, MAX_SECONDS, MIN_INTERVAL, PATIENCE
from bethrou.discovery.own_record import OwnRecord
from bethrou.errors import BethrouError, DecodeError
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.negotiation import OutboundNegotiation
from bethrou.net.tasks import Tasks
from bethrou.printable import printable
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.members_message import PROTOCOL, RecordReader, encode_record
from bethrou.wire.peer_id import PeerId

INTERVAL = 60.0
"""Seconds from one question to the next, +-20 %."""

ANSWER_RATE = 16 * 1024
"""Bytes a second that the answers of all members may take on average: after a long one the next question waits longer.
Two thousand nodes make an answer of a megabyte, and eight members tell much the same."""

FIRST_RETRY = 10.0
"""Seconds after a question that was refused or came to nothing; doubled up to `INTERVAL`."""

MAX_FALSE = 64
"""Records of one answer that may be no good before the rest is not listened to. A member passes on what it has
verified; but one of a later version may know kinds of records that we do not."""

_SHOWN = 200  # characters of what went wrong


class MembersSource:
    """Asks members over the links of `host`. `taken` judges what they say; `own` is what we say of ourselves.

    A peer with several links is asked over one of them. `rng` spreads the questions in time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        taken: MemberRecords,
        rng: random.Random,
        own: OwnRecord | None = None,
    ) -> None:
        self._host = host
        self._taken = taken
        self._rng = rng
        self._own = own
        self._tasks = Tasks(loop)
        self._peers: dict[PeerId, asyncio.Task[None]] = {}
        """Those with a link; whoever does not answer the protocol is soon out of it."""
        self._asked: dict[PeerId, str] = {}
        """Those that answer the protocol, with what went wrong when they were last asked, or ""."""
        self._stop_observing: Callable[[], object] = lambda: None
        self._told = 0
        """The number of our record when we last had to tell."""
        self._news: asyncio.Future[None] = host.loop.create_future()
        """Done when we have something new to say of ourselves; there is then another one."""

    def start(self) -> None:
        """Begin to ask."""
        self._stop_observing = self._host.observe_links(self._link_up, self._link_down)

    async def close(self) -> None:
        """Ask no more."""
        self._stop_observing()
        await self._tasks.close()

    def tell(self) -> None:
        """Ask everybody again soon if what we say of ourselves is something else than when this was last called."""
        current = self._own.current() if self._own is not None else None
        number = 0 if current is None else current[0]
        if number != self._told:
            self._told = number
            self._news.set_result(None)
            self._news = self._host.loop.create_future()

    def snapshot(self) -> SourceSnapshot:
        """How it is doing. It is not well when all who are asked fail to answer."""
        failing = [f"{peer.short}: {reason}" for peer, reason in self._asked.items() if reason]
        asked = len(self._asked)
        return SourceSnapshot(
            name=SOURCE,
            ok=not failing or len(failing) < asked,
            detail=failing[0] if failing else f"asks {asked} member{'' if asked == 1 else 's'}",
            known=self._taken.known,
            heard=self._taken.heard,
            skipped=self._taken.skipped,
            silent_for=self._taken.silent_for,
        )

    # -- whom to ask ------------------------------------------------------------------------------------------------

    def _link_up(self, link: Link) -> None:
        peer = link.peer_id
        if peer not in self._peers:
            self._peers[peer] = self._tasks.start(self._follow(peer), f"members known to {peer.short}")

    def _link_down(self, link: Link, _reason: Exception) -> None:
        if link.peer_id not in self._host.links and (task := self._peers.pop(link.peer_id, None)) is not None:
            task.cancel()

    async def _follow(self, peer: PeerId) -> None:
        """Ask `peer` as long as there is a link to it."""
        try:
            while (link := self._link_to(peer)) is not None:
                statement = await self._host.statement_of(link)
                if not link.alive:
                    continue
                if statement is None or PROTOCOL not in statement.protocols:
                    return
                await self._ask_for_ever(link)
        finally:
            self._asked.pop(peer, None)
            if self._peers.get(peer) is asyncio.current_task():
                del self._peers[peer]

    def _link_to(self, peer: PeerId) -> Link | None:
        return next((link for link in self._host.links.get(peer, []) if link.alive), None)

    # -- asking -----------------------------------------------------------------------------------------------------

    async def _ask_for_ever(self, link: Link) -> None:
        """Until the link is gone."""
        failures = 0
        while link.alive:
            news = self._news
            try:
                size = await self.ask(link)
            except (BethrouError, TimeoutError) as error:
                self._asked[link.peer_id] = printable(str(error), _SHOWN) or "no answer in time"
                delay = min(INTERVAL, FIRST_RETRY * 2.0 ** min(failures, 8))
                failures += 1
            else:
                self._asked[link.peer_id] = ""
                delay = max(INTERVAL, size * len(self._asked) / ANSWER_RATE)
                failures = 0
            await self._rest(link, news, delay * self._rng.uniform(0.8, 1.2))

    async def _rest(self, link: Link, news: asyncio.Future[None], seconds: float) -> None:
        """Until the next question; with news as soon as the member listens to us again."""
        soonest = min(seconds, MIN_INTERVAL + self._rng.uniform(0.2, 1.0))
        ends: list[asyncio.Future[Any]] = [link.closed, news]
        await asyncio.wait(ends[:1], timeout=soonest)
        await asyncio.wait(ends, timeout=seconds - soonest, return_when=asyncio.FIRST_COMPLETED)

    async def ask(self, link: Link) -> int:
        """One question; how many bytes its answer had. Raises `BethrouError` and `TimeoutError`."""
        own = self._own.current() if self._own is not None else None
        async with asyncio.timeout(MAX_SECONDS):
            question = encode_record(own[1] if own is not None else b"")
            negotiation = await self._host.open(link, [PROTOCOL], question)
            try:
                size = await self._read_answer(link, negotiation)
                negotiation.stream.close()
            finally:
                negotiation.stream.abort()
        return size

    async def _read_answer(self, link: Link, negotiation: OutboundNegotiation) -> int:
        async with asyncio.timeout(PATIENCE):
            await negotiation.agreed()
        records, near = RecordReader(), is_near(link)
        size = false = 0
        while data := await _next(negotiation):
            size += len(data)
            if size > MAX_ANSWER:
                raise DecodeError(f"the list of members is longer than {MAX_ANSWER} bytes")
            while (envelope := records.receive(data)) is not None:
                data = b""
                false += not self._take(envelope, near)
                if false > MAX_FALSE:
                    raise DecodeError("the list of members is full of records that are not genuine")
                await asyncio.sleep(0)  # a signature costs 130 us, and streams on other links are not to wait
        records.eof()
        return size

    def _take(self, envelope: bytes, near: bool) -> bool:
        try:
            if envelope:
                self._taken.take(envelope, near)
        except DecodeError:
            return False
        return True


async def _next(negotiation: OutboundNegotiation) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await negotiation.reader.read_some()
