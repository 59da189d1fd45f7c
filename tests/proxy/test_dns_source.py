"""c-ares against a DNS server of the test's own, on both event loops."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiodns.error
import pytest
import uvloop

from bethrou.config.values import DnsServer, ResolverChoice
from bethrou.errors import Failure, RequestError
from bethrou.proxy.dns_source import HOSTS_TTL, PARTIAL_TTL, DnsSource, Records, combine
from bethrou.proxy.resolver import CachingResolver, open_resolver

from .dns_server import AAAA, REFUSED, SERVFAIL, A, DnsServerForTests

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

V4, V6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")


both_loops = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
ZONE = {
    "both.test": [str(V4), str(V6)],
    "four.test": [str(V4)],
    "six.test": [str(V6)],
    "none.test": [],
    "many.test": [f"192.0.2.{last}" for last in range(40)],
}


async def start_server() -> DnsServerForTests:
    server = await DnsServerForTests.start()
    server.zone = dict(ZONE)
    return server


@pytest.fixture
async def server() -> AsyncIterator[DnsServerForTests]:
    server = await start_server()
    yield server
    server.transport.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.99 listed.test both.test\n")
    return path


@pytest.fixture
async def source(server: DnsServerForTests, tmp_path: Path) -> AsyncIterator[DnsSource]:
    source = DnsSource([server.address], time.monotonic, tmp_path / "absent")
    yield source
    await source.close()


async def failure(source: DnsSource, name: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await source.look_up(name)
    return caught.value


async def test_addresses_of_both_families_come_ipv6_first(
    source: DnsSource, server: DnsServerForTests
) -> None:
    answer = await source.look_up("both.test")
    assert answer.addresses == (V6, V4)
    assert 0 < answer.ttl <= server.ttl
    assert sorted(server.questions) == [("both.test", A), ("both.test", AAAA)]


async def test_one_family_is_enough(source: DnsSource) -> None:
    assert (await source.look_up("four.test")).addresses == (V4,)
    assert (await source.look_up("six.test")).addresses == (V6,)


async def test_endless_answers_are_cut(source: DnsSource) -> None:
    assert len((await source.look_up("many.test")).addresses) == 16


async def test_names_that_do_not_exist_or_have_no_address(source: DnsSource) -> None:
    for name in ("absent.test", "none.test"):
        error = await failure(source, name)
        assert error.failure is Failure.NO_SUCH_HOST
        assert str(error) == f"lookup {name}: no such host"


async def test_a_server_that_refuses_or_fails(source: DnsSource, server: DnsServerForTests) -> None:
    server.broken = {"both.test": SERVFAIL, "four.test": REFUSED}
    assert (await failure(source, "both.test")).failure is Failure.INTERNAL
    assert (await failure(source, "four.test")).failure is Failure.INTERNAL


async def test_no_server_at_all(server: DnsServerForTests, tmp_path: Path) -> None:
    address = server.address
    server.transport.close()
    source = DnsSource([address], time.monotonic, tmp_path / "absent")
    assert (await failure(source, "both.test")).failure is Failure.INTERNAL
    await source.close()


async def test_a_family_that_is_never_answered_costs_a_moment(
    source: DnsSource, server: DnsServerForTests
) -> None:
    server.silent = {("both.test", AAAA)}
    answer = await source.look_up("both.test")
    assert answer.addresses == (V4,)
    assert answer.ttl <= PARTIAL_TTL


async def test_no_such_name_need_not_wait_for_the_other_family(
    source: DnsSource, server: DnsServerForTests
) -> None:
    server.silent = {("absent.test", A)}
    assert (await failure(source, "absent.test")).failure is Failure.NO_SUCH_HOST


async def test_the_hosts_file_comes_first(server: DnsServerForTests, hosts: Path) -> None:
    now = 0.0
    source = DnsSource([server.address], lambda: now, hosts)
    answer = await source.look_up("both.test")
    assert (answer.addresses, answer.ttl) == ((ip_address("192.0.2.99"),), HOSTS_TTL)
    assert server.questions == []
    hosts.unlink()
    now += 60
    assert (await source.look_up("both.test")).addresses == (V6, V4)
    await source.close()


@both_loops
def test_names_that_are_never_answered_delay_no_other(loop_factory: LoopFactory) -> None:
    async def test() -> None:
        server = await start_server()
        dead = [f"dead{number}.test" for number in range(200)]
        server.never_answer(*dead)
        resolver = open_resolver(ResolverChoice((server.address,)), time.monotonic)
        waiting = [asyncio.ensure_future(resolver.resolve(name)) for name in dead]
        await server.asked.wait()
        assert await asyncio.wait_for(resolver.resolve("both.test"), 5) == [V6, V4]
        assert not any(task.done() for task in waiting)
        await resolver.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [result.failure for result in results if isinstance(result, RequestError)] == (
            [Failure.DRAINING] * 200
        )
        server.transport.close()

    run(test(), loop_factory)


async def test_a_name_that_is_never_answered_times_out(server: DnsServerForTests, tmp_path: Path) -> None:
    server.never_answer("dead.test")
    source = DnsSource([server.address], time.monotonic, tmp_path / "absent")
    resolver = CachingResolver(source, time.monotonic, timeout=0.05)
    with pytest.raises(RequestError) as caught:
        await resolver.resolve("dead.test")
    assert caught.value.failure is Failure.TIMEOUT
    assert await resolver.resolve("four.test") == [V4]
    await resolver.close()


def run(test: Coroutine[Any, Any, None], loop_factory: LoopFactory) -> None:
    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        runner.run(test)


def sockets() -> list[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return sorted(link for link in links if link.startswith("socket:"))


def threads() -> int:
    """Count the threads of this process, without those that uvloop keeps for files and getaddrinfo."""
    names = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append((thread / "comm").read_text().strip())
    return sum(name != "libuv-worker" for name in names)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what c-ares does in threads of its own; pytest's time limit ends it."""
    while not condition():
        await asyncio.sleep(0.005)


