"""HTTP that goes wrong: what the application is told, what the destination never sees, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from bethrou.config import ClientConfig
from bethrou.events import RequestEnded, StrangerRefused
from bethrou.net.tcp import reset
from bethrou.proxy import application as application_module
from bethrou.proxy import http_server
from bethrou.wire.psk import NetworkKey
from e2e.http_talk import World, connect, get, shape, talk
from live.http_origin import ok, read_message, repeats, says
from live.members import running_client, running_node
from live.obstacles import deaf_listener
from live.targets import Visit, echo, target
from live.waiting import until


@pytest.fixture
async def world(key: NetworkKey) -> AsyncIterator[World]:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        yield World(client, node)


# -- statuses by the cause -------------------------------------------------------------------------------------------


async def test_each_cause_has_its_status(world: World) -> None:
    async with target(echo) as gone:
        pass
    for where, status, kind, words in (
        (gone.address, 502, b"connection_refused", b"refused"),
        ("10.1.2.3:80", 403, b"http_request_denied", b"not globally routable"),
        ("0x7f000001:80", 502, b"dns_error", b"neither a name nor"),
        ("nobody.invalid:80", 502, b"dns_error", b"nobody.invalid"),
    ):
        for request in (f"GET http://{where}/ HTTP/1.1\r\n", f"CONNECT {where} HTTP/1.1\r\n"):
            async with talk(world.client) as app:
                answer = await app.ask((request + "Host: x\r\n\r\n").encode())
                got, body = shape(answer)
                assert (got, kind in answer, words in body) == (status, True, True), answer
    await world.quiet()


async def test_no_answer_in_time(key: NetworkKey) -> None:
    with deaf_listener() as deaf:
        async with (
            running_node(key) as node,
            running_client(key, [node.address], routing={"timeout": "300ms"}) as client,
            talk(client) as app,
        ):
            answer = await app.ask(f"GET http://127.0.0.1:{deaf.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert shape(answer)[0] == 504
            assert [event.result for event in client.events.of(RequestEnded)] == ["timeout"]


async def test_no_exit(key: NetworkKey) -> None:
    async with running_node(key) as node:
        address = node.address
    async with (
        running_client(key, [address], wait=False, routing={"wait": "100ms"}) as client,
        talk(client) as app,
    ):
        for request in (b"GET http://192.0.2.1/ HTTP/1.1\r\n", b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n"):
            status, body = shape(await app.ask(request + b"Host: x\r\n\r\n"))
            assert status == 503
            assert b"cannot be reached" in body


async def test_rules_hold_and_are_not_told(key: NetworkKey) -> None:
    async with target(repeats(ok(b"hi"))) as far:
        rules = [{"domain": "blocked.test", "use": "block"}, {"port": far.port, "use": "direct"}]
        async with (
            running_node(key) as node,
            running_client(key, [node.address], rules=rules) as client,
            talk(client) as app,
        ):
            status, body = shape(await app.ask(b"GET http://blocked.test/ HTTP/1.1\r\nHost: x\r\n\r\n"))
            assert (status, b"rules" in body) == (403, False)
            assert (await app.ask(get(far))).endswith(b"hi")
            assert [listed.peer for listed in client.app.connections()] == ["direct"]
            login = "Proxy-Authorization: Basic " + b64encode(b"tag=nowhere:").decode()
            assert shape(await app.ask(get(far, "/", login)))[0] == 503


async def test_rules_that_have_changed_hold_for_the_next_request(key: NetworkKey) -> None:
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(repeats(ok(b"hi"))) as far,
        talk(client) as app,
    ):
        assert (await app.ask(get(far))).endswith(b"hi")
        rules = ClientConfig.model_validate(
            {"nodes": [{"addrs": [node.address]}], "rules": [{"port": far.port, "use": "block"}]}
        ).rules
        client.app.reload(client.app.config.model_copy(update={"rules": rules}))
        assert shape(await app.ask(get(far)))[0] == 403


# -- who may ---------------------------------------------------------------------------------------------------------


async def test_a_login_is_asked_for(key: NetworkKey) -> None:
    server = {"listen": "127.0.0.1:0", "user": "alice", "pass": "secret"}
    right = "Proxy-Authorization: Basic " + b64encode(b"alice,session=1:secret").decode()
    wrong = (
        "Proxy-Authorization: Basic " + b64encode(b"alice:guess").decode(),
        "Proxy-Authorization: Basic " + b64encode(b"alice,color=red:secret").decode(),
        "Proxy-Authorization: Basic %%%",
        "Proxy-Authorization: Basic " + b64encode(b"alice").decode(),
        "Proxy-Authorization: Digest username=alice",
    )
    async with (
        running_node(key) as node,
        running_client(key, [node.address], server=server) as client,
        target(repeats(ok(b"hi"))) as far,
        target(echo) as other,
        talk(client) as app,
    ):
        for header in ((), *((each,) for each in wrong)):
            answer = await app.ask(get(far, "/", *header))
            async with talk(client) as another:
                another.send(connect(other, *header))
                for said in (
                    answer,
                    await another.rest(),
                ):  # what follows a CONNECT is never read as a request
                    assert shape(said)[0] == 407
                    assert b"\r\nProxy-Authenticate: Basic realm=" in said
                    assert b"secret" not in said
        assert len(client.events.of(StrangerRefused)) == 2 * len(
            wrong
        )  # that nobody has logged in is no news
        assert "secret" not in str(client.events.all)
        assert (await app.ask(get(far, "/", right))).endswith(b"hi")
        app.send(connect(other, right) + b"ping")
        async with asyncio.timeout(5):
            await app.reader.readuntil(b"\r\n\r\n")
            assert await app.reader.readexactly(4) == b"ping"
        assert not far.visits[0].head.count(b"Authorization")
        assert {event.user for event in client.events.of(RequestEnded)} <= {"alice"}
    async with (  # SOCKS4 has no password
        running_node(key) as node,
        running_client(key, [node.address], server=server) as client,
        talk(client) as app,
    ):
        app.send(b"\x04\x01\x00\x50\x7f\x00\x00\x01alice\0")
        assert (await app.rest())[:2] == b"\x00\x5d"


async def test_what_follows_a_refused_connect_is_never_a_request(world: World) -> None:
    """An application that sends ahead sends what its user wrote, or a page."""
    async with target(echo) as gone:
        pass
    async with target(repeats(ok(b"hi"))) as far, talk(world.client) as app:
        app.send(connect(gone) + get(far))
        assert shape(await app.rest())[0] == 502
        assert not far.visits


# -- destinations that misbehave -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", b"no answer came"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", b""),
        (b"SSH-2.0-OpenSSH\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", b""),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, b""),
    ],
)
async def test_an_answer_that_is_none(world: World, answer: bytes, words: bytes) -> None:
    async with target(says(answer, end=True)) as far, talk(world.client) as app:
        got, body = shape(await app.ask(get(far)))
        assert got == 502
        assert words in body
        assert (await app.ask(get(far))).startswith(b"HTTP/1.1 502 ")  # the application's connection is kept
    await world.quiet()


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_half_an_answer_does_not_pass_for_the_whole(world: World, framing: bytes) -> None:
    async with (
        target(says(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n3\r\nabc\r\n", end=True)) as far,
        talk(world.client) as app,
    ):
        app.send(get(far))
        with pytest.raises(ConnectionResetError):
            await app.rest()
    await world.quiet()
    assert [event.result for event in world.client.events.of(RequestEnded)] == ["aborted"]


async def test_an_answer_until_the_end_that_is_cut_off(world: World) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhalf")
        await more.wait()
        reset(writer.transport)

    more = asyncio.Event()
    async with target(breaks) as far, talk(world.client) as app:
        app.send(get(far, version="1.0"))
        async with asyncio.timeout(5):
            await app.reader.readuntil(b"half")
        more.set()
        # the exit tells a reset as a reset; FIN would say that this was all
        with pytest.raises(ConnectionResetError):
            await app.rest()
    await world.quiet()


async def test_a_kept_connection_that_ends_at_the_next_request(world: World) -> None:
    """The request is not sent again, and the application learns it as it would without a proxy."""
    async with target(says(ok(b"hi"), b"", end=True)) as far, talk(world.client) as app:
        await app.ask(get(far))
        app.send(get(far, method="POST"))
        assert await app.rest() == b""
        assert len(far.visits) == 1
    await world.quiet()


async def test_a_kept_connection_that_ended_before_the_next_request(world: World) -> None:
    async with target(says(ok(b"hi"), end=True)) as far, talk(world.client) as app:
        for count in range(1, 4):
            assert (await app.ask(get(far))).endswith(b"hi")
            await until(lambda: not world.client.app.connections())
            assert len(far.visits) == count


async def test_what_nobody_asked_for_is_no_answer(world: World) -> None:
    async with target(says(ok(b"hi") + ok(b"planted"))) as far, talk(world.client) as app:
        assert (await app.ask(get(far))).endswith(b"hi")
        assert (await app.ask(get(far))).endswith(b"hi")
        assert len(far.visits) == 2


# -- time, and the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"G", b"GET http://x/ HTTP/1.1\r\nHost: ", b"CONNECT x:1 HTTP/1.1\r\n"])
async def test_a_slow_head_is_answered_and_ended(
    key: NetworkKey, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(application_module, "HANDSHAKE_TIMEOUT", 0.5)
    async with running_node(key) as node, running_client(key, [node.address]) as client, talk(client) as app:
        start = time.monotonic()
        app.send(said)
        assert shape(await app.rest())[0] == 408
        assert 0.4 < time.monotonic() - start < 4
        assert "no request within" in (await client.events.wait(StrangerRefused)).reason
        await until(lambda: client.app.active == 0)


async def test_an_idle_connection_is_ended(key: NetworkKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "IDLE_TIMEOUT", 0.3)
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(repeats(ok(b"hi"))) as far,
        talk(client) as app,
    ):
        await app.ask(get(far))
        assert await app.rest() == b""
        await until(lambda: not far.open_visits and client.app.active == 0)
        assert [event.result for event in client.events.of(RequestEnded)] == ["ok"]


async def test_an_application_that_goes_away_in_the_middle(world: World) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.read(1)
        await reader.read()

    async with target(silent) as far:
        for end in (lambda app: app.writer.transport.abort(), lambda app: reset(app.writer.transport)):
            for request in (get(far), get(far, "/", "Content-Length: 10", method="POST") + b"half"):
                async with talk(world.client) as app:
                    app.send(request)
                    await until(lambda: any(c.sent for c in world.client.app.connections()))
                    end(app)
                await world.quiet()
        await until(lambda: not far.open_visits)
    assert len(world.client.events.of(RequestEnded)) == 4


async def test_the_destination_hears_that_nothing_more_will_come(world: World) -> None:
    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        visit.take(await reader.read())
        writer.write(ok(b"after all"))
        visit.end = "eof"

    async with target(patient) as far:
        for request in (get(far), get(far, "/", "Content-Length: 4", method="POST") + b"body"):
            async with talk(world.client) as app:
                app.send(request)
                app.writer.write_eof()
                assert (await app.rest()).endswith(b"after all")
    async with target(repeats(ok(b"hi"))) as far, talk(world.client) as app:
        app.send(get(far) * 3)  # the end of what is sent ahead is the last one's
        app.writer.write_eof()
        assert (await app.rest()).count(b"hi") == 3
        assert len(far.visits) == 1
    await world.quiet()


async def test_a_client_that_drains_ends_what_only_waits(world: World) -> None:
    go = asyncio.Event()

    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await read_message(reader)
        await go.wait()
        writer.write(ok(b"late"))
        await reader.read()

    async with (
        target(repeats(ok(b"hi"))) as far,
        target(later) as slow,
        talk(world.client) as waiting,
        talk(world.client) as busy,
    ):
        await waiting.ask(get(far))
        busy.send(get(slow))
        await until(lambda: slow.visits)
        world.client.app.drain()
        assert await waiting.rest() == b""
        assert world.client.app.active == 1
        go.set()
        answer = await busy.rest()
        assert answer.endswith(b"late")
        assert b"\r\nConnection: close\r\n" in answer
    await world.quiet()


async def test_a_connection_is_closed_by_its_user(world: World) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.read()

    async with target(silent) as far, talk(world.client) as app:
        app.send(get(far))
        await until(lambda: any(c.sent for c in world.client.app.connections()))
        (listed,) = world.client.app.connections()
        assert world.client.app.close_connection(listed.id)
        with contextlib.suppress(ConnectionResetError):
            assert await app.rest() == b""
        ended = await world.client.events.wait(RequestEnded)
        assert (ended.result, ended.reason) == ("aborted", "closed by the user")
    await world.quiet()


async def test_the_client_stops_in_the_middle_of_everything(key: NetworkKey) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        await reader.read()

    async with running_node(key) as node, target(silent) as far:
        async with running_client(key, [node.address]) as client, contextlib.AsyncExitStack() as stack:
            for said in (
                b"GET",
                get(far),
                get(far, "/", "Content-Length: 9", method="POST") + b"x",
                connect(far),
                connect(far)[:-2],
            ):
                app = await stack.enter_async_context(talk(client))
                app.send(said)
            await until(lambda: len(far.visits) == 3)
            await client.app.close()
        await until(lambda: not far.open_visits and node.app.active == 0)
    left = [task.get_name() for task in asyncio.all_tasks() if "http" in task.get_name()]
    assert not left
