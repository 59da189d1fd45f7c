"""A link of ours over a pipe in memory, to a peer that a test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bethrou.errors import LinkLost
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.wire.yamux.frame import RST
from bethrou.wire.yamux.window import BUDGET
from net.clock import turns
from net.collector import Collector, End
from net.hosts import LinkEnd, upgrader
from net.memory import MemoryTransport, memory_pipe
from net.raw_peer import RawPeer
from wire.yamux.frames import opening


class Scene:
    """A link of ours over a pipe in memory, and its peer. Streams of the peer's end up in `ends`."""

    def __init__(self, link: Link, peer: RawPeer, ours: MemoryTransport) -> None:
        self.link = link
        self.peer = peer
        self.ours = ours
        self.ends: dict[int, End] = {}

    async def opened_by_peer(self, stream: int = 2, frames: bytes = b"") -> End:
        """A stream of the peer's; `frames` come with it."""
        self.peer.send(opening(stream), frames)
        while stream not in self.ends:
            await asyncio.sleep(0)
        return self.ends[stream]

    async def opened_by_us(self) -> End:
        end = End(await self.link.open_stream())
        end.switch(Collector())
        return end

    async def peer_sends(self, *frames: bytes) -> None:
        self.peer.send(*frames)
        await turns()

    def resets(self) -> dict[int, int]:
        """The streams that we reset, with the code."""
        return {each[2]: each[3] for each in self.peer.frames if each[1] & RST}


@asynccontextmanager
async def raw_link(initiator: bool = True) -> AsyncIterator[Scene]:
    loop = asyncio.get_running_loop()
    ours, theirs = memory_pipe(loop)
    theirs.set_protocol(ByteReader(theirs))
    ours.set_protocol(ByteReader(ours))
    end, peer = LinkEnd(loop, "we"), RawPeer()
    scene: list[Scene] = []

    def take(_link: Link, stream: asyncio.Transport) -> None:
        new = End(stream)
        new.switch(Collector())
        scene[0].ends[stream.get_extra_info("stream_id")] = new

    end.on_stream = take
    link, _ = await asyncio.gather(
        end.start(ours, initiator), peer.over(theirs, upgrader("they"), not initiator)
    )
    scene.append(Scene(link, peer, ours))
    await turns()
    yield scene[0]
    link.abort(LinkLost("the test is over"))
    await turns()
    assert link.stream_count == 0, link
    assert end.budget._left == BUDGET, end.budget._left
