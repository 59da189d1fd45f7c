"""Bytes through client and exit: both ways at once, ends and aborts on either side, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct

import pytest

from bethrou.events import RequestEnded
from bethrou.wire.psk import NetworkKey
from e2e.conftest import Network
from live.applications import GREETING, Application, Refused, application, connect_request, open_application
from live.members import Client, Node, running_client, running_node
from live.payload import MIB, Payload
from live.processes import Programs
from live.targets import (
    Habit,
    Visit,
    answers_after_fin,
    drain_to_end,
    echo,
    endless,
    fingerprint,
    silent,
    source,
    target,
)
from live.waiting import until

OUR_OWN_STREAMS = 1
"""On every link between members of ours: the exit tells its state on it."""


async def nothing_is_left(client: Client, node: Node) -> None:
    """Wait until neither side knows of a connection any more."""
    await until(
        lambda: (
            client.app.active == node.app.active == 0
            and {link.stream_count for link in node.links} == {OUR_OWN_STREAMS}
            and client.link_to(str(node.app.host.peer_id)).stream_count == OUR_OWN_STREAMS
        ),
        what="streams that end",
    )


def two_ways(payload: Payload, late: float = 0.0) -> Habit:
    """Sends `payload` and reads until EOF, both at once; begins to read after `late` seconds."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        async def send() -> None:
            for block in payload:
                writer.write(block)
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        await asyncio.sleep(late)
        await drain_to_end(reader, visit)
        await sending

    return serve


@pytest.mark.parametrize("late", ["application", "destination"])
async def test_32_mib_each_way_at_once_with_a_late_reader(network: Network, late: str) -> None:
    down, up = Payload(32 * MIB, seed=1), Payload(32 * MIB, seed=2)
    async with (
        target(two_ways(down, late=0.5 if late == "destination" else 0.0)) as far,
        application(network.proxy, "127.0.0.1", far.port) as app,
    ):
        sending = asyncio.create_task(app.send(up, end=True))
        if late == "application":
            await sending  # it reads nothing before it has sent all
        assert await app.receive() == (down.size, down.sha256)
        await sending
        (visit,) = far.visits
        await until(lambda: visit.done)
        assert (visit.received, visit.sha256, visit.end) == (up.size, up.sha256, "eof")


async def test_20_transfers_at_once(network: Network) -> None:
    async with target(echo) as far:

        async def one(number: int) -> None:
            payload = Payload(2 * MIB + number, seed=number)
            async with application(network.proxy, "127.0.0.1", far.port) as app:
                sending = asyncio.create_task(app.send(payload, end=True))
                assert await app.receive() == (payload.size, payload.sha256)
                await sending

        await asyncio.gather(*(one(number) for number in range(20)))


async def test_the_application_ends_first_and_the_answer_comes_later(network: Network) -> None:
    question, answer = Payload(3 * MIB, seed=3), Payload(5 * MIB, seed=4)
    async with target(answers_after_fin(answer)) as far:
        async with application(network.proxy, "127.0.0.1", far.port) as app:
            await app.send(question, end=True)
            assert await app.receive() == (answer.size, answer.sha256)
        assert [visit.sha256 for visit in far.visits] == [question.sha256]


async def test_the_end_may_come_with_the_request(network: Network) -> None:
    async with target(fingerprint) as far:
        reader, writer = await asyncio.open_connection(*network.proxy)
        writer.write(GREETING + connect_request("127.0.0.1", far.port) + b"all of it")
        writer.write_eof()
        answer = await reader.read()
        assert answer[:5] == b"\x05\x00\x05\x00\x00"
        (visit,) = far.visits
        assert visit.head == b"all of it"
        assert answer.endswith(visit.sha256.encode())
        writer.close()


async def test_the_destination_ends_first_and_still_gets_everything(network: Network) -> None:
    async def ends_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        writer.write(b"no more from me")
        writer.write_eof()
        await drain_to_end(reader, visit)

    payload = Payload(3 * MIB, seed=5)
    async with target(ends_first) as far, application(network.proxy, "127.0.0.1", far.port) as app:
        assert await app.reader.read() == b"no more from me"
        await app.send(payload, end=True)
        (visit,) = far.visits
        await until(lambda: visit.done)
        assert (visit.received, visit.sha256, visit.end) == (payload.size, payload.sha256, "eof")


async def abort_download(app: Application) -> None:
    await app.receive(2 * MIB)
    app.abort()


async def close_during_download(app: Application) -> None:
    await app.receive(2 * MIB)
    app.writer.close()


async def abort_upload(app: Application) -> None:
    await app.send(Payload(2 * MIB))
    app.abort()


async def abort_both(app: Application) -> None:
    app.writer.write(bytes(Payload(2 * MIB)))
    await app.receive(100)
    app.abort()


async def abort_at_once(app: Application) -> None:
    app.abort()


