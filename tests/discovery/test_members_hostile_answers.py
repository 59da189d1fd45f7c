"""Whoever answers with lies, too much, nothing or half of it is not listened to, and costs no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bethrou.discovery.members_service import MAX_ANSWER, MAX_SECONDS, PATIENCE
from bethrou.discovery.members_source import FIRST_RETRY, MAX_FALSE
from bethrou.net.stream import YamuxStream
from bethrou.wire import varint
from bethrou.wire.members_message import MAX_RECORDS, encode_record
from bethrou.wire.node_record import MAX_RECORD
from live.waiting import until
from net.clock import Clock
from net.hosts import identity

from .hostile import FORGED, VOID, HostileAnswerer, Script, padded
from .network import Client, link_between, network, sealed


@asynccontextmanager
async def asking(script: Script) -> AsyncIterator[tuple[Client, HostileAnswerer]]:
    """A client that asks a hostile member, while it learns from another one what there is."""
    async with network(["honest"], ["client"]) as (_, [honest], [client]):
        hostile = HostileAnswerer("hostile", script)
        await client.join(hostile, honest)
        try:
            yield client, hostile
            await until(lambda: honest.peer_id in client.notebook.latest)
            assert link_between(client, hostile).alive
        finally:
            await hostile.close()


def telling(*messages: bytes) -> Script:
    """Say this, and then FIN."""

    async def script(stream: YamuxStream) -> None:
        for message in messages:
            stream.write(message)
        stream.close()

    return script


async def problem(client: Client) -> str:
    """What the client says is wrong."""
    await until(lambda: not client.source.snapshot().detail.startswith("asks"))
    return client.source.snapshot().detail


@pytest.mark.parametrize("envelope", [*FORGED.values(), *VOID.values()], ids=[*FORGED, *VOID])
async def test_a_record_that_is_no_good_is_passed_over_and_the_next_is_taken(envelope: bytes) -> None:
    async with asking(telling(encode_record(envelope), encode_record(sealed("good")))) as (client, _):
        await until(lambda: identity("good").peer_id in client.notebook.latest)
        assert identity("x").peer_id not in client.notebook.latest
        snapshot = client.source.snapshot()
        assert snapshot.ok
        assert snapshot.skipped == (envelope is not VOID["expired"])


async def test_an_older_record_does_not_replace_a_newer_one() -> None:
    told = [sealed("x", seq=2, tags=("new",)), sealed("x", seq=1), sealed("x", seq=2, tags=("other",))]
    async with asking(telling(*map(encode_record, told), encode_record(sealed("last")))) as (client, _):
        await until(lambda: identity("last").peer_id in client.notebook.latest)
        assert client.notebook.latest[identity("x").peer_id].tags == ("new",)


async def test_what_others_say_of_ourselves_is_no_news() -> None:
    async with asking(telling(encode_record(sealed("client")), encode_record(sealed("x")))) as (client, _):
        await until(lambda: identity("x").peer_id in client.notebook.latest)
        assert client.peer_id not in client.notebook.latest


async def test_records_without_end_are_not_listened_to() -> None:
    async def script(stream: YamuxStream) -> None:
        while not stream.is_closing():
            stream.write(encode_record(sealed("x")) * 100)
            await asyncio.sleep(0)

    async with asking(script) as (client, hostile):
        assert "more node records came than are allowed" in await problem(client)
        await until(hostile.streams[0].is_closing)
        assert identity("x").peer_id in client.notebook.latest
        assert client.taken.heard <= MAX_RECORDS + 1


async def test_forged_records_without_end_are_not_verified() -> None:
    async def script(stream: YamuxStream) -> None:
        while not stream.is_closing():
            stream.write(encode_record(FORGED["altered"]))
            await asyncio.sleep(0)

    async with asking(script) as (client, _):
        assert "not genuine" in await problem(client)
        assert client.taken.skipped == MAX_FALSE + 1


async def test_bytes_without_end_are_not_read() -> None:
    long = padded(sealed("x"), 3000)

    async def script(stream: YamuxStream) -> None:
        while not stream.is_closing():
            stream.write(encode_record(long))
            await asyncio.sleep(0)

    assert len(long) < MAX_RECORD
    async with asking(script) as (client, _):
        assert f"longer than {MAX_ANSWER} bytes" in await problem(client)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (varint.encode(1_000_000), "1000000 bytes"),
        (varint.encode(1_000_000) + bytes(1_000_000), "1000000 bytes"),
        (varint.encode(1 << 62), "bytes"),
        (b"\xff" * 20, "varint"),
        (encode_record(sealed("x"))[:-1], "in the middle of a node record"),
        (encode_record(sealed("x")) + b"\x80", "in the middle of a node record"),
    ],
    ids=[
        "a length",
        "a million bytes",
        "a huge length",
        "no length",
        "an end in a record",
        "an end in a length",
    ],
)
async def test_what_is_no_list_of_records_is_not_listened_to(message: bytes, said: str) -> None:
    async with asking(telling(message)) as (client, _):
        assert said in await problem(client)


async def test_what_came_before_the_answer_broke_off_is_kept() -> None:
    async def script(stream: YamuxStream) -> None:
        stream.write(encode_record(sealed("x")) + encode_record(sealed("y"))[:50])
        await learnt.wait()
        stream.reset(7)

    learnt = asyncio.Event()
    async with asking(script) as (client, _):
        await until(lambda: identity("x").peer_id in client.notebook.latest)
        learnt.set()
        assert "reset the stream (code 0x7)" in await problem(client)
        assert identity("y").peer_id not in client.notebook.latest


async def test_who_does_not_answer_is_given_10_s_and_asked_again_more_rarely(clock: Clock) -> None:
    async def script(stream: YamuxStream) -> None:
        return

    async with asking(script) as (client, hostile):
        await clock.forward(PATIENCE - 1)
        assert not hostile.streams[0].is_closing()
        await clock.forward(1.5)
        assert hostile.streams[0].is_closing()
        assert "no answer in time" in await problem(client)
        await clock.forward(FIRST_RETRY * 1.2)
        assert len(hostile.streams) == 2
        await clock.forward(PATIENCE + FIRST_RETRY * 1.5)
        assert len(hostile.streams) == 2
        await clock.forward(FIRST_RETRY)
        assert len(hostile.streams) == 3


async def test_who_answers_a_byte_at_a_time_is_given_up(clock: Clock) -> None:
    async def script(stream: YamuxStream) -> None:
        message = encode_record(sealed("x"))
        for place in range(len(message)):
            stream.write(message[place : place + 1])
            await asyncio.sleep(PATIENCE * 0.9)

    async with asking(script) as (client, hostile):
        await clock.forward(MAX_SECONDS - 10)
        assert not hostile.streams[0].is_closing()
        await clock.forward(12)
        assert hostile.streams[0].is_closing()
        assert "no answer in time" in await problem(client)
