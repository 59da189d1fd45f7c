"""Exits that come, go, say strange things, or are not there: the pool never gives one up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from bethrou.events import DialFailed, Event, ExitChanged, LinkClosed
from bethrou.net import identify, probing
from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from bethrou.proxy import pool as pool_module
from bethrou.proxy.candidates import Scope
from bethrou.proxy.exit import Exit, ExitAddress
from bethrou.proxy.pool import Pool
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.state_message import PROTOCOL as STATE
from live.obstacles import deaf_listener
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
        pool = Pool(loop, self.client, self.events.append, random.Random(1))
        pool.know(addresses)
        return pool

    @property
    def known(self) -> Exit:
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


async def test_a_request_cuts_a_long_wait_short_but_never_a_short_one() -> None:
    async with scene() as it:
        it.pool = it.pool_of(ExitAddress(it.exit.peer_id, (NOWHERE,)))
        now = asyncio.get_running_loop().time()
        it.known.failed_at = now - 30.0
        it.pool._roster.put(it.known, now + 30.0)
        assert not await it.pool.wait_for_exit(0.01)
        assert it.pool._roster.next_due(now) <= now + 0.2

        it.known.failed_at = now
        it.pool._roster.put(it.known, now + 30.0)
        it.pool._hurried_at -= pool_module.HURRY_INTERVAL
        assert not await it.pool.wait_for_exit(0.01)
        assert it.pool._roster.next_due(now) == pytest.approx(now + pool_module.LONGEST_REDIAL)


async def test_a_thousand_exits_that_are_away_are_dialled_a_hundred_times_a_second_at_most() -> None:
    async with scene() as it:
        many = [ExitAddress(identity(f"exit {n}").peer_id, (NOWHERE,)) for n in range(1000)]
        it.pool = it.pool_of(*many)
        assert 8.0 <= it.pool._redial_delay(0, 0.0) <= 12.0
        assert it.pool_of(*many[:10])._redial_delay(0, 0.0) <= pool_module.FIRST_REDIAL * 1.2
        assert it.pool_of(*many[:10])._redial_delay(99, 0.0) <= pool_module.LONGEST_REDIAL * 1.2


async def test_of_many_exits_only_so_many_are_connected() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        exits = [Member(f"exit {number}") for number in range(6)]
        for exit_ in exits:
            stack.push_async_callback(exit_.close)
        it.pool = it.pool_of(*(ExitAddress(exit_.peer_id, (exit_.address,)) for exit_ in exits))
        it.pool.resize(3)
        it.pool.start()
        await until(lambda: len(it.pool.linked) >= 3 and not it.pool._dials)
        await until(lambda: len(it.pool.linked) == 3)
        assert len(it.pool.exits) == 6


async def test_a_new_size_counts_at_once() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        exits = [Member(f"exit {number}") for number in range(4)]
        for exit_ in exits:
            stack.push_async_callback(exit_.close)
        it.pool = it.pool_of(*(ExitAddress(exit_.peer_id, (exit_.address,)) for exit_ in exits))
        it.pool.resize(1)
        it.pool.start()
        await until(lambda: len(it.pool.linked) == 1 and not it.pool._dials)
        it.pool.resize(4)
        await until(lambda: len(it.pool.linked) == 4)
        it.pool.resize(2)
        await until(lambda: len(it.pool.linked) == 2)
        assert len(it.pool.candidates()) == 2


async def test_an_exit_that_the_configuration_comes_to_name_is_dialled_next() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        exits = [Member(f"exit {number}") for number in range(4)]
        for exit_ in exits:
            stack.push_async_callback(exit_.close)
        it.pool = it.pool_of(*(ExitAddress(exit_.peer_id, (exit_.address,)) for exit_ in exits))
        it.pool.resize(1)
        it.pool.start()
        await until(lambda: len(it.pool.linked) == 1 and not it.pool._dials)
        # those that are too many have their links until these are closed
        idle = await until(lambda: next((each for each in it.pool.exits.values() if each.link is None), None))
        it.pool.know([replace(idle.address, preference=0)])
        await until(lambda: list(it.pool.linked.values()) == [idle])


async def test_the_exits_that_the_configuration_names_come_first_and_come_back() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        others = [Member(f"exit {number}") for number in range(3)]
        for exit_ in others:
            stack.push_async_callback(exit_.close)
        named = ExitAddress(it.exit.peer_id, (it.exit.address,), preference=0)
        it.pool = it.pool_of(named, *(ExitAddress(exit_.peer_id, (exit_.address,)) for exit_ in others))
        it.pool.resize(1)
        it.pool._roster.remove(it.known)
        it.pool.start()
        await until(lambda: len(it.pool.linked) == 1 and not it.pool._dials)
        assert not it.known.usable
        it.pool._roster.put(it.known, asyncio.get_running_loop().time())
        it.pool._fill()
        await until(lambda: list(it.pool.linked) == [str(it.exit.peer_id)])


async def test_the_first_of_the_exits_that_the_configuration_names_comes_back_to_a_full_pool() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        others = [Member(f"exit {number}") for number in range(2)]
        for exit_ in others:
            stack.push_async_callback(exit_.close)
        in_order = [it.exit, *others]
        it.pool = it.pool_of(
            *(
                ExitAddress(exit_.peer_id, (exit_.address,), preference=place)
                for place, exit_ in enumerate(in_order)
            )
        )
        it.pool.size = 2
        it.pool._roster.remove(it.known)
        it.pool.start()
        await until(lambda: len(it.pool.linked) == 2 and not it.pool._dials)
        assert not it.known.usable
        it.pool._roster.put(it.known, asyncio.get_running_loop().time())
        it.pool._fill()
        await until(lambda: it.known.usable and len(it.pool.linked) == 2)
        assert set(it.pool.linked) == {str(exit_.peer_id) for exit_ in in_order[:2]}


async def test_an_exit_that_a_request_asks_for_is_connected_although_the_pool_is_full() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        other = Member("another")
        stack.push_async_callback(other.close)
        first = ExitAddress(it.exit.peer_id, (it.exit.address,), preference=0)
        it.pool = it.pool_of(first, ExitAddress(other.peer_id, (other.address,), name="berlin"))
        it.pool.resize(1)
        it.pool.start()
        await until(lambda: it.known.usable and not it.pool._dials)
        assert await it.pool.wait_for_exit(2.0, Scope(exits=("berlin",)))
        assert len(it.pool.linked) == 2
        assert not await it.pool.wait_for_exit(0.01, Scope(exits=("paris",)))


async def test_requests_for_different_exits_that_come_together_are_all_dialled_for() -> None:
    async with scene() as it, AsyncExitStack() as stack:
        others = {name: Member(name) for name in ("berlin", "tokyo")}
        for member in others.values():
            stack.push_async_callback(member.close)
        first = ExitAddress(it.exit.peer_id, (it.exit.address,), preference=0)
        named = [ExitAddress(each.peer_id, (each.address,), name=name) for name, each in others.items()]
        it.pool = it.pool_of(first, *named)
        it.pool.resize(1)
        it.pool.start()
        await until(lambda: it.known.usable and not it.pool._dials)
        it.pool._hurried_at = asyncio.get_running_loop().time()  # somebody has just asked for something
        waiting = [it.pool.wait_for_exit(5.0, Scope(exits=(name,))) for name in others]
        assert await asyncio.gather(*waiting) == [True, True]


async def test_an_exit_that_nobody_knows_any_more_is_used_as_long_as_its_link_lasts() -> None:
    async with scene() as it:
        it.pool.start()
        await until(lambda: it.known.usable)
        it.pool.forget(it.exit.peer_id)
        assert it.known.usable
        it.exit.happenings.up[0].close()
        await until(lambda: not it.pool.exits)


async def test_an_exit_that_nobody_knows_any_more_is_dialled_no_more() -> None:
    async with scene() as it:
        it.pool = it.pool_of(ExitAddress(it.exit.peer_id, (NOWHERE,)))
        it.pool.start()
        await until(lambda: it.pool._dials)
        it.pool.forget(it.exit.peer_id)  # while it is being dialled
        await until(lambda: not it.pool.exits)
        assert not it.pool._dials
        assert not it.pool._roster


async def test_an_exit_without_an_address_is_a_failed_dial() -> None:
    async with scene() as it:
        it.pool = it.pool_of(ExitAddress(it.exit.peer_id, ()))
        it.pool.start()
        await until(lambda: any(isinstance(event, DialFailed) for event in it.events))


async def test_an_exit_that_the_user_wants_no_more_finishes_what_is_on_it() -> None:
    async with scene() as it:
        it.pool.start()
        await until(lambda: it.known.usable)
        known = it.known
        it.pool.asked(known)
        it.pool.dismiss(it.exit.peer_id)
        assert not it.pool.candidates()
        assert known.link is not None
        it.pool.released(known)
        await until(lambda: not it.pool.exits)


async def test_each_change_of_state_is_told_once() -> None:
    async with scene() as it:
        it.pool.start()
        await until(lambda: it.known.usable)
        for _ in range(3):
            it.pool.failed(it.known, it.pool.asked(it.known), "it broke")
        changes = [(event.old, event.new) for event in it.events if isinstance(event, ExitChanged)]
        assert changes == [("connecting", "healthy"), ("healthy", "suspect")]


async def test_when_the_network_changes_links_have_to_give_a_sign_of_life_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "PROBE_PATIENCE", 0.2)
    async with scene() as it:
        it.pool.start()
        await until(lambda: it.known.usable)
        it.pool.network_changed()
        link = it.known.link
        assert link is not None
        await until(lambda: not link._ping_pending)
        it.exit.happenings.up[0]._transport.pause_reading()
        it.pool.network_changed()
        reason = await asyncio.wait_for(asyncio.shield(link.closed), 2.0)
        assert "silent" in str(reason)
        it.exit.happenings.up[0]._transport.resume_reading()


async def test_addresses_that_swallow_everything_do_not_hold_up_the_first_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "SLOW_DIAL", 1000.0)
    with deaf_listener() as deaf:
        async with scene() as it:
            swallowing = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{deaf.port}")
            many = [
                ExitAddress(identity(f"exit {n}").peer_id, (swallowing,), proven=True)
                for n in range(2 * pool_module.MAX_DIALS)
            ]
            it.pool = it.pool_of(*many, ExitAddress(it.exit.peer_id, (it.exit.address,)))
            it.pool.start()
            await until(lambda: it.known.usable)
