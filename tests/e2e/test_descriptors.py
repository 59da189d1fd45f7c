"""File descriptors run out: it is said once, what is connected goes on, and what waits is served later."""

from __future__ import annotations

import asyncio

from live.applications import Application, application, open_application, refusal
from live.processes import Program, Programs
from live.targets import echo, target
from live.waiting import until

SHORT = "out of file descriptors"
AGAIN = "file descriptors are there again"


async def works(app: Application) -> None:
    await app.send([b"hello"])
    assert await app.reader.readexactly(5) == b"hello"


def allow_more(program: Program, count: int) -> None:
    """Let it open `count` descriptors beyond those it has."""
    program.allow_descriptors(program.descriptors + count)


async def test_a_client_without_descriptors(started: Programs) -> None:
    client = started.client([started.node()])
    await client.connected()
    async with target(echo) as far, application(client.proxy, "127.0.0.1", far.port) as app:
        await works(app)
        allow_more(client, 5)
        waiting = [
            asyncio.create_task(open_application(client.proxy, "127.0.0.1", far.port)) for _ in range(15)
        ]
        line = await client.logged(SHORT)
        assert line["level"] == "error"
        await works(app)

        for task in asyncio.as_completed(waiting):  # each that ends makes room for another
            opened = await task
            await works(opened)
            opened.abort()
        await works(app)
        await client.logged(AGAIN)
        assert len(client.lines_of(SHORT)) == 1
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0


async def test_a_node_without_descriptors(started: Programs) -> None:
    node = started.node()
    client = started.client([node])
    await client.connected()
    async with target(echo) as far, application(client.proxy, "127.0.0.1", far.port) as app:
        await works(app)
        allow_more(node, 0)
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0x01
        late = started.client([node])
        line = await node.logged(SHORT)
        assert line["level"] == "error"
        await works(app)

        allow_more(node, 20)
        await late.connected()
        await node.logged(AGAIN)
        assert await refusal(late.proxy, "127.0.0.1", far.port) == 0
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0
        await works(app)
        assert len(node.lines_of(SHORT)) == 1
        await until(lambda: len(client.lines_of("request", result="overloaded")) == 1)
