"""How a request chooses its exit: plan, ask, and ask the next one when an exit fails by its own fault.

The plan is a pure function (strategies.py). A request moves to another exit only before its first byte: once an exit
has said that the destination is connected, the request stays there.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from bethrou.errors import Failure, RequestError
from bethrou.proxy import exit_client
from bethrou.proxy.candidates import ANY_EXIT, eligible
from bethrou.proxy.exit_client import Accepted, ExitFault
from bethrou.proxy.plans import Memory, Plan, Wanted
from bethrou.proxy.pool import Exit, Pool
from bethrou.proxy.strategies import STRATEGIES, plan
from bethrou.wire.proxy_request import ProxyRequest

FIRST_EXIT_TIMEOUT = 5.0
"""Seconds that a request waits when no exit can be asked; then it is refused."""


@dataclass(frozen=True)
class Wishes:
    """What a request asks of the choice. None: no wish."""

    exit: str | None = None
    """Name or peer ID of the only exit to use."""
    tag: str | None = None
    """Only exits with this tag."""
    strategy: str | None = None


@dataclass(frozen=True)
class Routed:
    """A request that `exit` carries out."""

    exit: Exit
    accepted: Accepted


class Router:
    """Routes requests over the pool's exits."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pool: Pool, strategy: str, rng: random.Random
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._strategy = strategy
        self._rng = rng
        self._memory = Memory()
        self._limits = exit_client.Limits(loop)

    def close(self) -> None:
        """Forget the timeouts of requests under way; whoever started them ends them."""
        self._limits.close()

    async def route(self, request: ProxyRequest, wishes: Wishes) -> Routed:
        """Have an exit carry `request` out. Raises `RequestError` with what the application is to be told."""
        deadline = self._loop.time() + FIRST_EXIT_TIMEOUT
        while True:
            planned = self._plan(request, wishes)
            if planned.order:
                return await self._try_in_turn(planned, request)
            remaining = deadline - self._loop.time()
            if self._pool.candidates() or remaining <= 0 or not await self._pool.wait_for_exit(remaining):
                raise RequestError(Failure.NO_EXIT, self._why_none(wishes))

    def _plan(self, request: ProxyRequest, wishes: Wishes) -> Plan:
        scope = ANY_EXIT.narrowed(wishes.exit, wishes.tag)
        return plan(
            wishes.strategy or self._strategy,
            eligible(self._pool.candidates(), scope),
            Wanted(request.host, request.user or "", scope),
            self._memory,
            self._loop.time(),
            self._rng,
        )

    def _why_none(self, wishes: Wishes) -> str:
        if wishes.exit is not None or wishes.tag is not None:
            return "no exit that is up fits what the user name asks for"
        known = len(self._pool.exits)
        return "the exit cannot be reached" if known == 1 else f"none of the {known} exits can be reached"

    async def _try_in_turn(self, planned: Plan, request: ProxyRequest) -> Routed:
        fault = ExitFault("every exit went away")
        for candidate in planned.order:
            exit_ = self._pool.exits[candidate.peer]
            link = exit_.link
            if link is None:
                continue
            self._memory.asked(planned, candidate.peer)
            began = self._pool.asked(exit_)
            try:
                accepted = await exit_client.ask(link, exit_.statement, request, self._limits)
            except ExitFault as error:
                fault = error
                if error.counts:
                    self._pool.failed(exit_, began, str(error))
                continue
            except RequestError as error:
                self._pool.answered(exit_)  # it took the request; the destination is what failed
                raise RequestError(error.failure, str(error), candidate.peer) from None
            finally:
                self._pool.withdrawn(exit_, began)
            self._pool.answered(exit_)
            return Routed(exit_, accepted)
        raise RequestError(fault.failure, str(fault))


__all__ = ["STRATEGIES", "Routed", "Router", "Wishes"]
