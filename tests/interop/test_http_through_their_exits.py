"""HTTP through exits of other implementations, which know 1.0.0 only: there an early end of ours loses the answer."""

from __future__ import annotations

import asyncio

from bethrou.events import RequestEnded
from bethrou.wire.psk import NetworkKey
from e2e.http_talk import connect, get, talk
from interop.peers import Peers, each_exit
from live.http_origin import ok, read_message, repeats
from live.members import running_client
from live.payload import MIB, Payload
from live.targets import Visit, echo, target
from live.waiting import until


@each_exit
async def test_requests_and_connect(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    payload = bytes(Payload(2 * MIB, seed=1))
    async with (
        running_client(key, [exit_.address]) as client,
        target(repeats(ok(payload))) as far,
        target(echo) as other,
    ):
        async with talk(client) as app:
            for _ in range(3):
                assert (await app.ask(get(far))).endswith(payload)
            assert len(far.visits) == 1
            app.send(connect(other) + payload)
            async with asyncio.timeout(20):
                await app.reader.readuntil(b"\r\n\r\n")
                assert await app.reader.readexactly(len(payload)) == payload
        await until(lambda: client.app.active == 0)
        await until(lambda: client.link_to(exit_.id).stream_count == exit_.standing)


@each_exit
async def test_an_application_that_has_said_all_gets_its_answer(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await read_message(reader)
        await go.wait()
        writer.write(ok(b"late"))
        await reader.read()
        visit.end = "eof"

    async with running_client(key, [exit_.address], half_close_wait="20s") as client, target(slow) as far:
        async with talk(client) as app:
            app.send(get(far))
            app.writer.write_eof()
            await until(lambda: far.visits)
            go.set()
            assert (await app.rest()).endswith(b"late")
        await until(lambda: client.app.active == 0)


@each_exit
async def test_an_application_that_is_gone_is_not_waited_for(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    exit_ = await peers.exit(name, "--mode", mode)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.read()
        await reader.read()

    async with running_client(key, [exit_.address], half_close_wait="100ms") as client, target(silent) as far:
        async with talk(client) as app:
            app.send(get(far))
            await until(lambda: any(each.sent for each in client.app.connections()))
        await client.events.wait(RequestEnded)
        await until(lambda: client.app.active == 0 and not far.open_visits)
