"""A running client as others on this machine see it and act on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bethrou.assembly.running_client import RunningClient
from bethrou.cli.control_of_program import ControlOfProgram
from bethrou.cli.own_files import NO_FILES, OwnFiles
from bethrou.config import Action, ClientConfig, HostPort
from bethrou.errors import DecodeError, NotOffered, RequestError
from bethrou.ops.event_feed import EventFeed
from bethrou.proxy.exit import Exit
from bethrou.proxy.plans import MAX_ATTEMPTS, Plan
from bethrou.proxy.rules import Ruling
from bethrou.snapshots import (
    CandidateSnapshot,
    ConnectionSnapshot,
    ExitSnapshot,
    StatusSnapshot,
    WhySnapshot,
)
from bethrou.wire.destination import check_host, check_port, join_address
from bethrou.wire.proxy_request import ProxyRequest
from bethrou.wire.user_name import UserName

MAX_SHOWN = 512
"""Exits without a link that a status lists at most; the rest is counted."""


class ControlOfClient(ControlOfProgram):
    """The control of `client`. `read` gives the configuration as it is in its file now; None where there is no file."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: RunningClient,
        network: str,
        feed: EventFeed,
        stop: Callable[[], None],
        read: Callable[[], ClientConfig] | None = None,
        files: OwnFiles = NO_FILES,
    ) -> None:
        core = client.core
        super().__init__(loop, (core.host, core.autonat, core.dcutr), network, feed, stop, files)
        self._client = client
        self._read = read

    def status(self) -> StatusSnapshot:
        """What the client is and how it does."""
        client = self._client
        return StatusSnapshot(
            role="client",
            draining=client.draining,
            listening=() if client.draining else (str(HostPort(*client.socks_address)),),
            connections=client.active,
            strategy=client.config.routing.strategy.value,
            exits=self._exits(),
            exits_known=len(client.core.pool.exits),
            sources=client.core.discovery.snapshots(),
            **self._usual(),
        )

    def connections(self) -> Sequence[ConnectionSnapshot]:
        """The applications' connections that have said where they want to go."""
        return self._client.connections()

    def why(self, host: str, port: int, user: str) -> WhySnapshot:
        """How a request to `host`:`port` under this user name would choose its exit now. Raises NotOffered."""
        try:
            name = UserName.parse(user.encode())
            request = ProxyRequest(check_host(host), check_port(port), None, name.user or None)
        except (DecodeError, RequestError) as error:
            raise NotOffered(f"nobody could ask for that: {error}") from None
        router = self._client.core.router
        ruling = router.rule(request, name)
        notes = [ruling.note] if ruling.note else []
        if ruling.action is not Action.EXIT:
            destination = join_address(request.host, request.port)
            return WhySnapshot(destination, ruling.rule, ruling.action.value, "", (), tuple(notes))
        plan = router.plan(request, name, ruling)
        if not plan.ranked:
            notes.append(self._why_nobody(ruling))
        return WhySnapshot(
            destination=join_address(request.host, request.port),
            rule=ruling.rule,
            action=ruling.action.value,
            strategy=plan.strategy,
            candidates=self._candidates(plan, ruling),
            notes=tuple(notes),
        )

    async def reload(self) -> Sequence[str]:
        """Obey the configuration as it is in its file now. Raises UserErrors; nothing has changed then."""
        if self._read is None:
            raise NotOffered("this client has no configuration file")
        return await self._obey(self._read, self._client.reload)

    def close_connection(self, id: str) -> bool:  # noqa: A002 - the snapshot's word
        """End an application's connection."""
        return self._client.close_connection(id)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _exits(self) -> tuple[ExitSnapshot, ...]:
        """Those with a link first, then those that the configuration names, then some of the others."""
        pool = self._client.core.pool
        in_order = sorted(
            pool.exits.values(),
            key=lambda exit_: (exit_.link is None, exit_.address.preference, -exit_.attempt),
        )
        now = self._loop.time()
        return tuple(exit_.snapshot(now) for exit_ in in_order[: len(pool.linked) + MAX_SHOWN])

    def _why_nobody(self, ruling: Ruling) -> str:
        if self._client.core.pool.candidates() and not self._client.core.pool.fits_any(ruling.scope):
            return f"no exit that is known fits {ruling.scope}: a request would be refused"
        return "no exit that fits is up: a request would wait for one, and then be refused"

    def _candidates(self, plan: Plan, ruling: Ruling) -> tuple[CandidateSnapshot, ...]:
        now = self._loop.time()
        exits = self._client.core.pool.exits
        ranked = [
            CandidateSnapshot(
                candidate.peer,
                candidate.name,
                place,
                plan.describe(candidate)
                if place <= MAX_ATTEMPTS
                else f"{plan.describe(candidate)}; a request tries {MAX_ATTEMPTS} exits at most",
                candidate.round_trip,
                candidate.state.value,
            )
            for place, candidate in enumerate(plan.ranked, 1)
        ]
        chosen = {candidate.peer for candidate in plan.ranked}
        others = [exit_ for peer, exit_ in exits.items() if peer not in chosen][:MAX_SHOWN]
        return (*ranked, *(_left_out(exit_, ruling, now) for exit_ in others))


def _left_out(exit_: Exit, ruling: Ruling, now: float) -> CandidateSnapshot:
    seen = exit_.snapshot(now)
    outside = ruling.scope.why_not(exit_.candidate(now))
    reason = outside or seen.reason or ("has no link" if exit_.link is None else f"is {seen.state}")
    return CandidateSnapshot(seen.id, seen.name, None, reason, seen.round_trip, seen.state)
