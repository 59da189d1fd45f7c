"""One exit for very many clients: none goes short, and the exit's memory stays bounded."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bethrou.net.link import Link
from bethrou.proxy import exit_client
from bethrou.proxy.exit_client import Attempt, Limits
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.proxy_request import ProxyRequest
from bethrou.wire.psk import NetworkKey
from faults.figures import Figures
from live.payload import MIB, Payload
from live.processes import NodeProgram, Programs
from live.targets import Visit, drain_to_end, target
from net.hosts import Member

PAGE = bytes(Payload(64 * 1024, seed=5))
SHA256 = hashlib.sha256(PAGE).hexdigest()
MOST_MEMORY = 256 * MIB


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
    """A destination that sends the page and ends."""
    writer.write(PAGE)
    writer.write_eof()
    await drain_to_end(reader, visit)


class Downloader:
    """A client with a link to the exit, which fetches a page again and again."""

    def __init__(self, link: Link, port: int, limits: Limits) -> None:
        self.fetched = 0
        self._link = link
        self._limits = limits
        self._request = ProxyRequest("127.0.0.1", port)

    async def run(self, until: float) -> None:
        """Fetch until this time of the monotonic clock. Fails at the first byte that is wrong or missing."""
        while time.monotonic() < until:
            assert await self._fetch() == SHA256
            self.fetched += 1

    async def _fetch(self) -> str:
        loop = asyncio.get_running_loop()
        accepted = await exit_client.ask(self._link, self._request, self._limits, Attempt(loop.time()))
        digest = hashlib.sha256()
        while data := await accepted.reader.read_some():
            digest.update(data)
        accepted.stream.write_eof()
        accepted.stream.close()
        return digest.hexdigest()


@pytest.mark.slow
async def test_very_many_clients_have_their_fair_share_of_an_exit(
    started: Programs, tmp_path: Path, figures: Figures, long: bool
) -> None:
    count, seconds = (300, 60.0) if long else (60, 5.0)
    key = NetworkKey.parse((tmp_path / "network.key").read_bytes())
    node: NodeProgram = await asyncio.to_thread(started.node, "--log-level", "warning")
    address = Multiaddr.parse(node.address)
    assert address.peer_id is not None
    limits = Limits(asyncio.get_running_loop(), 10.0)
    async with AsyncExitStack() as stack:
        far = await stack.enter_async_context(target(page))
        clients = []
        for number in range(count):
            member = Member(f"client {number}", key)
            stack.push_async_callback(member.close)
            link = await member.dial(address.peer_id, [address])
            await member.statement_of(link)
            clients.append(Downloader(link, far.port, limits))
        end = time.monotonic() + seconds
        await asyncio.gather(*(client.run(end) for client in clients))
    limits.close()
    shares = [client.fetched for client in clients]
    mean = figures.count("pages fetched", sum(shares)) / count
    figures.count("fewest by a client", min(shares))
    figures.count("most by a client", max(shares))
    memory = figures.count("MiB of the exit's memory at most", node.most_memory // MIB)
    assert mean >= 5
    assert min(shares) >= 0.8 * mean - 1  # one page more or less is chance
    assert max(shares) <= 1.2 * mean + 1
    assert memory * MIB < MOST_MEMORY
