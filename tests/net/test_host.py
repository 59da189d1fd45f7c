"""A host in want of descriptors, and of peers that know measure."""

import asyncio
import errno

import pytest

from bethrou.errors import StreamReset
from bethrou.net import identify
from bethrou.net.interfaces import MAX_AGE
from bethrou.net.introductions import MAX_PUSHES
from bethrou.net.negotiation import propose
from bethrou.net.ping import MAX_STREAMS
from bethrou.net.ping import PROTOCOL_ID as PING
from bethrou.net.stream import RESOURCE_LIMIT
from bethrou.wire.multiaddr import Multiaddr
from live.waiting import until

from .hosts import two_hosts


async def test_who_asks_a_host_without_file_descriptors_keeps_the_link() -> None:
    async with two_hosts() as (_, listener, link, _other):
        listener.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/0"))
        before = listener.listen_addresses
        assert len(before) > 1

        def fail() -> frozenset[object]:
            raise OSError(errno.EMFILE, "Too many open files")

        listener._interfaces._read = fail  # type: ignore[assignment]
        listener._interfaces._read_at -= 2 * MAX_AGE
        statement = await identify.ask(link)
        assert statement is not None
        assert statement.listen_addrs == tuple(before)
        assert link.alive


@pytest.mark.parametrize(("protocol", "most"), [(PING, MAX_STREAMS), (identify.PUSH_PROTOCOL_ID, MAX_PUSHES)])
async def test_idle_streams_of_a_kind_that_needs_one_are_few(protocol: str, most: int) -> None:
    async with two_hosts() as (_, _listener, link, other):
        opened = [propose(await link.open_stream(), [protocol]) for _ in range(3 * most)]
        answers = await asyncio.gather(
            *(negotiation.reader.read_exactly(200) for negotiation in opened[most:]), return_exceptions=True
        )
        assert all(isinstance(answer, StreamReset) and answer.code == RESOURCE_LIMIT for answer in answers)
        await until(lambda: other.stream_count == most)
        for negotiation in opened[:most]:
            negotiation.stream.abort()
        await until(lambda: other.stream_count == 0)
        again = propose(await link.open_stream(), [protocol])
        assert await again.agreed() == protocol
        again.stream.abort()
