"""Exits that come, go, say strange things, or are not there: the pool never gives one up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bethrou.events import DialFailed, Event, LinkClosed
from bethrou.net import identify
from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from bethrou.proxy import pool as pool_module
from bethrou.proxy.pool import ExitAddress, Pool
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.state_message import PROTOCOL as STATE
from live.waiting import until
from net.hosts import Member, identity

NOWHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")


class Mute(asyncio.Protocol):
    """Takes everything and says nothing."""

    def eof_received(self) -> bool:
        return True


class Scene:
    """A client's pool and one exit of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.exit = Member("exit")
        self.client = Member("client")
        self.pool = self.pool_of(ExitAddress(self.exit.peer_id, (self.exit.address,)))

    def pool_of(self, *addresses: ExitAddress) -> Pool:
        loop = asyncio.get_running_loop()
        return Pool(loop, self.client, addresses, self.events.append, random.Random(1))

    @property
    def known(self) -> pool_module.Exit:
        return self.pool.exits[str(self.exit.peer_id)]

    def when_asked_who_it_is(self, act: Callable[[Link], None]) -> None:
        def handler(link: Link, stream: YamuxStream, _surplus: bytes) -> None:
            stream.set_protocol(Mute())
            act(link)

        self.exit.handle(identify.PROTOCOL_ID, handler)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.pool.close()
        await made.client.close()
        await made.exit.close()


async def test_an_exit_whose_link_ends_before_it_says_who_it_is_is_dialled_again() -> None:
    async with scene() as it:
        links = it.exit.happenings.up
        it.when_asked_who_it_is(
            lambda link: link.abort(ConnectionError()) if len(links) == 1 else link.close()
        )
        it.pool.start()
        await until(lambda: len(links) >= 3)


async def test_a_push_in_place_of_an_answer_will_do() -> None:
    async with scene() as it:
        pushing: list[asyncio.Task[None]] = []
        it.when_asked_who_it_is(
            lambda link: pushing.append(asyncio.create_task(identify.push(link, it.exit.statement(link))))
        )
        it.pool.start()
        await until(lambda: it.known.usable, timeout=identify.TIMEOUT / 2)
        assert it.known.statement is not None


async def test_a_later_push_counts() -> None:
    async with scene() as it:
        it.pool.start()
        await until(lambda: it.known.usable)
        it.exit.handle("/new/1.0.0", lambda link, stream, surplus: None)
        await until(lambda: it.known.statement is not None and "/new/1.0.0" in it.known.statement.protocols)


async def test_links_that_end_at_once_are_not_made_again_and_again_without_a_pause() -> None:
    async with scene() as it:
        links = it.exit.happenings.up
        it.when_asked_who_it_is(lambda link: link.close())
        it.pool.start()
        await asyncio.sleep(1.2)
        assert 2 <= len(links) <= 4


@pytest.mark.parametrize("name", ["exit..example.com", "a" * 70 + ".example.com"])
async def test_a_name_that_cannot_be_looked_up_is_a_failed_dial(name: str) -> None:
    async with scene() as it:
        it.pool = it.pool_of(ExitAddress(it.exit.peer_id, (Multiaddr.parse(f"/dns4/{name}/tcp/4000"),)))
        it.pool.start()
        await until(lambda: len([event for event in it.events if isinstance(event, DialFailed)]) >= 2)
        assert not any(isinstance(event, LinkClosed) for event in it.events)


async def test_a_state_that_makes_no_sense_costs_the_stream_and_nothing_else() -> None:
    async with scene() as it:

        def lie(_link: Link, stream: YamuxStream, _surplus: bytes) -> None:
            stream.set_protocol(Mute())
            stream.write(b"\x02[]")

        it.exit.handle(STATE, lie)
        it.pool.start()
        await until(lambda: it.known.usable and it.known.link is not None and it.known.link.stream_count == 0)


async def test_a_request_cuts_a_long_wait_short_but_never_a_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "LONGEST_REDIAL", 0.1)
    async with scene() as it:
        began = asyncio.get_running_loop().time()
        rests = [asyncio.create_task(it.pool._rest(30.0)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not await it.pool.wait_for_exit(0.3)
        await asyncio.gather(*rests)
        assert asyncio.get_running_loop().time() - began < 1.0

        began = asyncio.get_running_loop().time()
        waiting = [asyncio.create_task(it.pool.wait_for_exit(0.3)) for _ in range(50)]
        await asyncio.sleep(0)
        for _ in range(2):
            await it.pool._rest(30.0)
        assert asyncio.get_running_loop().time() - began >= 0.2
        await asyncio.gather(*waiting)


async def test_a_thousand_exits_that_are_away_are_dialled_a_hundred_times_a_second_at_most() -> None:
    async with scene() as it:
        many = [ExitAddress(identity(f"exit {n}").peer_id, (NOWHERE,)) for n in range(1000)]
        it.pool = it.pool_of(*many)
        assert 8.0 <= it.pool._redial_delay(0, 0.0) <= 12.0
        assert it.pool_of(*many[:10])._redial_delay(0, 0.0) <= pool_module.FIRST_REDIAL * 1.2
        assert it.pool_of(*many[:10])._redial_delay(99, 0.0) <= pool_module.LONGEST_REDIAL * 1.2
