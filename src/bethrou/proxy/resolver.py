"""Names to addresses, at the exit: what is remembered, shared and bounded in front of any source of names.

- IP addresses and localhost need no look-up. Odd numeric spellings (127.1, 0x7f000001) are refused, names
  without a dot are looked up as they are: no search domain of the exit's is ever added.
- Answers are kept as long as they say, at most MAX_TTL; failures for a short time, too, or a page full of
  links to one dead name would ask for it again and again.
- Whoever asks for a name that is being looked up waits for the same answer. The look-up belongs to the
  resolver: a request that is cancelled leaves it to the others, and to the memory.
- A look-up takes at most LOOKUP_TIMEOUT, and there are at most MAX_LOOKUPS of them; further ones fail at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, TypeAlias

from bethrou.config.values import ResolverChoice
from bethrou.errors import Failure, RequestError
from bethrou.proxy.name_source import MAX_LOOKUPS, Address, Answer, NameSource, too_many_lookups
from bethrou.proxy.system_source import SystemSource
from bethrou.wire.destination import check_host

LOOKUP_TIMEOUT = 8.0
"""Seconds for a whole look-up: look-up and dial together have 10 s, and a dial wants some of it."""

MAX_TTL = 300.0
"""Longest time in seconds for which an answer is kept."""

NO_SUCH_HOST_TTL = 10.0
"""How long it is remembered, in seconds, that a name does not exist."""

FAILURE_TTL = 2.0
"""How long any other failure is remembered, in seconds: it may pass at any moment."""

MAX_REMEMBERED = 4096
"""Most names remembered, about 2 MiB; the one longest unused goes first."""

_FAILURE_TTLS = {Failure.NO_SUCH_HOST: NO_SUCH_HOST_TTL, Failure.OVERLOADED: 0.0}

_LOCALHOST: tuple[Address, ...] = (IPv6Address("::1"), IPv4Address("127.0.0.1"))


class Resolver(Protocol):
    """What an exit needs to know about names."""

    async def resolve(self, host: str) -> list[Address]:
        """Return the addresses of a name or address, at least one, in the order in which to try them.

        Raises RequestError: NO_SUCH_HOST, TIMEOUT, BAD_REQUEST, OVERLOADED or INTERNAL.
        """


@dataclass(frozen=True, slots=True)
class _Failed:
    """A failure to be remembered: the exception made of it is new each time, tracebacks grow otherwise."""

    failure: Failure
    message: str


_Outcome: TypeAlias = Answer | _Failed
_CLOSED = _Failed(Failure.DRAINING, "the exit is being stopped")


def open_resolver(choice: ResolverChoice, clock: Callable[[], float]) -> CachingResolver:
    """Make the resolver that the configuration asks for; needs a running loop. Raises ConfigError.

    `clock` gives seconds that only grow, such as the loop's time.
    """
    if choice.system:
        return CachingResolver(SystemSource(), clock)
    from bethrou.proxy.dns_source import DnsSource  # 2 MB that a client's `direct` rules need not have

    return CachingResolver(DnsSource(choice.servers, clock), clock)


class CachingResolver:
    """A `Resolver` in front of a source of names."""

    def __init__(
        self,
        source: NameSource,
        clock: Callable[[], float],
        timeout: float = LOOKUP_TIMEOUT,
        max_lookups: int = MAX_LOOKUPS,
    ) -> None:
        self._source = source
        self._clock = clock
        self._timeout = timeout
        self._max_lookups = max_lookups
        self._remembered: OrderedDict[str, tuple[float, _Outcome]] = OrderedDict()
        self._lookups: dict[str, asyncio.Future[_Outcome]] = {}
        self._tasks: set[asyncio.Task[_Outcome]] = set()
        self._closed = False

    async def resolve(self, host: str) -> list[Address]:
        """Return the addresses of a name or address. Cancelling it ends the waiting, not the look-up."""
        name = check_host(host).rstrip(".").lower()
        literal = _as_address(name)
        if literal is not None:
            return [literal]
        if name == "localhost" or name.endswith(".localhost"):
            # RFC 6761 section 6.3: never ask a server for these.
            return list(_LOCALHOST)
        outcome = _CLOSED if self._closed else self._recall(name)
        if outcome is None:
            outcome = await asyncio.shield(self._lookups.get(name) or self._start(name))
        if isinstance(outcome, _Failed):
            raise RequestError(outcome.failure, outcome.message)
        return list(outcome.addresses)

    async def close(self) -> None:
        """End all look-ups, whose waiters get DRAINING, and close the source. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._source.close()

    def _recall(self, name: str) -> _Outcome | None:
        known = self._remembered.get(name)
        if known is None:
            return None
        until, outcome = known
        if self._clock() >= until:
            del self._remembered[name]
            return None
        self._remembered.move_to_end(name)
        return outcome

    def _remember(self, name: str, outcome: _Outcome) -> None:
        ttl = _time_to_live(outcome)
        if ttl <= 0:
            return
        self._remembered[name] = (self._clock() + ttl, outcome)
        self._remembered.move_to_end(name)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _start(self, name: str) -> asyncio.Future[_Outcome]:
        if len(self._lookups) >= self._max_lookups:
            raise too_many_lookups(name)
        loop = asyncio.get_running_loop()
        future = self._lookups[name] = loop.create_future()
        task = loop.create_task(self._look_up(name), name="look-up")
        self._tasks.add(task)
        task.add_done_callback(partial(self._finish, name, future))
        return future

    async def _look_up(self, name: str) -> _Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._source.look_up(name)
        except TimeoutError:
            return _Failed(Failure.TIMEOUT, f"lookup {name}: no answer within {self._timeout:g} s")
        except RequestError as error:
            return _Failed(error.failure, str(error))

    def _finish(self, name: str, future: asyncio.Future[_Outcome], task: asyncio.Task[_Outcome]) -> None:
        self._tasks.discard(task)
        del self._lookups[name]
        if task.cancelled():
            future.set_result(_CLOSED)
        elif (problem := task.exception()) is not None:
            future.set_exception(problem)
        else:
            self._remember(name, task.result())
            future.set_result(task.result())


def _time_to_live(outcome: _Outcome) -> float:
    if isinstance(outcome, Answer):
        return min(outcome.ttl, MAX_TTL)
    return _FAILURE_TTLS.get(outcome.failure, FAILURE_TTL)


def _as_address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
