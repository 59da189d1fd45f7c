"""A node that nobody can reach uses relays that it has heard of; one that can be reached uses none.

Three parts stand behind it: AutoNAT asks other members (net/autonat.py), what their answers come to is decided in
net/reachability.py, and which relays are used in net/relay_choice.py. This one sees to it that there is somebody to
ask, keeps time, and has the keeper (net/relay_keeper.py) do the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bethrou.errors import DialError
from bethrou.events import Emit, ReachabilityChanged
from bethrou.net.addresses import is_loopback
from bethrou.net.autonat import Autonat
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.reachability import (
    Finding,
    Standing,
    after_asking_nobody,
    after_check,
    after_news,
    what_follows,
)
from bethrou.net.relay_choice import (
    AVOID_AWAY,
    AVOID_REFUSED,
    PATIENCE,
    Candidate,
    Chosen,
    draw,
    revise,
)
from bethrou.net.relay_keeper import Outcome, RelayKeeper
from bethrou.net.tasks import Tasks
from bethrou.snapshots import AddressReachability
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

# Implementation constants.
FIRST_CHECK = 3.0
"""Seconds from the start to the first check: links and what sources say come first."""

LOOK = 5.0
"""Seconds between two looks at the relays that are used, where nothing happens before: patience ends by itself."""

MIN_LOOK = 0.2
"""Seconds from something that happens to a look: what comes together is looked at once."""

ASKED_AT_ONCE = 2
"""Relays that are dialled for a check where there is no link to anybody who can be asked."""

DIAL_AGAIN = 20.0
"""Seconds between two times that they are."""

MAX_AVOIDED = 256
"""Relays that are remembered as of no use lately."""


@dataclass(slots=True)
class _Use:
    """What has come of a relay that was chosen, as of the last look."""

    outcome: Outcome
    addresses: Sequence[Multiaddr]
    patience_ends: float


class AutoRelay:
    """Checks whether `host` can be reached, by `autonat`, and has `keeper` use relays while it cannot.

    `candidates` gives the members that relay, as far as they are known. `rng` chooses and spreads in time.
    """

    def __init__(
        self,
        host: Host,
        autonat: Autonat,
        keeper: RelayKeeper,
        candidates: Callable[[], Sequence[Candidate]],
        emit: Emit,
        rng: random.Random,
    ) -> None:
        self._host = host
        self._loop = host.loop
        self._autonat = autonat
        self._keeper = keeper
        self._candidates = candidates
        self._emit = emit
        self._rng = rng
        self._tasks = Tasks(host.loop)
        self.standing = Standing(due=host.loop.time() + FIRST_CHECK)
        """What is believed of this node's reachability, in the loop's seconds."""
        self._news = asyncio.Event()
        self._used: dict[PeerId, _Use] = {}
        self._avoided: dict[PeerId, float] = {}
        """Until when, the oldest first."""
        self._for_asking: set[Link] = set()
        """Links that are there for a check alone."""
        self._nobody_to_ask = False
        self._dial_again_at = host.loop.time()
        self._look_at: asyncio.TimerHandle | None = None
        self._stop_watching = host.mapped.watch(lambda: self._changed(great=False))
        self._stop_observing = host.observe_links(
            lambda link: self.somebody_came(), lambda link, reason: None
        )
        self._tasks.start(self._check_for_ever(), "reachability")

    async def close(self) -> None:
        """Check and choose no more. The keeper and links stay as they are."""
        self._stop_watching()
        self._stop_observing()
        if self._look_at is not None:
            self._look_at.cancel()
        await self._tasks.close()

    def network_changed(self) -> None:
        """This machine has other addresses: what was believed may not be true any more."""
        self._changed(great=True)

    def relays_changed(self) -> None:
        """Something has come of a relay."""
        if self.standing.believed is Finding.UNREACHABLE:
            self._look_within(MIN_LOOK)

    def somebody_came(self) -> None:
        """There is a new link, or a relay was heard of."""
        if self._nobody_to_ask:
            self._nobody_to_ask = False
            self._changed(great=True)
        self.relays_changed()

    def _changed(self, *, great: bool) -> None:
        self.standing = after_news(self.standing, self._loop.time(), self._rng, great=great)
        self._news.set()

    # -- checks -----------------------------------------------------------------------------------------------------

    async def _check_for_ever(self) -> None:
        while True:
            await self._until_due()
            self._nobody_to_ask = not self._autonat.can_ask and not await self._found_somebody_to_ask()
            if self._nobody_to_ask:
                self.standing = after_asking_nobody(self.standing, self._loop.time(), self._rng)
            else:
                self._judge(await self._autonat.check())
            if not self.standing.agreeing:
                self._let_go()

    async def _until_due(self) -> None:
        while (wait := self.standing.due - self._loop.time()) > 0:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    async def _found_somebody_to_ask(self) -> bool:
        """Dial some relays; whether one of them can be asked."""
        if self._loop.time() < self._dial_again_at:
            return False
        relays = {each.peer: each for each in self._candidates() if each.peer not in self._host.links}
        some = draw(self._eligible(relays.values()), ASKED_AT_ONCE, (), (), self._rng)
        if some:
            self._dial_again_at = self._loop.time() + DIAL_AGAIN
        await asyncio.gather(*(self._dial_to_ask(peer, relays[peer].addresses) for peer in some))
        return self._autonat.can_ask

    async def _dial_to_ask(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        try:
            link = await self._host.dial(peer, addresses)
        except DialError:
            self._avoid(peer, Outcome.AWAY)
            return
        self._for_asking.add(link)
        link.closed.add_done_callback(lambda done: self._for_asking.discard(link))
        await self._host.statement_of(link)

    def _let_go(self) -> None:
        """Have what was dialled for a check closed, as soon as nobody uses it."""
        for link in self._for_asking:
            if self._keeper.outcome(link.peer_id) is None:
                self._host.circuits.disclaim(link)
            else:
                self._keeper.own(link)
        self._for_asking.clear()

    def _judge(self, found: Sequence[AddressReachability]) -> None:
        own = [address for address in self._host.listen_addresses if not address.is_circuit]
        hosts = {ipaddress.ip_address(address.host) for address in own if address.host is not None}
        # whoever listens on loopback alone does not want to be reached
        seen_at = () if all(map(is_loopback, own)) else self._host.observed.believed
        finding = what_follows(found, seen_at, hosts)
        before = self.standing.believed
        self.standing = after_check(self.standing, finding, self._loop.time(), self._rng)
        if self.standing.believed is not before:
            reachable = self.standing.believed is Finding.REACHABLE
            self._emit(ReachabilityChanged(reachable, _describe(found), len(self._candidates())))
            self._look()

    # -- relays -----------------------------------------------------------------------------------------------------

    def _look_within(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._look_at is not None:
            if self._look_at.when() <= when:
                return
            self._look_at.cancel()
        self._look_at = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """See what has come of the relays that are used, and use what is right now."""
        if self._look_at is not None:
            self._look_at.cancel()
            self._look_at = None
        if self.standing.believed is not Finding.UNREACHABLE:
            self._use([], {})
            return
        now = self._loop.time()
        chosen = {peer: self._seen(peer, use, now) for peer, use in self._used.items()}
        elsewhere = [self._keeper.outcome(peer) for peer in self._keeper.configured]
        relays = {each.peer: each for each in self._candidates()}
        wanted = revise(
            chosen, elsewhere.count(Outcome.RESERVED), self._eligible(relays.values()), now, self._rng
        )
        for peer, each in chosen.items():
            if peer not in wanted and each.is_lost(now):
                self._avoid(peer, each.outcome)
        self._use(wanted, {peer: each.addresses for peer, each in relays.items()})
        self._look_within(LOOK)

    def _seen(self, peer: PeerId, use: _Use, now: float) -> Chosen:
        outcome = self._keeper.outcome(peer) or Outcome.TRYING
        if outcome is not use.outcome:
            use.outcome, use.patience_ends = outcome, now + self._rng.uniform(*PATIENCE)
        return Chosen(use.outcome, use.patience_ends)

    def _use(self, wanted: Sequence[PeerId], addresses: Mapping[PeerId, Sequence[Multiaddr]]) -> None:
        """Have the keeper keep these; one of which no source tells any more stays where it was."""
        now = self._loop.time()
        before = self._used
        self._used = {
            peer: before.get(peer) or _Use(Outcome.TRYING, (), now + self._rng.uniform(*PATIENCE))
            for peer in wanted
        }
        for peer, use in self._used.items():
            use.addresses = addresses.get(peer, use.addresses)
        if self._used or before:
            self._keeper.choose({peer: use.addresses for peer, use in self._used.items()})

    def _eligible(self, relays: Iterable[Candidate]) -> list[Candidate]:
        now = self._loop.time()
        return [
            each
            for each in relays
            if each.addresses
            and each.peer != self._host.peer_id
            and each.peer not in self._keeper.configured
            and self._avoided.get(each.peer, now) <= now
        ]

    def _avoid(self, peer: PeerId, outcome: Outcome) -> None:
        span = AVOID_REFUSED if outcome is Outcome.REFUSED else AVOID_AWAY
        self._avoided.pop(peer, None)
        self._avoided[peer] = self._loop.time() + self._rng.uniform(*span)
        while len(self._avoided) > MAX_AVOIDED:
            del self._avoided[next(iter(self._avoided))]


def _describe(found: Sequence[AddressReachability]) -> str:
    if not found:
        return "it is seen at a public address at which it does not listen"
    return ", ".join(f"{each.address} is {each.verdict}" for each in found)
