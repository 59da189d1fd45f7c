"""The client's exits: a link to each is kept, lost ones are dialled again for ever.

One task an exit: dial, learn what it speaks, listen to its state, wait until the link is gone, dial again. Exits that
are dead when the client starts are dialled like any other; nothing waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from bethrou.errors import BethrouError, DialError
from bethrou.events import DialFailed, Emit, ExitStateChanged, ExitSuspected
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.negotiation import OutboundNegotiation
from bethrou.net.tasks import Tasks
from bethrou.proxy.candidates import Candidate
from bethrou.proxy.health import Health
from bethrou.wire.identify import Identify
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.state_message import PROTOCOL as STATE_PROTOCOL
from bethrou.wire.state_message import PrefixedJsonReader, StateMessage

FIRST_REDIAL = 0.2
"""Seconds before the first redial; doubled up to `LONGEST_REDIAL`, with +-20 % of chance."""

SETTLED = 5.0
"""Seconds that a link has to last: an exit whose links end sooner is redialled ever more slowly, as if away."""

LONGEST_REDIAL = 0.75
"""While an exit has been away for less than `PATIENCE` seconds: it is back within a second of its return."""

PATIENCE = 300.0
"""Seconds after which an exit that is away is tried ever more rarely, at last every `RAREST_REDIAL` seconds."""

RAREST_REDIAL = 30.0

DIAL_INTERVAL = 0.01
"""Seconds between any two redials when very many exits are away: each waits for its turn among them."""


@dataclass(frozen=True)
class ExitAddress:
    """An exit as the configuration names it."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]


class Exit:
    """One exit and what is known of it now."""

    def __init__(self, address: ExitAddress, preference: int) -> None:
        self.peer = address.peer
        self.addresses = address.addresses
        self.preference = preference
        """Its place in the configured order."""
        self.link: Link | None = None
        """Set while requests can be sent."""
        self.state = StateMessage()
        self.health = Health()

    @property
    def statement(self) -> Identify | None:
        """What it last said of itself; None while there is no link, or when it will not say."""
        return self.link.statement if self.link is not None else None

    @property
    def usable(self) -> bool:
        """Whether a request may be sent to it now."""
        return self.link is not None and self.link.alive and not self.state.draining


