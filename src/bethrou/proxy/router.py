"""How a request chooses its exit: rule, plan, ask, and ask the next one when an exit fails by its own fault.

Rule (rules.py) and plan (strategies.py) are pure functions. A request moves to another exit only before its first
byte: once an exit has said that the destination is connected, the request stays there. Without any exit that may be
asked it waits a while and is refused; it never leaves from this machine unless a rule says `direct`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import NamedTuple

from bethrou.config import Action, RoutingConfig, RoutingRule, StickyBy
from bethrou.errors import Failure, NoAnswer, RequestError
from bethrou.proxy import exit_client
from bethrou.proxy.candidates import Scope, eligible
from bethrou.proxy.exit import Exit
from bethrou.proxy.exit_client import Accepted, Attempt, ExitFault
from bethrou.proxy.plans import Memory, Plan, Wanted
from bethrou.proxy.pool import Pool
from bethrou.proxy.rules import Rules, Ruling
from bethrou.proxy.sessions import Sessions
from bethrou.proxy.strategies import plan
from bethrou.wire.proxy_request import ProxyRequest
from bethrou.wire.user_name import UserName


class Routed(NamedTuple):
    """A request that `exit` carries out; `Router.finished` is to be told when it is over.

    It holds what the asking took, so nobody should keep it for as long as the request lasts.
    """

    exit: Exit
    accepted: Accepted


class Router:
    """Routes requests over the pool's exits, as `routing` and `rules` of the configuration say."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        routing: RoutingConfig,
        rules: Sequence[RoutingRule],
        rng: random.Random,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._rng = rng
        self._memory = Memory()
        self._sessions = Sessions()
        self._limits = exit_client.Limits(loop, routing.timeout)
        self.configure(routing, rules)

    def configure(self, routing: RoutingConfig, rules: Sequence[RoutingRule]) -> None:
        """Route by these from now on; requests under way go on by what they began with."""
        self._strategy = routing.strategy.value
        self._sticky_by: StickyBy = routing.sticky_by
        self._wait = routing.wait
        self._rules = Rules(rules)
        if self._limits.answer.seconds != routing.timeout:
            self._limits = exit_client.Limits(self._loop, routing.timeout)  # requests under way keep theirs

    def close(self) -> None:
        """Forget the timeouts of requests under way; whoever started them ends them."""
        self._limits.close()

    def rule(self, request: ProxyRequest, name: UserName) -> Ruling:
        """What the configuration says of a request, and the user name with which it came."""
        return self._rules.judge(request.host, request.port, name.exit, name.tag)

    def plan(self, request: ProxyRequest, name: UserName, ruling: Ruling) -> Plan:
        """The exits that would be asked now, in order."""
        user = request.user or ""
        now = self._loop.time()
        pinned = self._sessions.find(user, name.session, now) if name.session is not None else None
        return plan(
            name.strategy or ruling.strategy or self._strategy,
            eligible(self._pool.candidates(), ruling.scope),
            Wanted(
                request.host,
                user,
                ruling.scope,
                name.session,
                pinned.peer if pinned is not None else None,
                self._sticky_by,
            ),
            self._memory,
            now,
            self._rng,
        )

    async def route(self, request: ProxyRequest, name: UserName, ruling: Ruling) -> Routed:
        """Have an exit carry `request` out. Raises `RequestError` with what the application is to be told.

        `ruling` is what `rule` said of it; requests that are to go `direct` are the caller's own business.
        """
        if ruling.action is Action.BLOCK:
            raise RequestError(Failure.DENIED, f"blocked by rules[{ruling.index}] ({ruling.rule})")
        try:
            return await self._ask_who_can_be_asked(request, name, ruling)
        except ExitFault as fault:
            if self.plan(request, name, ruling).order:
                raise RequestError(fault.failure, str(fault)) from None
        # All of them have died or begun to stop in this moment: as if there had been none.
        try:
            return await self._ask_who_can_be_asked(request, name, ruling)
        except ExitFault as fault:
            raise RequestError(fault.failure, str(fault)) from None

    def finished(self, exit_: Exit) -> None:
        """A request that `exit_` carried is over."""
        self._pool.released(exit_)

    async def _ask_who_can_be_asked(self, request: ProxyRequest, name: UserName, ruling: Ruling) -> Routed:
        """Plan and ask; wait first if there is nobody. Raises `ExitFault` of the last one, or `RequestError`."""
        planned = self.plan(request, name, ruling)
        if not planned.order:
            await self._await_exit(ruling.scope)
            planned = self.plan(request, name, ruling)
        first = planned.order[0].peer if planned.order else ""
        # before anybody is asked, so that requests of a new session that come together go together
        self._keep_session(request, name, first)
        routed = await self._try_in_turn(planned, request)
        if (peer := str(routed.exit.peer)) != first:
            self._keep_session(request, name, peer)
        return routed

    def _keep_session(self, request: ProxyRequest, name: UserName, peer: str) -> None:
        if name.session is not None and peer:
            self._sessions.keep(request.user or "", name.session, peer, self._loop.time(), name.ttl)

    async def _await_exit(self, scope: Scope) -> None:
        if self._pool.candidates() and not self._pool.fits_any(scope):
            raise RequestError(Failure.NO_EXIT, f"no exit that is known fits {scope}")
        if not await self._pool.wait_for_exit(self._wait, scope):
            raise RequestError(Failure.NO_EXIT, self._why_none(scope))

    def _why_none(self, scope: Scope) -> str:
        if self._pool.candidates():
            return f"the exits that fit {scope} cannot be reached"
        known = len(self._pool.exits)
        if known == 0:
            return "no exit is known"
        return "the exit cannot be reached" if known == 1 else f"none of the {known} exits can be reached"

    async def _try_in_turn(self, planned: Plan, request: ProxyRequest) -> Routed:
        """Ask one exit after the other, all within the time that one has for its answer.

        Raises the last one's `ExitFault`, or `RequestError`.
        """
        deadline = self._loop.time() + self._limits.answer.seconds
        fault = ExitFault("every exit went away")
        for number, candidate in enumerate(planned.order):
            exit_ = self._pool.exits.get(candidate.peer)
            if exit_ is None or exit_.link is None:
                continue
            try:
                if number == 0:  # the usual request needs no second clock
                    return await self._ask(planned, exit_, request)
                async with asyncio.timeout_at(deadline):
                    return await self._ask(planned, exit_, request)
            except ExitFault as error:
                fault = error
            except TimeoutError:
                raise RequestError(Failure.TIMEOUT, "no exit has carried it out in time") from None
        raise fault

    async def _ask(self, planned: Plan, exit_: Exit, request: ProxyRequest) -> Routed:
        link = exit_.link
        assert link is not None
        self._memory.asked(planned, str(exit_.peer))
        attempt = Attempt(self._pool.asked(exit_))
        carried_out = False
        try:
            accepted = await exit_client.ask(link, request, self._limits, attempt)
            carried_out = True
        except ExitFault as error:
            if error.counts:
                self._pool.failed(exit_, attempt.began, str(error))
            raise
        except RequestError as error:
            if not isinstance(error, NoAnswer):
                self._pool.answered(exit_, attempt.took)  # the destination is what failed
            raise RequestError(error.failure, str(error), str(exit_.peer)) from None
        finally:
            if not carried_out:
                self._pool.withdrawn(exit_, attempt.began)
                self._pool.released(exit_)
        self._pool.answered(exit_, attempt.took)
        return Routed(exit_, accepted)