@pytest.mark.parametrize(
    ("habit", "leave"),
    [
        (endless(), abort_download),
        (endless(), close_during_download),
        (silent, abort_upload),
        (echo, abort_both),
        (silent, abort_at_once),
    ],
    ids=["download", "closed download", "upload", "both", "at once"],
)
async def test_an_application_that_aborts_leaves_nothing_behind(
    key: NetworkKey, habit: Habit, leave: object
) -> None:
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(habit) as far,
    ):
        for _ in range(5):
            app = await open_application(client.proxy, "127.0.0.1", far.port)
            await leave(app)  # type: ignore[operator]
        await nothing_is_left(client, node)
        await until(lambda: len(far.visits) == 5 and far.open_visits == 0)
        assert {event.result for event in client.events.of(RequestEnded)} == {"aborted"}
        assert {event.result for event in node.events.of(RequestEnded)} == {"aborted"}


def linger(writer: asyncio.StreamWriter) -> None:
    """Have the connection's end be a TCP reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None:  # it may be gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def resets(after: int) -> Habit:
    """Reads `after` bytes, then resets the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        if after:
            visit.take(await reader.readexactly(after))
        linger(writer)
        visit.end = "reset"

    return serve


@pytest.mark.parametrize("after", [0, 1, 100_000])
async def test_a_destination_that_resets_leaves_nothing_behind(key: NetworkKey, after: int) -> None:
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(resets(after)) as far,
    ):

        async def one() -> None:
            with contextlib.suppress(Refused):
                async with application(client.proxy, "127.0.0.1", far.port) as app:
                    with contextlib.suppress(ConnectionError):
                        await app.send([bytes(200_000)])
                        await app.receive()

        await asyncio.gather(*(one() for _ in range(40)))
        await nothing_is_left(client, node)
        results = [event.result for event in client.events.of(RequestEnded)]
        assert len(results) == 40


@pytest.mark.parametrize("what", ["application", "link"])
async def test_what_is_cut_off_does_not_look_finished(key: NetworkKey, what: str) -> None:
    """Nobody may take half an upload, or half a page without a length, for the whole."""
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(echo) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        await app.send([b"half of it"])
        assert await app.reader.readexactly(10) == b"half of it"
        if what == "application":
            app.abort()
        else:
            client.link_to(str(node.app.host.peer_id)).close()
            with pytest.raises(ConnectionResetError):
                await app.reader.read()
        await until(lambda: not far.open_visits)
        assert far.visits[0].end == "ConnectionResetError"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_either_side_may_go_at_any_moment(key: NetworkKey, host: str) -> None:
    """Also in the moment when a reader hands over to the splice."""
    rng = random.Random(7)

    async def fickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        if rng.random() < 0.3:
            writer.write(bytes(rng.randrange(200_000)))
        await asyncio.sleep(rng.choice([0, 0, 0.005]))
        linger(writer)
        visit.end = "reset"

    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(fickle) as far,
    ):

        async def one() -> None:
            await asyncio.sleep(0.1 * rng.random())
            _, writer = await asyncio.open_connection(*client.proxy)
            payload = bytes(rng.choice([0, 10, 100_000]))
            writer.write(GREETING + connect_request(host, far.port) + payload)
            for _ in range(rng.randrange(15)):
                await asyncio.sleep(0)
            linger(writer)
            writer.transport.abort()

        for _ in range(3):
            await asyncio.gather(*(one() for _ in range(200)))
        await nothing_is_left(client, node)


async def test_50_aborts_leave_no_descriptor_open(network: Network) -> None:
    await network.client.connected()
    async with target(endless()) as far:
        before = network.client.sockets, network.node.sockets
        apps = await asyncio.gather(
            *(open_application(network.proxy, "127.0.0.1", far.port) for _ in range(50))
        )
        for number, app in enumerate(apps):
            await app.receive(1000 * number)
            app.abort()
        await until(lambda: (network.client.sockets, network.node.sockets) == before)


async def test_a_killed_client_leaves_nothing_at_the_exit(started: Programs) -> None:
    node = started.node()
    before = node.sockets
    client = started.client([node])
    async with target(endless()) as far:
        apps = [await open_application(client.proxy, "127.0.0.1", far.port) for _ in range(10)]
        for app in apps:
            await app.receive(MIB)
        client.kill()
        await until(lambda: node.sockets == before and far.open_visits == 0)
        for app in apps:
            app.abort()
    lines = node.lines_of("request", result="aborted")
    assert len(lines) == 10


async def test_one_slow_reader_stops_nobody_else(network: Network) -> None:
    payload = Payload(16 * MIB, seed=6)
    async with (
        target(endless()) as flood,
        target(source(payload)) as far,
        application(network.proxy, "127.0.0.1", flood.port) as slow,
    ):
        assert await slow.receive(1) != (0, "")  # and no more than that
        for _ in range(3):
            async with application(network.proxy, "127.0.0.1", far.port) as app:
                assert await app.receive() == (payload.size, payload.sha256)
        slow.abort()