@both_loops
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at /proc")
def test_a_closed_resolver_leaves_nothing_behind(loop_factory: LoopFactory) -> None:
    async def use_one(server: DnsServerForTests) -> None:
        resolver = open_resolver(ResolverChoice((server.address,)), time.monotonic)
        waiting = asyncio.ensure_future(resolver.resolve("dead.test"))
        assert await resolver.resolve("both.test") == [V6, V4]
        waiting.cancel()
        await asyncio.wait([waiting])
        await resolver.close()

    async def test() -> None:
        server = await start_server()
        server.never_answer("dead.test")
        await use_one(server)  # starts the one thread that pycares keeps for ever
        await until(lambda: threads() <= before_threads + 1)
        tasks, before = asyncio.all_tasks(), sockets()
        for _ in range(10):
            await use_one(server)
        assert asyncio.all_tasks() == tasks
        await until(lambda: sockets() == before and threads() <= before_threads + 1)
        server.transport.close()

    before_threads = threads()
    run(test(), loop_factory)


def records(error: int = 0, *addresses: str, ttl: float = 60.0) -> Records:
    return Records(tuple(ip_address(text) for text in addresses), ttl, error)


OK = aiodns.error.ARES_SUCCESS
NOT_FOUND, NO_DATA = aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA
TIMED_OUT, SERVER_FAILED = aiodns.error.ARES_ETIMEOUT, aiodns.error.ARES_ESERVFAIL


@pytest.mark.parametrize(
    ("errors", "failure"),
    [
        ((NOT_FOUND, NOT_FOUND), Failure.NO_SUCH_HOST),
        ((NO_DATA, NO_DATA), Failure.NO_SUCH_HOST),
        ((NO_DATA, NOT_FOUND), Failure.NO_SUCH_HOST),
        ((TIMED_OUT, NOT_FOUND), Failure.NO_SUCH_HOST),
        ((NOT_FOUND,), Failure.NO_SUCH_HOST),
        ((NO_DATA, TIMED_OUT), Failure.TIMEOUT),
        ((SERVER_FAILED, TIMED_OUT), Failure.TIMEOUT),
        ((NO_DATA, SERVER_FAILED), Failure.INTERNAL),
    ],
)
def test_two_failures_make_one(errors: tuple[int, ...], failure: Failure) -> None:
    for order in (errors, errors[::-1]):
        with pytest.raises(RequestError) as caught:
            combine("a.test", [records(error) for error in order])
        assert caught.value.failure is failure


def test_addresses_outweigh_the_other_familys_failure() -> None:
    for error in (NOT_FOUND, NO_DATA, TIMED_OUT, SERVER_FAILED):
        assert combine("a.test", [records(error), records(OK, "192.0.2.1")]).addresses == (V4,)
    assert combine("a.test", [records(OK, "::1", ttl=5), records(OK, "192.0.2.1", ttl=7)]).ttl == 5


def test_a_server_is_written_as_c_ares_wants_it() -> None:
    assert str(DnsServer(V6, 53)) == "[2001:db8::1]:53"
