"""The client's exits: a bounded number of links to the best of those that are known, for ever.

Exits may be known by the thousand; the pool keeps links to `size` of them, more when load or trouble asks for it. Whom
to dial next is in roster.py, how an exit is in health.py, what happens on a link in exit_link.py and better_path.py.

- Until the first link is up, up to 16 exits are dialled at a time, beside those that are slow to answer, and then as
  many as links are missing.
- An exit that fails or is lost is dialled again for ever, ever more rarely; others take its place meanwhile. Those that
  the configuration names are dialled again also when the pool is full, and have their place when they are back.
- When there are more exits than links, one of the others is tried every minute, and the worst of them all goes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from bethrou.errors import DialError
from bethrou.events import DialFailed, Emit, ExitChanged
from bethrou.net.circuits import direct_link
from bethrou.net.host import Host
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.probing import probe_all, probe_way
from bethrou.net.tasks import Tasks
from bethrou.proxy.better_path import better_link, retire
from bethrou.proxy.candidates import ANY_EXIT, Candidate, Scope
from bethrou.proxy.exit import DISCOVERED, Exit, ExitAddress
from bethrou.proxy.exit_link import follow_state
from bethrou.proxy.health import Health, State
from bethrou.proxy.roster import Roster
from bethrou.proxy.waiting import WaitingRequests
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.state_message import StateMessage

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

MAX_DIALS = 16
"""Exits dialled at a time. Those that take longer than `SLOW_DIAL` are not counted, so that addresses that swallow
everything hold nobody up; `MAX_SLOW_DIALS` bounds them."""

SLOW_DIAL = 1.0
MAX_SLOW_DIALS = 64

FIRST_SLOW_DIAL = 0.25
"""The same while there is no link at all, and nobody is served. It is what the dialer gives an address before it tries
the next one of the same exit."""

MAX_EXTRA = 8
"""Links beyond the pool's size that load, trouble or a request for a certain exit may have opened."""

CROWDED = 256
"""Requests of ours on a link, on average, beyond which more links are opened; a Go exit takes far fewer."""

REVIEW_INTERVAL = 60.0
"""Seconds between two looks at whether another exit would be a better one."""

TRIAL = 50.0
"""Seconds for which an exit that is tried, or was asked for, keeps its link whatever it is worth."""

HURRY_INTERVAL = 0.1
"""Seconds between two occasions at which requests that find no exit have everything dialled sooner."""

_GIVEN_UP = "others are better"


