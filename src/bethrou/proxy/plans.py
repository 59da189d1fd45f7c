"""What a strategy is given and what it gives: the request, what is remembered, and the plan."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from bethrou.config.fields import StickyBy
from bethrou.proxy.candidates import ANY_EXIT, Candidate, Scope
from bethrou.proxy.favourite import Favourite

MAX_ATTEMPTS = 3
"""Exits that one request tries at most."""

MAX_REMEMBERED = 16_384
"""Exits whose last turn is remembered, and scopes whose favourite is: more than are known at a time."""

K = TypeVar("K")
V = TypeVar("V")


class Wanted(NamedTuple):
    """What a strategy has to know of the request."""

    host: str = ""
    """The destination's name or address."""
    user: str = ""
    """Who asks; "" for nobody."""
    scope: Scope = ANY_EXIT
    """What the candidates were narrowed to; `fastest` has a favourite for each scope."""
    session: str | None = None
    pinned: str | None = None
    """The peer ID of the exit on which the session is kept, if it is kept already."""
    sticky_by: StickyBy = StickyBy.DESTINATION


class Plan(NamedTuple):
    """The order in which exits are asked, and why."""

    strategy: str
    ranked: tuple[Candidate, ...]
    """All candidates, the one to be asked first at the front."""
    describe: Callable[[Candidate], str]
    """What put a candidate in its place, for people."""
    scope: Scope = ANY_EXIT
    favourite: Favourite | None = None
    """What `fastest` is to remember."""

    @property
    def order(self) -> tuple[Candidate, ...]:
        """The exits that the request tries."""
        return self.ranked[:MAX_ATTEMPTS]


class Memory:
    """What the strategies remember from one request to the next. Planning only reads it."""

    def __init__(self) -> None:
        self._turn = 0
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._favourites: OrderedDict[Scope, Favourite] = OrderedDict()

    def asked(self, plan: Plan, peer: str) -> None:
        """A request with this plan is sent to the exit `peer`: to be called for each attempt."""
        self._turn += 1
        _remember(self._turns, peer, self._turn)
        # at a later attempt the plan is seconds old, and other requests may have found another favourite
        if plan.favourite is not None and peer == plan.ranked[0].peer:
            _remember(self._favourites, plan.scope, plan.favourite)

    def age(self, peer: str) -> float:
        """How many requests were sent since the exit's last one, that included; infinite if there was none."""
        turn = self._turns.get(peer)
        return float("inf") if turn is None else self._turn - turn + 1

    def favourite(self, scope: Scope) -> Favourite | None:
        """The favourite among the exits of `scope`."""
        return self._favourites.get(scope)


def _remember(table: OrderedDict[K, V], key: K, value: V) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > MAX_REMEMBERED:
        table.popitem(last=False)
