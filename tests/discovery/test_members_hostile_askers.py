"""Whoever asks with lies, all the time, or does not read the answer is refused or given up, and costs little."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bethrou.discovery import members_service
from bethrou.discovery.members_service import MAX_STREAMS, PATIENCE
from bethrou.errors import LinkLost, StreamReset
from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.wire import varint
from bethrou.wire.members_message import PROTOCOL, encode_record
from live.waiting import until
from net.clock import Clock, turns
from net.hosts import identity

from .hostile import FORGED, HostileAnswerer, HostileAsker
from .network import NOW, Node, link_between, network, sealed


@asynccontextmanager
async def asked() -> AsyncIterator[tuple[Node, HostileAsker]]:
    """A node that knows a node, and a hostile member with a link to it. In the end the node still answers others."""
    async with network(["node"], ["honest"]) as (_, [node], [honest]):
        hostile = HostileAsker("hostile")
        node.more = [sealed("x")]
        try:
            await hostile.dial(node.peer_id, [node.address])
            yield node, hostile
            await honest.join(node)
            await until(lambda: identity("x").peer_id in honest.notebook.latest)
            assert link_between(hostile, node).alive
        finally:
            await hostile.close()


async def first_bytes(negotiation: OutboundNegotiation) -> bytes:
    await negotiation.agreed()
    return await negotiation.reader.read_some()


async def reset_code(negotiation: OutboundNegotiation) -> int:
    """The code with which a stream was reset, nothing but the agreement on the protocol before it."""
    with pytest.raises(StreamReset) as caught:
        assert not await first_bytes(negotiation)
    return caught.value.code


@pytest.mark.parametrize(
    "introduction",
    [
        encode_record(sealed("x")),
        *map(encode_record, FORGED.values()),
        varint.encode(1_000_000) + bytes(1_000_000),
        varint.encode(1 << 62),
        b"\xff" * 20,
    ],
    ids=["somebody else's", *FORGED, "a million bytes", "a huge length", "no length"],
)
async def test_who_says_something_false_of_itself_is_not_answered(introduction: bytes) -> None:
    async with asked() as (node, hostile):
        assert await reset_code(await hostile.ask(node, introduction)) == 0
        assert not node.notebook.latest
        await until(lambda: not node.service._open)


@pytest.mark.parametrize("introduction", [sealed("hostile", expires=NOW), sealed("hostile", expires=NOW * 2)])
async def test_who_has_a_wrong_calendar_is_answered_and_not_told_of(introduction: bytes) -> None:
    async with asked() as (node, hostile):
        negotiation = await hostile.ask(node, encode_record(introduction))
        assert await first_bytes(negotiation)
        assert not node.notebook.latest
        negotiation.stream.close()


async def test_who_says_nothing_is_given_10_s(clock: Clock) -> None:
    async with asked() as (node, hostile):
        for message in (b"", encode_record(sealed("hostile"))[:-1]):
            negotiation = await hostile.ask(node, message)
            await negotiation.agreed()
            await clock.forward(PATIENCE - 1)
            assert link_between(node, hostile).stream_count == 1
            await clock.forward(1.5)
            assert link_between(node, hostile).stream_count == 0
            with pytest.raises(StreamReset):
                await negotiation.reader.read_some()


async def test_conversations_of_a_link_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_service, "MIN_INTERVAL", 0.0)
    async with asked() as (node, hostile):
        opened = [await hostile.ask(node, b"") for _ in range(3 * MAX_STREAMS)]
        codes = [await reset_code(negotiation) for negotiation in opened[MAX_STREAMS:]]
        assert codes == [RESOURCE_LIMIT] * (2 * MAX_STREAMS)
        assert link_between(node, hostile).stream_count == MAX_STREAMS
        for negotiation in opened:
            negotiation.stream.abort()
        await until(lambda: not node.service._open)


async def test_who_asks_all_the_time_over_many_links_is_answered_once() -> None:
    async with asked() as (node, hostile):
        for _ in range(4):
            await hostile.dial(node.peer_id, [node.address])
        opened = [
            propose(await link.open_stream(), [PROTOCOL], encode_record())
            for link in hostile.links[node.peer_id]
            for _ in range(20)
        ]
        outcomes = await asyncio.gather(*map(first_bytes, opened), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, StreamReset) and each.code == RESOURCE_LIMIT]
        assert len(refused) == len(opened) - 1
        assert sum(isinstance(each, bytes) for each in outcomes) == 1
        for negotiation in opened:
            negotiation.stream.abort()


def many(node: Node) -> None:
    """Have a node know of so many that their records wait when nobody reads them."""
    node.more += [sealed(f"node {number}", tags=("t" * 64,) * 32) for number in range(500)]


async def test_who_does_not_read_costs_its_window_and_is_given_up_after_10_s(clock: Clock) -> None:
    async with asked() as (node, hostile):
        many(node)
        before = node.buffers.waiting._left
        negotiation = await hostile.ask(node, encode_record())
        await negotiation.agreed()
        negotiation.stream.pause_reading()
        await until(lambda: node.buffers.waiting._left < before)
        await turns()
        assert before - node.buffers.waiting._left < 100_000
        await clock.forward(PATIENCE - 2)
        assert node.service._open
        await clock.forward(3)
        assert not node.service._open
        assert node.buffers.waiting._left == before
        negotiation.stream.resume_reading()
        with pytest.raises(StreamReset):
            while await negotiation.reader.read_some():
                pass


async def test_who_reads_slowly_gets_everything(clock: Clock) -> None:
    async with asked() as (node, hostile):
        many(node)
        negotiation = await hostile.ask(node, encode_record())
        await negotiation.agreed()
        size = 0
        while data := await negotiation.reader.read_some():
            size += len(data)
            negotiation.stream.pause_reading()
            await clock.forward(PATIENCE / 4)
            negotiation.stream.resume_reading()
        own = node.own.current() if node.own is not None else None
        assert own is not None
        assert size == sum(len(encode_record(each)) for each in (own[1], *node.more))
        negotiation.stream.close()


@pytest.mark.parametrize("breaking", ["reset", "end", "link"])
async def test_who_breaks_off_leaves_nothing_behind(breaking: str) -> None:
    async with network(["node"]) as (_, [node], _clients):
        hostile = HostileAsker("hostile")
        many(node)
        link = await hostile.dial(node.peer_id, [node.address])
        negotiation = await hostile.ask(node, encode_record())
        await negotiation.agreed()
        if breaking == "reset":
            negotiation.stream.abort()
        elif breaking == "end":
            negotiation.stream.close()
        else:
            link.abort(LinkLost("the test ends it"))
        await until(lambda: not node.service._open)
        await until(lambda: not any(each.stream_count for each in node.links.get(hostile.peer_id, [])))
        await until(lambda: not len(node.service._tasks))
        await hostile.close()


async def test_closing_ends_conversations_on_both_sides_and_leaves_no_task() -> None:
    async def script(_stream: YamuxStream) -> None:
        return

    async with network(["node"], ["client"]) as (_, [node], [client]):
        silent = HostileAnswerer("silent", script)
        hostile = HostileAsker("hostile")
        await client.join(silent)
        await hostile.dial(node.peer_id, [node.address])
        await (await hostile.ask(node, b"")).agreed()
        await until(lambda: silent.streams)
        await node.service.close()
        await client.source.close()
        assert not len(node.service._tasks) and not len(client.source._tasks)
        await until(lambda: not link_between(node, hostile).stream_count)
        await until(silent.streams[0].is_closing)
        await client.join(node)  # closed, it asks nobody
        await turns()
        assert not client.source._peers
        await hostile.close()
        await silent.close()
