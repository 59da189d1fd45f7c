import asyncio
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from bethrou.config.values import ResolverChoice
from bethrou.errors import Failure, RequestError
from bethrou.proxy.resolver import open_resolver
from bethrou.proxy.system_source import SystemSource

ENTRY = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
ENTRY_6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%2", 0, 0, 2))


class GetAddrInfo:
    """A getaddrinfo whose names beginning with "slow" wait until they are let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.called: list[str] = []
        self.result: list[tuple[Any, ...]] | Exception = [ENTRY_6, ENTRY, ENTRY]

    def __call__(self, name: str) -> list[tuple[Any, ...]]:
        self.called.append(name)
        self.begun.set()
        if name.startswith("slow"):
            self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def threads() -> int:
    return sum(thread.name == "bethrou-getaddrinfo" for thread in threading.enumerate())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in threads; pytest's time limit ends it."""
    while not condition():
        await asyncio.sleep(0.005)


async def ended() -> None:
    await until(lambda: threads() == 0)


async def hanging_look_up(source: SystemSource, getaddrinfo: GetAddrInfo) -> None:
    """Leave a look-up hanging in a thread, with nobody waiting for it."""
    waiting = asyncio.ensure_future(source.look_up("slow.test"))
    await until(getaddrinfo.begun.is_set)
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_addresses_come_in_the_systems_order_each_once() -> None:
    source = SystemSource(GetAddrInfo())
    answer = await source.look_up("a.test")
    assert answer.addresses == (ip_address("fe80::1"), ip_address("192.0.2.1"))
    await source.close()
    await ended()


@pytest.mark.parametrize(
    ("result", "failure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Failure.NO_SUCH_HOST),
        (socket.gaierror(socket.EAI_NODATA, "No address"), Failure.NO_SUCH_HOST),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), Failure.INTERNAL),
        (OSError(24, "Too many open files"), Failure.INTERNAL),
        (UnicodeError("label too long"), Failure.INTERNAL),
        ([], Failure.NO_SUCH_HOST),
    ],
)
async def test_failures(result: Any, failure: Failure) -> None:
    getaddrinfo = GetAddrInfo()
    getaddrinfo.result = result
    source = SystemSource(getaddrinfo)
    with pytest.raises(RequestError) as caught:
        await source.look_up("a.test")
    assert caught.value.failure is failure
    await source.close()
    await ended()


async def test_slow_names_hold_up_no_other_while_there_are_threads() -> None:
    getaddrinfo = GetAddrInfo()
    source = SystemSource(getaddrinfo, threads=4)
    slow = [asyncio.ensure_future(source.look_up(f"slow{number}.test")) for number in range(3)]
    assert (await source.look_up("fast.test")).addresses
    assert threads() == 4
    getaddrinfo.gate.set()
    await asyncio.gather(*slow)
    await source.close()
    await ended()


async def test_a_cancelled_look_up_that_has_not_begun_is_skipped() -> None:
    getaddrinfo = GetAddrInfo()
    source = SystemSource(getaddrinfo, threads=1)
    await hanging_look_up(source, getaddrinfo)
    second = asyncio.ensure_future(source.look_up("never.test"))
    third = asyncio.ensure_future(source.look_up("last.test"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    getaddrinfo.gate.set()
    await third
    assert getaddrinfo.called == ["slow.test", "last.test"]
    await source.close()
    await ended()


async def test_closing_does_not_wait_for_a_thread_that_hangs() -> None:
    getaddrinfo = GetAddrInfo()
    source = SystemSource(getaddrinfo)
    await hanging_look_up(source, getaddrinfo)
    await source.close()
    assert threads() == 1
    getaddrinfo.gate.set()
    await ended()


def test_a_loop_that_is_gone_is_no_problem() -> None:
    getaddrinfo = GetAddrInfo()

    async def leave() -> None:
        source = SystemSource(getaddrinfo)
        await hanging_look_up(source, getaddrinfo)
        await source.close()

    asyncio.run(leave())
    getaddrinfo.gate.set()
    while threads():
        threading.Event().wait(0.005)


async def test_the_systems_own_getaddrinfo() -> None:
    resolver = open_resolver(ResolverChoice(system=True), lambda: 0.0)
    with pytest.raises(RequestError) as caught:
        await resolver.resolve("name.invalid")
    assert caught.value.failure in (Failure.NO_SUCH_HOST, Failure.INTERNAL, Failure.TIMEOUT)
    await resolver.close()
