"""The resolver in front of a source that the test drives by hand."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from bethrou.errors import Failure, RequestError
from bethrou.proxy.name_source import Answer, no_such_host
from bethrou.proxy.resolver import (
    FAILURE_TTL,
    MAX_REMEMBERED,
    MAX_TTL,
    NO_SUCH_HOST_TTL,
    CachingResolver,
)

ONE = ip_address("192.0.2.1")


class Source:
    """Counts look-ups; each waits for `release` where `hold` is set."""

    def __init__(self) -> None:
        self.answer: Answer | Exception = Answer((ONE,), 60.0)
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.closed = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def look_up(self, name: str) -> Answer:
        self.asked.append(name)
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        self.closed += 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def resolver(source: Source, clock: Clock) -> AsyncIterator[CachingResolver]:
    resolver = CachingResolver(source, clock, max_lookups=3)
    yield resolver
    await resolver.close()
    assert source.closed == 1


async def failure(resolver: CachingResolver, host: str) -> Failure:
    with pytest.raises(RequestError) as caught:
        await resolver.resolve(host)
    return caught.value.failure


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("192.0.2.7", ["192.0.2.7"]),
        ("2001:DB8::7", ["2001:db8::7"]),
        ("localhost", ["::1", "127.0.0.1"]),
        ("LOCALHOST.", ["::1", "127.0.0.1"]),
        ("x.localhost", ["::1", "127.0.0.1"]),
    ],
)
async def test_what_needs_no_look_up(
    resolver: CachingResolver, source: Source, host: str, addresses: list[str]
) -> None:
    assert [str(address) for address in await resolver.resolve(host)] == addresses
    assert source.asked == []


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3.4.", "a.b.0x10", "a..b"]
)
async def test_odd_spellings_do_not_exist_and_are_never_asked_for(
    resolver: CachingResolver, source: Source, host: str
) -> None:
    assert await failure(resolver, host) is Failure.NO_SUCH_HOST
    assert source.asked == []


@pytest.mark.parametrize("host", ["", "a b", "münchen.de", "a\0b", "[::1]", "fe80::1%eth0"])
async def test_what_is_no_host(resolver: CachingResolver, source: Source, host: str) -> None:
    assert await failure(resolver, host) is Failure.BAD_REQUEST
    assert source.asked == []


async def test_an_answer_is_kept_as_long_as_it_says(
    resolver: CachingResolver, source: Source, clock: Clock
) -> None:
    assert await resolver.resolve("Example.COM.") == [ONE]
    clock.now += 59.9
    assert await resolver.resolve("example.com") == [ONE]
    assert source.asked == ["example.com"]
    clock.now += 0.1
    await resolver.resolve("example.com")
    assert len(source.asked) == 2


@pytest.mark.parametrize(
    ("answer", "ttl"),
    [
        (Answer((ONE,), 1e9), MAX_TTL),
        (no_such_host("a"), NO_SUCH_HOST_TTL),
        (RequestError(Failure.INTERNAL, "server failure"), FAILURE_TTL),
        (RequestError(Failure.TIMEOUT, "no answer"), FAILURE_TTL),
    ],
)
async def test_how_long_answers_and_failures_are_kept(
    resolver: CachingResolver, source: Source, clock: Clock, answer: Answer | Exception, ttl: float
) -> None:
    source.answer = answer

    async def outcome() -> object:
        try:
            return await resolver.resolve("a")
        except RequestError as error:
            return error.failure, str(error)

    first = await outcome()
    clock.now += ttl - 0.01
    assert await outcome() == first
    assert len(source.asked) == 1
    clock.now += 0.02
    assert await outcome() == first
    assert len(source.asked) == 2


async def test_an_answer_that_may_not_be_kept_is_not(resolver: CachingResolver, source: Source) -> None:
    source.answer = Answer((ONE,), 0.0)
    await resolver.resolve("a")
    await resolver.resolve("a")
    assert len(source.asked) == 2


async def test_the_name_longest_unused_is_forgotten_first(resolver: CachingResolver, source: Source) -> None:
    for number in range(MAX_REMEMBERED):
        await resolver.resolve(f"n{number}.test")
    await resolver.resolve("n0.test")
    await resolver.resolve("one-more.test")
    del source.asked[:]
    await resolver.resolve("n0.test")
    assert source.asked == []
    await resolver.resolve("n1.test")
    assert source.asked == ["n1.test"]


async def test_look_ups_of_one_name_are_shared(resolver: CachingResolver, source: Source) -> None:
    source.gate.clear()
    waiting = [asyncio.ensure_future(resolver.resolve(name)) for name in ("a.test", "A.test", "a.test.")]
    await source.begun.wait()
    source.gate.set()
    assert await asyncio.gather(*waiting) == [[ONE]] * 3
    assert source.asked == ["a.test"]


async def test_each_waiter_gets_an_error_of_its_own(resolver: CachingResolver, source: Source) -> None:
    source.gate.clear()
    source.answer = no_such_host("a.test")
    waiting = [asyncio.ensure_future(resolver.resolve("a.test")) for _ in range(2)]
    await source.begun.wait()
    source.gate.set()
    first, second = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, RequestError)
    assert first is not second
    assert str(first) == str(second) == "lookup a.test: no such host"


async def test_a_cancelled_waiter_takes_nothing_from_the_others(
    resolver: CachingResolver, source: Source
) -> None:
    source.gate.clear()
    first, second = (asyncio.ensure_future(resolver.resolve("a.test")) for _ in range(2))
    await source.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.gate.set()
    assert await second == [ONE]
    assert source.cancelled == []


async def test_a_look_up_that_nobody_waits_for_any_more_is_remembered(
    resolver: CachingResolver, source: Source
) -> None:
    source.gate.clear()
    only = asyncio.ensure_future(resolver.resolve("a.test"))
    await source.begun.wait()
    only.cancel()
    source.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert await resolver.resolve("a.test") == [ONE]
    assert source.asked == ["a.test"]


async def test_one_look_up_too_many_fails_at_once(resolver: CachingResolver, source: Source) -> None:
    source.gate.clear()
    waiting = [asyncio.ensure_future(resolver.resolve(f"{name}.test")) for name in "abc"]
    while len(source.asked) < 3:
        await asyncio.sleep(0)
    assert await failure(resolver, "d.test") is Failure.OVERLOADED
    joined = asyncio.ensure_future(resolver.resolve("a.test"))
    source.gate.set()
    await asyncio.gather(*waiting, joined)
    assert await resolver.resolve("d.test") == [ONE]


async def test_a_look_up_ends_at_its_limit(source: Source, clock: Clock) -> None:
    resolver = CachingResolver(source, clock, timeout=0.01)
    source.gate.clear()
    assert await failure(resolver, "a.test") is Failure.TIMEOUT
    assert source.cancelled == ["a.test"]
    await resolver.close()


async def test_closing_ends_look_ups_and_refuses_new_ones(source: Source, clock: Clock) -> None:
    resolver = CachingResolver(source, clock)
    await resolver.resolve("known.test")
    source.gate.clear()
    waiting = [asyncio.ensure_future(failure(resolver, "a.test")) for _ in range(2)]
    source.begun.clear()
    await source.begun.wait()
    await resolver.close()
    await resolver.close()
    assert await asyncio.gather(*waiting) == [Failure.DRAINING] * 2
    assert source.cancelled == ["a.test"]
    assert await failure(resolver, "b.test") is Failure.DRAINING
    assert await failure(resolver, "known.test") is Failure.DRAINING
    assert source.closed == 1


async def test_a_bug_in_a_source_reaches_every_waiter(resolver: CachingResolver, source: Source) -> None:
    source.gate.clear()
    source.answer = ZeroDivisionError()
    waiting = [asyncio.ensure_future(resolver.resolve("a.test")) for _ in range(2)]
    await source.begun.wait()
    source.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