class Pool:
    """Keeps links to exits. `rng` spreads choices and redials.

    `good` is called with an exit and the address at which a link to it came up.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        emit: Emit,
        rng: random.Random,
        size: int = 8,
        good: Callable[[PeerId, Multiaddr], None] = lambda peer, address: None,
    ) -> None:
        self.exits: dict[str, Exit] = {}
        """All that are known, by peer ID."""
        self.linked: dict[str, Exit] = {}
        """Those with a link."""
        self.size = size
        """Links that are kept."""
        self._loop = loop
        self._host = host
        self._emit = emit
        self._rng = rng
        self._good = good
        self._roster = Roster(rng)
        self._dials: dict[Exit, float] = {}
        """Exits that are being dialled, and since when."""
        self._waiting = WaitingRequests(loop, self._can_serve)
        self._hurried_at = -HURRY_INTERVAL
        self._hurrying: asyncio.TimerHandle | None = None
        self._tasks = Tasks(loop)
        self._timer: asyncio.TimerHandle | None = None
        self._review: asyncio.TimerHandle | None = None
        self._running = False

    # -- which exits there are --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to dial."""
        self._running = True
        self._review = self._loop.call_later(self._jittered(REVIEW_INTERVAL), self._review_links)
        self._fill()

    async def close(self) -> None:
        """Stop dialling. Links belong to the host."""
        self._running = False
        for timer in (self._timer, self._review, self._hurrying):
            if timer is not None:
                timer.cancel()
        await self._tasks.close()

    def resize(self, size: int) -> None:
        """Keep so many links from now on."""
        self.size = size
        self._trim()
        self._fill()

    def know(self, addresses: Iterable[ExitAddress]) -> None:
        """There are these exits, or there is something new about them."""
        now = self._loop.time()
        for address in addresses:
            exit_ = self.exits.get(str(address.peer))
            if exit_ is None:
                exit_ = self.exits[str(address.peer)] = Exit(address, now)
                self._roster.put(exit_, now)
                continue
            before, exit_.address = exit_.address, address
            exit_.forgotten = exit_.dismissed = False
            elsewhere = set(address.addresses) - set(before.addresses)
            if exit_ in self._roster and (elsewhere or address.preference != before.preference):
                self._roster.put(exit_, now)
        self._fill()

    def forget(self, peer: PeerId) -> None:
        """No source knows this exit any more. It is used as long as its link lasts."""
        exit_ = self.exits.get(str(peer))
        if exit_ is not None:
            exit_.forgotten = True
            self._drop_if_forgotten(exit_)

    def dismiss(self, peer: PeerId) -> None:
        """The user wants this exit no more: live requests finish, no new ones come."""
        exit_ = self.exits.get(str(peer))
        if exit_ is not None:
            exit_.forgotten = exit_.dismissed = True
            if not self._drop_if_forgotten(exit_):
                self._close_when_idle(exit_)

    # -- what requests ask ------------------------------------------------------------------------------------------

    def candidates(self) -> list[Candidate]:
        """The exits that can be asked now."""
        now = self._loop.time()
        return [exit_.candidate(now) for exit_ in self.linked.values() if exit_.usable]

    async def wait_for_exit(self, timeout: float, scope: Scope = ANY_EXIT) -> bool:
        """Wait until an exit within `scope` can be asked, at most `timeout` seconds.

        What is away is dialled at once.
        """
        return await self._waiting.wait(scope, timeout, self._hurry)

    def fits_any(self, scope: Scope) -> bool:
        """Whether any exit that is known, with a link or not, is within `scope` by what it says of itself."""
        now = self._loop.time()
        return any(scope.why_not(exit_.candidate(now)) is None for exit_ in self.exits.values())

    def asked(self, exit_: Exit) -> float:
        """A request is sent to the exit; when that was. To be followed by `released` when it is over."""
        now = self._loop.time()
        exit_.streams += 1
        exit_.health = exit_.health.asked(now)
        return now

    def answered(self, exit_: Exit, took: float | None) -> None:
        """The exit took a request; its first sign of having it came after `took` seconds, if it gives one."""
        self._judge(exit_, exit_.health.answered(self._loop.time(), took))

    def failed(self, exit_: Exit, began: float, reason: str) -> None:
        """The exit failed a request that was sent at `began`, by its own fault. Perhaps its link is dead."""
        if exit_.link is not None:
            probe_way(self._host.links, exit_.link)
        self._judge(exit_, exit_.health.failed(self._loop.time(), began, reason))

    def released(self, exit_: Exit) -> None:
        """A request that was on the exit is over."""
        exit_.streams -= 1
        self._close_when_idle(exit_)

    def withdrawn(self, exit_: Exit, began: float) -> None:
        """A request that was sent at `began` ended without a verdict on the exit."""
        exit_.health = exit_.health.withdrawn(began)

    # -- what the world tells ---------------------------------------------------------------------------------------

    def network_changed(self) -> None:
        """This machine has slept, or has other addresses now: links may be dead, and dials may succeed."""
        probe_all(self._host.links)
        now = self._loop.time()
        for _, exit_ in self._roster.waiting():
            exit_.attempt, exit_.away_since = 0, now
            self._roster.put(exit_, now)
        self._fill()

    # -- dialling ---------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Dial what is due as far as links are missing, and come back when the next one is."""
        if not self._running:
            return
        now = self._loop.time()
        while (exit_ := self._next(now)) is not None:
            self._dials[exit_] = now
            self._tasks.start(self._connect(exit_), f"exit {exit_.peer.short}")
        for scope in self._waiting.scopes - {ANY_EXIT}:
            self._open_within(scope, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._roster.next_due(now)
        if due is not None:
            # when one is due already, a dial has to end or to become a slow one first, or there is no room for it; one
            # that has its place may be due later
            wait = due - now if due > now else self._slow_dial
            self._timer = self._loop.call_later(wait, self._fill)

    def _next(self, now: float) -> Exit | None:
        slow = sum(now - began >= self._slow_dial for began in self._dials.values())
        if len(self._dials) - slow >= MAX_DIALS or slow >= MAX_SLOW_DIALS:
            return None
        missing = self._target() - len(self.linked) - (len(self._dials) - slow)
        if missing > 0 or not self.linked:
            return self._roster.take(now)
        places = sorted(exit_.address.preference for exit_ in (*self.linked.values(), *self._dials))
        return self._roster.take(now, below=min(DISCOVERED, places[self.size - 1]))

    @property
    def _slow_dial(self) -> float:
        return SLOW_DIAL if self.linked else FIRST_SLOW_DIAL

    def _target(self) -> int:
        """How many links there should be: more while some of them are of little use, or all are busy."""
        unwell = sum(exit_.health.state is not State.HEALTHY for exit_ in self.linked.values())
        streams = sum(exit_.streams for exit_ in self.linked.values())
        crowd = streams // CROWDED + 1 - len(self.linked) if streams > CROWDED else 0
        return self.size + min(MAX_EXTRA, unwell + max(0, crowd))

    async def _connect(self, exit_: Exit) -> None:
        """Dial, and have requests go over the link until it is gone."""
        try:
            link = await self._host.dial(exit_.peer, exit_.address.addresses)
        except DialError as error:
            self._dials.pop(exit_, None)
            self._dial_failed(exit_, str(error))
            return
        except asyncio.CancelledError:
            self._dials.pop(exit_, None)
            raise
        up_since = self._loop.time()
        try:
            while (better := await self._use(exit_, link)) is not None:
                link = better
        finally:
            self._dials.pop(exit_, None)
            self._link_over(exit_, link, up_since)

    def _dial_failed(self, exit_: Exit, reason: str) -> None:
        now = self._loop.time()
        self._judge(exit_, exit_.health.dial_failed(now, reason))
        delay = self._wait_again(exit_, now)
        self._emit(DialFailed(str(exit_.peer), reason, delay, exit_.address.preferred))
        self._fill()

    def _wait_again(self, exit_: Exit, now: float) -> float:
        """Have `exit_` dialled again some time; in how many seconds."""
        delay = self._redial_delay(exit_.attempt, now - exit_.away_since)
        exit_.failed_at = now
        exit_.attempt += 1
        if not self._drop_if_forgotten(exit_):
            self._roster.put(exit_, now + delay)
        return delay

    def _redial_delay(self, attempt: int, away: float) -> float:
        longest = LONGEST_REDIAL if away < PATIENCE else min(RAREST_REDIAL, LONGEST_REDIAL * away / PATIENCE)
        delay: float = min(longest, FIRST_REDIAL * 2.0 ** min(attempt, 16))
        return self._jittered(max(delay, DIAL_INTERVAL * self._roster.later))

    def _hurry(self) -> None:
        """A request has no exit: dial soon."""
        delay = self._hurried_at + HURRY_INTERVAL - self._loop.time()
        if delay <= 0:
            self._hurry_now()
        elif self._hurrying is None:
            self._hurrying = self._loop.call_later(delay, self._hurry_now)

    def _hurry_now(self) -> None:
        """Cut long waits short, never short ones."""
        self._hurried_at = now = self._loop.time()
        self._hurrying = None
        shortest = max(LONGEST_REDIAL, DIAL_INTERVAL * self._roster.later)
        for due, exit_ in self._roster.waiting():
            if due > (sooner := exit_.failed_at + shortest):
                self._roster.put(exit_, max(now, sooner))
        self._fill()

    def _open_within(self, scope: Scope, now: float) -> None:
        """Dial some of the exits that a request asks for, beyond the pool's size if need be."""
        room = self.size + MAX_EXTRA - len(self.linked) - len(self._dials)
        fitting = [
            exit_
            for exit_ in self.exits.values()
            if exit_ in self._roster
            and scope.why_not(exit_.candidate(now)) is None
            and now - exit_.failed_at >= FIRST_REDIAL
        ]
        for exit_ in self._rng.sample(fitting, min(len(fitting), max(0, min(room, 3)))):
            self._roster.remove(exit_)
            exit_.kept_until = now + 5 * TRIAL
            self._dials[exit_] = now
            self._tasks.start(self._connect(exit_), f"exit {exit_.peer.short}")

    # -- one link ---------------------------------------------------------------------------------------------------

    async def _use(self, exit_: Exit, link: Link) -> Link | None:
        """Have requests go over `link` until it is gone, or until there is a better one."""
        helpers: list[asyncio.Task[None] | asyncio.Task[Link]] = []
        better: Link | None = None
        try:
            statement = await self._host.statement_of(link)
            if not link.alive:
                return None
            now = self._loop.time()
            exit_.link, exit_.worked = link, True
            exit_.hears(None)
            self.linked[str(exit_.peer)] = exit_
            self._dials.pop(exit_, None)
            link.on_round_trip = lambda seconds: self._judge(
                exit_, exit_.health.measured(self._loop.time(), seconds)
            )
            self._judge(exit_, exit_.health.link_up(now, link.round_trip))
            self._good(exit_.peer, link.remote)
            said = follow_state(link, statement, lambda said: self._says(exit_, link, said))
            helpers.append(self._tasks.start(said, f"state of {exit_.peer.short}"))
            self._trim()
            self._fill()
            if link.path != CIRCUIT:
                await asyncio.shield(link.closed)
                return None
            way = better_link(
                self._host, link, lambda: exit_.address.addresses, self._rng, exit_.dialled_in_vain
            )
            searching = self._tasks.start(way, f"direct way to {exit_.peer.short}")
            helpers.append(searching)
            await asyncio.wait([link.closed, searching], return_when=asyncio.FIRST_COMPLETED)
            # js ends a circuit as soon as it has a direct link, in the middle of our search
            better = searching.result() if searching.done() else direct_link(self._host.links, exit_.peer)
            return better
        finally:
            for helper in helpers:
                helper.cancel()
            exit_.no_direct_way = ""
            if better is not None:
                link.on_round_trip = None
                self._tasks.start(retire(link), f"former link to {exit_.peer.short}")
            elif link.alive:
                link.close()

    def _link_over(self, exit_: Exit, link: Link, up_since: float) -> None:
        now = self._loop.time()
        reason = str(link.closed.result()) if link.closed.done() else "closed here"
        exit_.link = None
        link.on_round_trip = None
        self._judge(exit_, exit_.health.link_lost(now, reason))
        if self.linked.pop(str(exit_.peer), None) is None and reason == _GIVEN_UP:
            self._roster.put(exit_, now)  # nothing is wrong with it
            self._drop_if_forgotten(exit_)
        else:
            if now - up_since >= SETTLED:
                exit_.attempt, exit_.away_since = 0, now
            self._wait_again(exit_, now)
        self._fill()

    def _says(self, exit_: Exit, link: Link, said: StateMessage) -> None:
        if exit_.link is link:
            exit_.hears(said)
            self._judge(exit_, exit_.health.says(self._loop.time(), said.draining))
            self._waiting.look()  # its name and tags may be what somebody waits for

    def _judge(self, exit_: Exit, health: Health) -> None:
        """The exit's health is this from now on. Said once for each change of state."""
        before, exit_.health = exit_.health, health
        change = health.change_from(before)
        if change is None:
            return
        self._emit(
            ExitChanged(str(exit_.peer), exit_.name, change.old.value, change.new.value, change.reason)
        )
        if exit_.link is not None:
            self._waiting.look()
            if change.new.usable and change.new is not State.HEALTHY:
                self._fill()

    # -- requests that wait -----------------------------------------------------------------------------------------

    def _can_serve(self, scope: Scope) -> bool:
        now = self._loop.time()
        return any(
            exit_.usable and (scope == ANY_EXIT or scope.why_not(exit_.candidate(now)) is None)
            for exit_ in self.linked.values()
        )

    # -- which links are worth keeping ------------------------------------------------------------------------------

    def _review_links(self) -> None:
        """Give up what is too much, then try another exit in the place of the worst."""
        self._review = self._loop.call_later(self._jittered(REVIEW_INTERVAL), self._review_links)
        self._trim()
        now = self._loop.time()
        replaceable = any(not exit_.address.preferred for exit_ in self.linked.values())
        if len(self.linked) >= self._target() and replaceable and not self._dials:
            other = self._roster.take(now)
            if other is not None:
                other.kept_until = now + TRIAL
                self._dials[other] = now
                self._tasks.start(self._connect(other), f"exit {other.peer.short}")
        self._fill()

    def _trim(self) -> None:
        """Close the worst links beyond the target, as far as no request is on them."""
        while len(self.linked) > self._target():
            now = self._loop.time()
            idle = [
                exit_
                for exit_ in self.linked.values()
                if exit_.streams == 0 and exit_.kept_until <= now and not self._has_its_place(exit_)
            ]
            if not idle:
                return
            worst = max(idle, key=_worth)
            assert worst.link is not None
            self.linked.pop(str(worst.peer))
            worst.link.close(_GIVEN_UP)

    def _has_its_place(self, exit_: Exit) -> bool:
        """Whether the configuration names it among as many as the pool holds."""
        if not exit_.address.preferred:
            return False
        before = (other.address.preference < exit_.address.preference for other in self.linked.values())
        return sum(before) < self.size

    def _close_when_idle(self, exit_: Exit) -> None:
        if exit_.dismissed and exit_.streams == 0 and exit_.link is not None:
            exit_.link.close("no longer in the configuration")

    def _drop_if_forgotten(self, exit_: Exit) -> bool:
        """Let go of an exit that nobody knows any more and that has no link. Whether that is so."""
        if not exit_.forgotten or exit_.link is not None or exit_ in self._dials:
            return False
        self._roster.remove(exit_)
        self.exits.pop(str(exit_.peer), None)
        return True

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.8, 1.2)


def _worth(exit_: Exit) -> tuple[int, int, float]:
    """The greater, the sooner it is given up."""
    health = exit_.health
    rank = health.state.rank if health.state.usable else 3
    return rank, exit_.address.preference, health.round_trip or 0.0