class Pool:
    """Keeps links to `addresses`. `rng` spreads redials in time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        addresses: Sequence[ExitAddress],
        emit: Emit,
        rng: random.Random,
    ) -> None:
        self.exits = {str(address.peer): Exit(address, place) for place, address in enumerate(addresses)}
        """By peer ID."""
        self._loop = loop
        self._host = host
        self._emit = emit
        self._rng = rng
        self._tasks = Tasks(loop)
        self._changed = asyncio.Condition()
        self._away = len(self.exits)
        """Exits without a link."""
        self._waiting = 0
        """Requests that wait for an exit."""
        self._wanted = asyncio.Event()
        """Set when a request begins to wait."""

    def start(self) -> None:
        """Begin to dial."""
        for exit_ in self.exits.values():
            self._tasks.start(self._keep(exit_), f"exit {exit_.peer.short}")

    async def close(self) -> None:
        """Stop dialling. Links belong to the host."""
        await self._tasks.close()

    def candidates(self) -> list[Candidate]:
        """The exits that can be asked now."""
        now = self._loop.time()
        return [
            Candidate(
                peer,
                exit_.link.round_trip,
                exit_.health.state,
                exit_.health.may_try(now),
                exit_.preference,
                stable_for=exit_.health.stable_for(now),
                name=exit_.state.name,
                tags=exit_.state.tags,
            )
            for peer, exit_ in self.exits.items()
            if exit_.usable and exit_.link is not None and exit_.health.state.usable
        ]

    async def wait_for_exit(self, timeout: float) -> bool:
        """Wait until an exit can be asked, at most `timeout` seconds; exits that are away are dialled at once."""
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: any(exit_.usable for exit_ in self.exits.values()))
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    def asked(self, exit_: Exit) -> float:
        """A request is sent to the exit; when that was."""
        now = self._loop.time()
        exit_.health = exit_.health.asked(now)
        return now

    def answered(self, exit_: Exit) -> None:
        """The exit took a request."""
        exit_.health = exit_.health.answered(self._loop.time())

    def failed(self, exit_: Exit, began: float, reason: str) -> None:
        """The exit failed a request that was sent at `began`, by its own fault."""
        now, before = self._loop.time(), exit_.health
        exit_.health = before.failed(now, began, reason)
        if exit_.health is not before:
            self._emit(ExitSuspected(str(exit_.peer), reason, exit_.health.suspicion.until - now))

    def withdrawn(self, exit_: Exit, began: float) -> None:
        """A request that was sent at `began` ended without a verdict on the exit."""
        exit_.health = exit_.health.withdrawn(began)

    # -- one exit ---------------------------------------------------------------------------------------------------

    async def _keep(self, exit_: Exit) -> None:
        away_since = self._loop.time()
        attempt = 0
        while True:
            try:
                link = await self._host.dial(exit_.peer, exit_.addresses)
            except DialError as error:
                exit_.health = exit_.health.dial_failed(self._loop.time(), str(error))
                delay = self._redial_delay(attempt, self._loop.time() - away_since)
                attempt += 1
                self._emit(DialFailed(str(exit_.peer), str(error), delay))
                await self._rest(delay)
                continue
            up_since = self._loop.time()
            self._away -= 1
            await self._use(exit_, link)
            self._away += 1
            if self._loop.time() - up_since >= SETTLED:
                away_since, attempt = self._loop.time(), 0
            await self._rest(self._redial_delay(attempt, self._loop.time() - away_since))
            attempt += 1

    async def _use(self, exit_: Exit, link: Link) -> None:
        """Have requests go over `link` until it is gone."""
        listening: asyncio.Task[None] | None = None
        try:
            statement = await self._host.statement_of(link)
            exit_.state = StateMessage()
            exit_.link = link
            exit_.health = exit_.health.link_up(self._loop.time(), link.round_trip)
            if statement is not None and STATE_PROTOCOL in statement.protocols:
                listening = self._tasks.start(self._listen(exit_, link), f"state of {exit_.peer.short}")
            await self._announce()
            await asyncio.shield(link.closed)
        finally:
            exit_.link = None
            exit_.health = exit_.health.link_lost(self._loop.time(), "the link was lost")
            if listening is not None:
                listening.cancel()
            if link.alive:
                link.close()

    async def _listen(self, exit_: Exit, link: Link) -> None:
        """Follow what the exit says of its state; an exit that says nothing counts as serving."""
        messages = PrefixedJsonReader()
        negotiation: OutboundNegotiation | None = None
        try:
            negotiation = await self._host.open(link, [STATE_PROTOCOL])
            await negotiation.agreed()
            while data := await negotiation.reader.read_some():
                while (message := messages.receive(data)) is not None:
                    data = b""
                    await self._state_received(exit_, StateMessage.decode(message))
        except BethrouError:
            return
        finally:
            if negotiation is not None:
                negotiation.stream.abort()

    async def _state_received(self, exit_: Exit, state: StateMessage) -> None:
        changed = state.draining != exit_.state.draining
        exit_.state = state
        exit_.health = exit_.health.says(self._loop.time(), state.draining)
        if changed:
            self._emit(ExitStateChanged(str(exit_.peer), state.draining))
            await self._announce()

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _redial_delay(self, attempt: int, away: float) -> float:
        longest = LONGEST_REDIAL if away < PATIENCE else min(RAREST_REDIAL, LONGEST_REDIAL * away / PATIENCE)
        delay: float = min(longest, FIRST_REDIAL * 2.0 ** min(attempt, 16))
        return max(delay, DIAL_INTERVAL * self._away) * self._rng.uniform(0.8, 1.2)

    async def _rest(self, delay: float) -> None:
        """Wait before the next attempt; requests that have no exit cut a long wait short, never a short one."""
        shortest = min(delay, max(LONGEST_REDIAL, DIAL_INTERVAL * self._away))
        await asyncio.sleep(shortest)
        if delay > shortest and not self._waiting:
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay - shortest):
                    await self._wanted.wait()
