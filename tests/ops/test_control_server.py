"""The control server over a real Unix socket, with curl and with bare bytes."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bethrou.events import LinkClosed
from bethrou.ops.control_server import MAX_CONNECTIONS
from bethrou.ops.event_stream import MAX_WAITING
from bethrou.ops.http_connection import IDLE_TIMEOUT, MAX_BODY, MAX_HEAD, REQUEST_TIMEOUT
from live.waiting import until
from net.clock import Clock, turns
from ops.controlled import (
    CONNECTION,
    ENDED,
    NOW,
    OPENED,
    PEER,
    REACHABILITY,
    STATUS,
    WHY,
    Recorder,
    Served,
    read_answer,
    served,
)

NOBODY = 65534


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(asdict(value)))


# -- what is asked --------------------------------------------------------------------------------------------------


async def test_status_and_why_are_the_snapshots(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        reply = await server.curl("/v1/status")
        assert (reply.status, reply.json) == (200, as_json(STATUS))
        assert reply.headers["cache-control"] == "no-store"
        assert reply.body.endswith(b"}\n")
        reply = await server.curl("/v1/why?target=example.com:443&user=ann%2Ctag%3Deu")
        assert (reply.status, reply.json) == (200, as_json(WHY))
        await server.curl("/v1/why?target=%5B2001:db8::7%5D:80")
        assert server.control.asked == [
            ("why", "example.com", 443, "ann,tag=eu"),
            ("why", "2001:db8::7", 80, ""),
        ]


async def test_connections_are_listed_and_closed(tmp_path: Path) -> None:
    many = [replace(CONNECTION, id=f"{number:016x}") for number in range(1234)]
    async with served(tmp_path / "s", Recorder(open=many)) as server:
        assert (await server.curl("/v1/connections")).json == {"connections": [as_json(one) for one in many]}
        reply = await server.curl(f"/v1/connections/{many[7].id}", "-X", "DELETE")
        assert (reply.status, reply.json) == (200, {"closed": many[7].id})
        reply = await server.curl("/v1/connections/a%2Fb", "-X", "DELETE")
        assert (reply.status, reply.error) == (404, "there is no such connection (any more)")
        assert server.control.asked == [("close", many[7].id), ("close", "a/b")]
        server.control.open = []
        assert (await server.curl("/v1/connections")).json == {"connections": []}


async def test_reachability_is_found_out(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        assert (await server.curl("/v1/reachability")).json == as_json(REACHABILITY)
        assert server.control.asked == ["reachability"]


async def test_reload_and_drain(tmp_path: Path) -> None:
    control = Recorder(changes=["nodes: 1 added"])
    async with served(tmp_path / "s", control) as server:
        assert (await server.curl("/v1/reload", "-X", "POST")).json == {"changes": ["nodes: 1 added"]}
        assert (await server.curl("/v1/drain", "-d", "")).json == {"draining": True}
        control.bad_file = "client.yaml: nodes: empty"
        reply = await server.curl("/v1/reload", "-X", "POST")
        assert (reply.status, reply.error) == (409, "client.yaml: nodes: empty")
        assert control.asked == ["reload", "drain", "reload"]


async def test_metrics_are_there_when_somebody_makes_them(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        reply = await server.curl("/v1/metrics")
        assert (reply.status, reply.error) == (404, "this program has no metrics")
    async with served(tmp_path / "s", metrics=lambda: "bethrou_up 1\n") as server:
        reply = await server.curl("/v1/metrics")
        assert (reply.status, reply.body) == (200, b"bethrou_up 1\n")
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "there is no such path; there are GET /v1/status, "),
        ("GET", "/v1", 404, "there is no such path"),
        ("GET", "/v2/status", 404, "there is no such path"),
        ("GET", "/v1/status/x", 404, "there is no such path"),
        ("DELETE", "/v1/connections/", 404, "there is no such path"),
        ("POST", "/v1/status", 405, "/v1/status takes GET"),
        ("GET", "/v1/drain", 405, "/v1/drain takes POST"),
        ("GET", "/v1/connections/1", 405, "/v1/connections/1 takes DELETE"),
        ("POST", "/v1/events", 405, "/v1/events takes GET"),
        ("OPTIONS", "/v1/reload", 405, "/v1/reload takes POST"),
        ("GET", "/v1/why", 400, "has no port"),
        ("GET", "/v1/why?target=example.com", 400, "has no port"),
        ("GET", "/v1/why?target=:80", 400, "target must be HOST:PORT"),
        ("GET", "/v1/why?target=x:0", 400, "target must be HOST:PORT"),
        ("GET", "/v1/why?target=x:65536", 400, "has no port from 0 to 65535"),
        ("GET", "/v1/why?target=x:1&target=y:1", 400, "has a field twice"),
        ("GET", "/v1/why?" + "&".join(f"a{number}=1" for number in range(9)), 400, "more than 8 fields"),
    ],
)
async def test_what_is_refused(tmp_path: Path, method: str, path: str, status: int, error: str) -> None:
    async with served(tmp_path / "s") as server:
        reply = await server.curl(path, "-X", method)
        assert reply.status == status
        assert error in reply.error
        assert ("allow" in reply.headers) == (status == 405)
        assert server.control.asked == []


async def test_head_is_refused_without_a_body(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        reply = await server.curl("/v1/status", "--head")
        assert (reply.status, reply.body) == (405, b"")


async def test_what_its_kind_does_not_have(tmp_path: Path) -> None:
    async with served(tmp_path / "s", Recorder(offers_why=False)) as server:
        reply = await server.curl("/v1/why?target=x:1")
        assert (reply.status, reply.error) == (404, "a node chooses no exits")


# -- who may ask ----------------------------------------------------------------------------------------------------


async def test_a_browsers_page_may_not(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        for origin in ("https://example.com", "null", ""):
            reply = await server.curl("/v1/drain", "-X", "POST", "-H", f"Origin: {origin or ';'}")
            assert (reply.status, server.control.asked) == (403, [])
        reply = await server.curl("/v1/drain", "-X", "POST", "-H", "Origin;")  # curl's way to say it empty
        assert (reply.status, server.control.asked) == (403, [])


async def test_another_user_may_not() -> None:
    root = os.getuid() == 0
    # what is tested is the server, not the permissions in front of it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with served(folder / "s", uid=os.getuid() if root else os.getuid() + 1) as server:
            for path in (folder, server.path):
                path.chmod(0o777)
            reply = await server.curl("/v1/status", user=NOBODY if root else None)
            assert reply.status == 403
            assert "only the user" in reply.error


async def test_root_may_ask_everybodys_programs(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can show it")
    async with served(tmp_path / "s", uid=NOBODY) as server:
        assert (await server.curl("/v1/status")).status == 200


# -- HTTP -----------------------------------------------------------------------------------------------------------


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes before the end; the system says "reset" where the server has closed with bytes unread."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


GET = b"GET /v1/%b HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_request_byte_by_byte_and_a_second_one_on_the_same_connection(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        for _ in range(2):
            for byte in GET % b"status":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert await read_answer(reader) == (200, as_json(STATUS))


async def test_two_requests_at_once_are_answered_in_turn(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        writer.write(GET % b"why?target=x:1" + GET % b"status" + GET % b"nothing")
        assert await read_answer(reader) == (200, as_json(WHY))
        assert await read_answer(reader) == (200, as_json(STATUS))
        assert (await read_answer(reader))[0] == 404


async def test_the_old_version_of_http_closes(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        writer.write(b"GET /v1/status HTTP/1.0\r\n\r\n")
        assert await read_answer(reader) == (200, as_json(STATUS))
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "bad",
    [
        b"\x05\x01\x00\x00\x00\r\n\r\n",
        b"GET /v1/status\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 9 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_once(tmp_path: Path, bad: bytes) -> None:
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        writer.write(bad)
        status, answer = await read_answer(reader)
        assert status == 400
        assert list(answer) == ["error"]
        assert await rest_of(reader) == b""


@pytest.mark.parametrize("cut", [1, 10, 30, len(GET % b"status") - 1])
async def test_a_request_that_is_cut(tmp_path: Path, cut: int) -> None:
    async with served(tmp_path / "s") as server:
        async with server.connection() as (_, writer):
            writer.write((GET % b"status")[:cut])
            await until(lambda: len(server.tasks) == 1)
        await until(lambda: len(server.tasks) == 0)
        assert (await server.curl("/v1/status")).status == 200


@pytest.mark.parametrize("extra", [1, 100, 2000, 20_000])
async def test_a_head_that_is_too_long(tmp_path: Path, extra: int) -> None:
    filling = MAX_HEAD - len("/v1/status") - len("Host") - len("x") - len("A")
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n" % (b"a" * (filling + extra)))
        assert (await read_answer(reader))[0] == 431
        assert await rest_of(reader) == b""


async def test_a_head_that_is_just_short_enough(tmp_path: Path) -> None:
    filling = MAX_HEAD - 200
    async with served(tmp_path / "s") as server:
        assert (await server.curl("/v1/status", "-H", f"A: {'a' * filling}")).status == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 200), (MAX_BODY + 1, 413)])
async def test_a_body_is_read_up_to_its_limit(tmp_path: Path, size: int, status: int, chunked: bool) -> None:
    (tmp_path / "body").write_bytes(b"b" * size)
    options = ["-X", "POST", "--data-binary", f"@{tmp_path}/body", "-H", "Expect: 100-continue"]
    async with served(tmp_path / "s") as server:
        reply = await server.curl(
            "/v1/drain", *options, *(["-H", "Transfer-Encoding: chunked"] if chunked else [])
        )
        while reply.status == 100:  # curl shows it, too
            head, _, body = reply.body.partition(b"\r\n\r\n")
            reply = replace(reply, status=int(head.split()[1]), body=body)
        assert reply.status == status
        assert server.control.asked == (["drain"] if status == 200 else [])


# -- bounds ---------------------------------------------------------------------------------------------------------


async def test_a_hundred_connections(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        pairs = [await asyncio.open_unix_connection(str(server.path)) for _ in range(100)]
        for reader, _ in pairs[MAX_CONNECTIONS:]:
            status, answer = await read_answer(reader)
            assert (status, answer) == (503, {"error": "there are 64 connections already"})
        for _, writer in pairs[:MAX_CONNECTIONS]:
            writer.write(GET % b"status")
        for reader, _ in pairs[:MAX_CONNECTIONS]:
            assert (await read_answer(reader))[0] == 200
        for _, writer in pairs:
            writer.close()
        await until(lambda: len(server.tasks) == 0)
        assert (await server.curl("/v1/status")).status == 200


async def test_those_that_are_refused_are_bounded_too(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        pairs = [await asyncio.open_unix_connection(str(server.path)) for _ in range(2 * MAX_CONNECTIONS + 5)]
        answers = [await reader.read() for reader, _ in pairs[MAX_CONNECTIONS:]]
        assert [answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") for answer in answers] == [
            True
        ] * MAX_CONNECTIONS + [False] * 5
        assert len(server.tasks) == 2 * MAX_CONNECTIONS
        for _, writer in pairs:
            writer.close()
        await until(lambda: len(server.tasks) == 0)


async def test_who_says_nothing_or_too_little_is_sent_away(tmp_path: Path, clock: Clock) -> None:
    async with served(tmp_path / "s") as server, server.connection() as silent, server.connection() as slow:
        await clock.forward(0)
        for byte in (GET % b"status")[:9]:
            slow[1].write(bytes([byte]))
            await clock.forward(1)
        assert len(server.tasks) == 2
        await clock.forward(REQUEST_TIMEOUT - 9 + 0.5)
        for reader, _ in (silent, slow):
            assert (await read_answer(reader))[0] == 408
            assert await reader.read() == b""


async def test_a_connection_that_was_used_may_rest_for_a_while(tmp_path: Path, clock: Clock) -> None:
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        for _ in range(2):
            writer.write(GET % b"status")
            assert (await read_answer(reader))[0] == 200
            await clock.forward(IDLE_TIMEOUT - 1)
        assert len(server.tasks) == 1
        await clock.forward(2)
        assert await reader.read() == b""
        assert len(server.tasks) == 0


async def test_a_second_request_has_as_long_as_the_first(tmp_path: Path, clock: Clock) -> None:
    async with served(tmp_path / "s") as server, server.connection() as (reader, writer):
        writer.write(GET % b"status")
        await read_answer(reader)
        await clock.forward(REQUEST_TIMEOUT * 2)
        writer.write(b"GET ")
        await clock.forward(REQUEST_TIMEOUT + 0.5)
        assert (await read_answer(reader))[0] == 408


async def test_who_does_not_read_the_answer_is_cut(tmp_path: Path, clock: Clock) -> None:
    many = Recorder(open=[CONNECTION] * 20_000)
    async with served(tmp_path / "s", many) as server, server.connection() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET % b"connections")
        await clock.forward(1)
        assert len(server.tasks) == 1
        await clock.forward(REQUEST_TIMEOUT + 2)
        assert len(server.tasks) == 0


# -- events ---------------------------------------------------------------------------------------------------------


async def subscribed(server: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    before = server.control.subscribers
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(GET % b"events")
    await reader.readuntil(b"\r\n\r\n")
    assert server.control.subscribers == before + 1
    return reader, writer


async def next_event(reader: asyncio.StreamReader) -> Any:
    """The next event of a chunked stream of events."""
    while not (line := await reader.readline()).startswith(b"data: "):
        assert line
    return json.loads(line.removeprefix(b"data: "))


async def test_events_are_told_to_everybody_who_asks(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        pairs = [await subscribed(server) for _ in range(3)]
        server.control.feed(OPENED)
        server.control.feed(ENDED)
        for reader, _ in pairs:
            opened, ended = [await next_event(reader) for _ in range(2)]
            assert opened == {"event": "link_opened", "time": NOW, **asdict(OPENED)}
            assert ended == {"event": "request_ended", "time": NOW, **asdict(ENDED)}
        for _, writer in pairs:
            writer.close()
        await until(lambda: server.control.subscribers == 0)
        await until(lambda: len(server.tasks) == 0)
        server.control.feed(OPENED)


async def test_events_as_curl_sees_them(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        asking = asyncio.ensure_future(server.curl("/v1/events"))
        await until(lambda: server.control.subscribers)
        server.control.feed(LinkClosed(PEER, "", "it\n\ndata: said so\u2028"))
        await turns()
        await server.close()
        reply = await asking
        assert reply.headers["content-type"] == "text/event-stream"
        name, data, *rest = reply.body.decode("ascii").split("\n")
        assert (name, rest) == ("event: link_closed", ["", ""])
        assert json.loads(data.removeprefix("data: "))["reason"] == "it\n\ndata: said so\u2028"


async def test_a_slow_subscriber_is_told_how_much_it_missed(tmp_path: Path) -> None:
    long = replace(ENDED, reason="x" * 2000)  # the kernel's buffers are soon full
    async with served(tmp_path / "s") as server:
        reader, writer = await subscribed(server)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = MAX_WAITING * 10
        for number in range(sent):
            server.control.feed(replace(long, sent=number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        told: list[Any] = []
        while not told or told[-1]["event"] != "dropped":
            told.append(await next_event(reader))
        kept, dropped = told[:-1], told[-1]["count"]
        assert [event["sent"] for event in kept] == list(range(len(kept)))
        assert dropped == sent - len(kept)
        assert len(kept) >= MAX_WAITING
        server.control.feed(OPENED)
        assert (await next_event(reader))["event"] == "link_opened"
        writer.close()


async def test_a_subscriber_who_hears_nothing_stays(tmp_path: Path, clock: Clock) -> None:
    async with served(tmp_path / "s") as server:
        reader, writer = await subscribed(server)
        await clock.forward(IDLE_TIMEOUT * 3)
        server.control.feed(OPENED)
        assert (await next_event(reader))["event"] == "link_opened"
        writer.close()


async def test_the_stream_ends_with_the_server(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        reader, writer = await subscribed(server)
        await server.close()
        assert await reader.read() == b"0\r\n\r\n"
        writer.close()


async def test_an_end_in_the_same_moment_as_a_beginning(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as server:
        pairs = [await asyncio.open_unix_connection(str(server.path)) for _ in range(3)]
        await until(lambda: len(server.tasks))  # started, and not begun
        await server.close()
        for reader, writer in pairs:
            assert await rest_of(reader) == b""
            writer.close()


async def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with served(tmp_path / "s") as server:
        idle = await asyncio.open_unix_connection(str(server.path))
        _, deaf = await subscribed(server)
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(MAX_WAITING * 5):
            server.control.feed(replace(ENDED, reason="x" * 2000))
        await asyncio.sleep(0)
        await server.close()
        assert len(server.tasks) == 0
        idle[1].close()
        deaf.close()
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 1)
