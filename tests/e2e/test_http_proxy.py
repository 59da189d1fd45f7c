"""Requests in absolute form and CONNECT, byte by byte: what the destination gets, and what the application does."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from bethrou.events import RequestEnded, StrangerRefused
from bethrou.wire.psk import NetworkKey
from e2e.http_talk import Talk, World, chunks, connect, decoded, get, talk
from live.http_origin import ok, read_message, repeats, says
from live.members import running_client, running_node
from live.payload import MIB, Payload
from live.targets import Visit, echo, target
from live.waiting import until


@pytest.fixture
async def world(key: NetworkKey) -> AsyncIterator[World]:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        yield World(client, node)


# -- what is passed on -----------------------------------------------------------------------------------------------


async def test_a_request_loses_what_is_for_this_hop_only(world: World) -> None:
    async with target(says(ok(b"hi"))) as far, talk(world.client) as app:
        headers = (
            "Proxy-Connection: keep-alive",
            "Connection: keep-alive, X-Mine, Content-Length",
            "X-Mine: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Authorization: Basic " + b64encode(b"bob:secret").decode(),
            "TE: gzip",
            "Upgrade: h2c",
            "X-Theirs: 2",
        )
        assert (
            await app.ask(get(far, "/a?b=c", *headers)) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        )
        expected = f"GET /a?b=c HTTP/1.1\r\nHost: {far.address}\r\nX-Theirs: 2\r\n\r\n".encode()
        assert far.visits[0].head == expected


async def test_the_url_says_where_it_goes_and_not_the_host_header(world: World) -> None:
    async with target(says(ok(b"hi"))) as far, talk(world.client) as app:
        app.send(f"GET http://{far.address}?x HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n".encode())
        await app.answer()
        assert far.visits[0].head == f"GET /?x HTTP/1.1\r\nHost: {far.address}\r\n\r\n".encode()


async def test_an_answer_loses_what_is_for_this_hop_only(world: World) -> None:
    answer = ok(b"hi", b"Connection: close, X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=1", b"X-End: 2")
    async with target(repeats(answer)) as far, talk(world.client) as app:
        for _ in range(2):  # the destination's `close` is not the application's
            expected = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-End: 2\r\n\r\nhi"
            assert await app.ask(get(far)) == expected
        assert len(far.visits) == 2


async def test_both_connections_are_kept(world: World) -> None:
    async with target(repeats(ok(b"hi"))) as far, talk(world.client) as app:
        for _ in range(5):
            assert (await app.ask(get(far))).endswith(b"hi")
        assert len(far.visits) == 1
        assert not world.client.events.of(RequestEnded)
        (listed,) = world.client.app.connections()
        assert listed.destination == far.address
        assert listed.received == 5 * len(ok(b"hi"))
    await world.client.events.wait(RequestEnded)
    (ended,) = world.client.events.of(RequestEnded)
    assert (ended.result, ended.received) == ("ok", 5 * len(ok(b"hi")))
    assert ended.sent == far.visits[0].received
    await world.quiet()


async def test_another_destination_on_the_same_connection(world: World) -> None:
    async with (
        target(repeats(ok(b"one"))) as one,
        target(repeats(ok(b"two"))) as two,
        talk(world.client) as app,
    ):
        for far, body in ((one, b"one"), (two, b"two"), (one, b"one")):
            assert (await app.ask(get(far))).endswith(body)
        await until(lambda: not two.open_visits and one.open_visits == 1)
        assert (len(one.visits), len(two.visits)) == (2, 1)
        assert [event.result for event in world.client.events.of(RequestEnded)] == ["ok", "ok"]
    await world.quiet()


async def test_another_user_name_takes_another_connection(world: World) -> None:
    async with target(repeats(ok(b"hi"))) as far, talk(world.client) as app:
        for user in (b"session=1", b"session=1", b"session=2"):
            login = "Proxy-Authorization: Basic " + b64encode(user + b":").decode()
            await app.ask(get(far, "/", login))
        assert len(far.visits) == 2


async def test_requests_sent_ahead_are_answered_in_order(world: World) -> None:
    async def numbered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        while request := await read_message(reader):
            number = request.split(b" ", 2)[1]
            writer.write(ok(number))
        visit.end = "eof"

    async with target(numbered) as one, target(numbered) as two, talk(world.client) as app:
        app.send(b"".join(get((one, two)[number % 3 == 2], f"/{number}") for number in range(100)))
        for number in range(100):
            assert (await app.answer()).endswith(b"\r\n/%d" % number)


async def test_what_is_sent_ahead_is_bounded(world: World) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.read()

    async with target(silent) as far, talk(world.client) as app:
        app.send(get(far))
        await until(world.client.app.connections)
        app.send(get(far) * 400_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await app.writer.drain()  # nobody reads it
        app.writer.transport.abort()
    await world.quiet()
    assert world.client.events.of(RequestEnded)[0].result == "aborted"


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked_up", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("way_down", ["length", "chunked", "close"])
async def test_large_bodies_in_every_framing(world: World, chunked_up: bool, way_down: str) -> None:
    up, down = bytes(Payload(3 * MIB, seed=1)), bytes(Payload(5 * MIB, seed=2))
    answer = {
        "length": ok(down),
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(down),
        "close": b"HTTP/1.1 200 OK\r\n\r\n" + down,
    }[way_down]
    got_up = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        request = await read_message(reader)
        visit.take(request)
        got_up.append(decoded(request))
        writer.write(answer)
        await writer.drain()
        if way_down != "close":
            await reader.read()
        visit.end = "eof"

    async with target(serve) as far, talk(world.client) as app:
        framing = "Transfer-Encoding: chunked" if chunked_up else f"Content-Length: {len(up)}"
        app.send(get(far, "/", framing, method="POST") + (chunks(up) if chunked_up else up))
        got = await app.answer()
        assert decoded(got) == down
        assert got_up == [up]
    await world.quiet()
    assert far.visits[0].received == world.client.events.of(RequestEnded)[0].sent


async def test_trailers_in_both_directions(world: World) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
    async with target(says(answer)) as far, talk(world.client) as app:
        request = get(far, "/", "Transfer-Encoding: chunked", "TE: trailers", method="PUT")
        got = await app.ask(request + b"1\r\nx\r\n0\r\nX-Up: 1\r\nContent-Length: 9\r\n\r\n")
        assert got.endswith(b"2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n")
        head, _, body = far.visits[0].head.partition(b"\r\n\r\n")
        assert b"\r\nTE: trailers" in head
        assert b"\r\nConnection: TE" in head
        assert body == b"1\r\nx\r\n0\r\nX-Up: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n"),
    ],
)
async def test_answers_without_a_body(world: World, method: str, answer: bytes) -> None:
    async with target(says(answer, ok(b"next"))) as far, talk(world.client) as app:
        app.send(get(far, method=method))
        async with asyncio.timeout(5):
            assert await app.reader.readuntil(b"\r\n\r\n") == answer
        assert (await app.ask(get(far))).endswith(b"next")
        assert len(far.visits) == 1


async def test_http_1_0_gets_no_chunks(world: World) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    async with target(says(answer)) as far, talk(world.client) as app:
        app.send(get(far, version="1.0"))
        assert await app.rest() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi"


async def test_100_continue_is_the_destinations(world: World) -> None:
    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        visit.take(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        visit.take(await reader.readexactly(4))
        writer.write(ok(b"thanks"))
        await reader.read()
        visit.end = "eof"

    async with target(asks) as far, talk(world.client) as app:
        request = get(far, "/", "Expect: 100-continue", "Content-Length: 4", method="POST")
        assert await app.ask(request) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await app.ask(b"body")).endswith(b"thanks")
        assert far.visits[0].head.endswith(b"\r\n\r\nbody")


async def test_a_final_answer_in_place_of_100_ends_the_connection(world: World) -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with target(refuses) as far, talk(world.client) as app:
        app.send(get(far, "/", "Expect: 100-continue", "Content-Length: 4", method="POST"))
        assert await app.rest() == b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    await world.quiet()


async def test_an_answer_may_come_before_the_body_has_ended(world: World) -> None:
    async def impatient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"enough"))
        await reader.readexactly(10)
        writer.write(ok(b"second"))
        await reader.read()
        visit.end = "eof"

    async with target(impatient) as far, talk(world.client) as app:
        assert (await app.ask(get(far, "/", "Content-Length: 10", method="POST"))).endswith(b"enough")
        app.send(b"0123456789")
        assert (await app.ask(get(far))).endswith(b"second")


async def test_hints_are_passed_on(world: World) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    async with target(says(hints + ok(b"hi"))) as far, talk(world.client) as app:
        assert await app.ask(get(far)) == hints
        assert (await app.answer()).endswith(b"hi")
    async with target(says(hints + ok(b"hi"))) as far, talk(world.client) as app:
        app.send(get(far, version="1.0"))  # knows none
        assert await app.rest() == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


async def test_an_upgrade_becomes_a_pipe(world: World) -> None:
    async def web_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        visit.take(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly"
        )
        await echo(reader, writer, visit)

    payload = bytes(Payload(2 * MIB, seed=3))
    async with target(web_socket) as far, talk(world.client) as app:
        app.send(get(far, "/", "Connection: Upgrade", "Upgrade: websocket") + b"ahead")
        async with asyncio.timeout(10):
            head = await app.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Upgrade: websocket" in head
            assert await app.reader.readexactly(10) == b"earlyahead"
            app.send(payload)
            assert await app.reader.readexactly(len(payload)) == payload
        app.writer.write_eof()
        assert await app.rest() == b""
    await world.client.events.wait(RequestEnded)
    (ended,) = world.client.events.of(RequestEnded)
    assert (ended.result, ended.sent) == ("ok", far.visits[0].received)
    await world.quiet()


async def test_an_upgrade_that_is_not_wanted(world: World) -> None:
    async with target(repeats(ok(b"plain"))) as far, talk(world.client) as app:
        for _ in range(3):
            request = get(far, "/", "Connection: Upgrade", "Upgrade: websocket")
            assert (await app.ask(request)).endswith(b"plain")
        assert len(far.visits) == 1


# -- CONNECT ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_connect_keeps_what_stands_behind_it(world: World, version: str) -> None:
    payload = bytes(Payload(3 * MIB, seed=4))
    async with target(echo) as far, talk(world.client) as app:
        app.send(connect(far, version=version) + payload)
        app.writer.write_eof()
        async with asyncio.timeout(20):
            assert await app.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            assert await app.reader.read(-1) == payload
        assert far.visits[0].received == len(payload)
    await world.quiet()
    (ended,) = world.client.events.of(RequestEnded)
    assert (ended.result, ended.sent, ended.received) == ("ok", len(payload), len(payload))


async def test_connect_after_a_plain_request(world: World) -> None:
    async with target(repeats(ok(b"hi"))) as one, target(echo) as two, talk(world.client) as app:
        await app.ask(get(one))
        app.send(connect(two) + b"ping")
        async with asyncio.timeout(10):
            await app.reader.readuntil(b"\r\n\r\n")
            assert await app.reader.readexactly(4) == b"ping"
        await until(lambda: not one.open_visits)


# -- in any pieces ---------------------------------------------------------------------------------------------------


async def in_two_packets(app: Talk, whole: bytes, cut: int) -> None:
    app.send(whole[:cut])
    for _ in range(4):
        await asyncio.sleep(0)
    app.send(whole[cut:])


async def test_a_request_may_be_cut_anywhere(world: World) -> None:
    async with target(repeats(ok(b"hi"))) as far:
        whole = get(far, "/", "Transfer-Encoding: chunked", method="POST") + b"2\r\nab\r\n0\r\nX: y\r\n\r\n"
        async with talk(world.client) as app:
            for cut in range(1, len(whole)):  # every position of a request behind others
                await in_two_packets(app, whole, cut)
                assert (await app.answer()).endswith(b"hi"), cut
        for cut in range(1, whole.index(b"\r\n") + 3):  # every position of the first line of a connection
            async with talk(world.client) as app:
                await in_two_packets(app, whole, cut)
                assert (await app.answer()).endswith(b"hi"), cut
        sent = b"".join(visit.head for visit in far.visits)
        head = f"POST / HTTP/1.1\r\nHost: {far.address}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        # a cut in the middle of a chunk makes two of it
        bodies = sent.replace(b"1\r\na\r\n1\r\nb\r\n", b"2\r\nab\r\n").split(head)[1:]
        assert bodies == [b"2\r\nab\r\n0\r\nX: y\r\n\r\n"] * (len(whole) - 1 + whole.index(b"\r\n") + 2)
    assert not world.client.events.of(StrangerRefused)
    await world.quiet()


async def test_connect_may_be_cut_anywhere(world: World) -> None:
    async with target(echo) as far:
        whole = connect(far) + b"hello"
        for cut in range(1, len(whole)):
            async with talk(world.client) as app:
                await in_two_packets(app, whole, cut)
                async with asyncio.timeout(10):
                    await app.reader.readuntil(b"\r\n\r\n")
                    assert await app.reader.readexactly(5) == b"hello"
        assert [visit.received for visit in far.visits] == [5] * (len(whole) - 1)
    await world.quiet()


async def test_a_request_may_end_anywhere(world: World) -> None:
    """Nothing of a request that is not whole arrives as one, and nothing of it is left."""
    async with target(repeats(ok(b"hi"))) as far:
        whole = get(far, "/", "Content-Length: 5", method="POST") + b"hello"
        head = len(whole) - 5
        for cut in range(1, len(whole)):
            async with talk(world.client) as app:
                app.send(whole[:cut])
                app.writer.write_eof()
                answer = await app.rest()
                assert answer == b"" if cut < head else answer.startswith(b"HTTP/1.1 400 "), cut
        assert all(b"hello" not in visit.head for visit in far.visits)
    await world.quiet()


async def test_socks4_may_be_cut_anywhere(world: World) -> None:
    async with target(echo) as far:
        port = far.port.to_bytes(2, "big")
        for request in (
            b"\x04\x01" + port + b"\x7f\x00\x00\x01bob\0hello",
            b"\x04\x01" + port + b"\x00\x00\x00\x01session=1\x00127.0.0.1\x00hello",
        ):
            for cut in range(1, len(request)):
                async with talk(world.client) as app:
                    await in_two_packets(app, request, cut)
                    async with asyncio.timeout(10):
                        assert (await app.reader.readexactly(8))[:2] == b"\x00\x5a"
                        assert await app.reader.readexactly(5) == b"hello"
    assert {visit.received for visit in far.visits} == {5}
    await world.quiet()
