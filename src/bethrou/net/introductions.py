"""Identify and identify push on all links of a host: what peers say of themselves, and what is said to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

from bethrou.errors import BethrouError, LinkLost
from bethrou.net import identify
from bethrou.net.link import Link
from bethrou.net.negotiation import NEGOTIATION_FAILED
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire.identify import Identify

MAX_PUSHES = 8
"""Identify pushes of one link that are read at once; honest peers send one after the other."""


class Introductions:
    """The conversations run in `tasks`. `statement` makes what is said to the peer of a link; `said` is told of what a
    peer has answered.
    """

    def __init__(
        self,
        tasks: Tasks,
        statement: Callable[[Link], Identify],
        said: Callable[[Link, Identify], None],
    ) -> None:
        self._tasks = tasks
        self._statement = statement
        self._said = said
        self._pending: dict[Link, asyncio.Future[None]] = {}
        """Done as soon as the peer has said what it is, or it is clear that it will not."""
        self._pushes: Counter[Link] = Counter()
        """Identify pushes that are being read."""

    def begin(self, link: Link) -> None:
        """Ask the peer of a new link."""
        self._pending[link] = asyncio.get_running_loop().create_future()
        self._tasks.start(self._ask(link), f"identify {link.peer_id.short}")

    def end(self, link: Link) -> None:
        """The link is gone."""
        self._introduced(link)
        del self._pending[link]

    async def wait(self, link: Link) -> None:
        """Until the peer has said what it is (`link.statement`), or it is clear that it will not."""
        pending = self._pending.get(link)
        if pending is not None:
            await asyncio.shield(pending)

    def push(self, link: Link) -> None:
        """Tell the peer anew what we are."""
        self._tasks.start(self._push(link), f"identify push {link.peer_id.short}")

    def serve(self, link: Link, stream: YamuxStream, _surplus: bytes) -> None:
        """Handler of identify."""
        identify.answer(stream, self._statement(link))

    def serve_push(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        """Handler of identify push."""
        if self._pushes[link] >= MAX_PUSHES:
            stream.reset(RESOURCE_LIMIT)
            return
        self._pushes[link] += 1
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self._tasks.start(self._take_push(link, stream, reader), f"identify pushed {link.peer_id.short}")

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _ask(self, link: Link) -> None:
        try:
            statement = await identify.ask(link)
            if statement is not None:
                link.statement = link.statement or statement  # what was pushed meanwhile is newer
                self._said(link, statement)
        except BethrouError:
            return  # the link is gone, or has no room for another stream
        finally:
            self._introduced(link)

    def _introduced(self, link: Link) -> None:
        pending = self._pending.get(link)
        if pending is not None and not pending.done():
            pending.set_result(None)

    async def _take_push(self, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        try:
            async with asyncio.timeout(identify.TIMEOUT):
                statement = await identify.read_statement(reader)
        except (BethrouError, TimeoutError):
            stream.reset(NEGOTIATION_FAILED)
            return
        finally:
            self._pushes[link] -= 1
            if not self._pushes[link]:
                del self._pushes[link]
        stream.close()
        link.statement = statement
        self._introduced(link)

    async def _push(self, link: Link) -> None:
        with contextlib.suppress(LinkLost):
            await identify.push(link, self._statement(link))
