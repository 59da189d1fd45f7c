"""Which exits a request tries, and in which order: pure functions of candidates, memory, time and chance.

I/O comes after. Whatever the strategy, suspects are asked last, and none is dropped, so that the last hope is still
tried; all but `sticky` ask slow exits after healthy ones. A suspect on probation stands in its ordinary place for one
request at a time. A session asks the exit that it is kept on first, whatever the strategy.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from bethrou.config.fields import StickyBy
from bethrou.proxy.candidates import Candidate
from bethrou.proxy.favourite import Favourite, better_trial, next_favourite
from bethrou.proxy.health import State
from bethrou.proxy.plans import Memory, Plan, Wanted

STABLE = 30.0
"""Seconds that an exit has to be healthy before `ordered` goes back to it from one behind it."""

HEAVIEST = 4.0
"""How many times as often `least-loaded` asks an exit that says it has nothing to do as one that says it is full."""


class Case(NamedTuple):
    """All that a strategy decides by."""

    candidates: Sequence[Candidate]
    wanted: Wanted
    memory: Memory
    now: float
    rng: random.Random


class Ranking(NamedTuple):
    """A strategy's answer."""

    ranked: Sequence[Candidate]
    describe: Callable[[Candidate], str]
    favourite: Favourite | None = None


def plan(
    strategy: str,
    candidates: Sequence[Candidate],
    wanted: Wanted,
    memory: Memory,
    now: float,
    rng: random.Random,
) -> Plan:
    """How a request is to be sent. Nothing is remembered before `Memory.asked` is told that it was."""
    if len(candidates) == 1 and wanted.session is None and strategy not in _HAVE_FAVOURITES:
        # the usual client knows one exit
        return Plan(strategy, tuple(candidates), _ONLY_ONE, wanted.scope)
    ranking = STRATEGIES[strategy](Case(candidates, wanted, memory, now, rng))
    if wanted.session is not None and candidates:
        ranking = _in_session(ranking, wanted)
    return Plan(
        strategy,
        tuple(ranking.ranked),
        partial(_describe, ranking),
        wanted.scope,
        ranking.favourite,
    )


# -- the strategies ---------------------------------------------------------------------------------------------------


def random_order(case: Case) -> Ranking:
    """`random`: any exit, each as often as another.

    Spreads load and traces without remembering anything. Takes no notice of distance, so that half of the requests
    are slower than they need to be.
    """
    drawn = list(case.candidates)
    case.rng.shuffle(drawn)
    return Ranking(_by_rank(drawn), _drawn_by_chance)


def _drawn_by_chance(_candidate: Candidate) -> str:
    return "drawn by chance"


def round_robin_order(case: Case) -> Ranking:
    """`round-robin`: each in its turn, which is when it was asked longest ago.

    The most even spread, also when exits come and go and when some requests may use only a few of them. An exit that
    is new is asked at once. Takes no notice of distance or load; one page's connections leave by many addresses,
    which some sites dislike.
    """
    age = {candidate.peer: case.memory.age(candidate.peer) for candidate in case.candidates}
    ranked = sorted(case.candidates, key=lambda candidate: (candidate.rank, -age[candidate.peer]))

    def describe(candidate: Candidate) -> str:
        requests = age[candidate.peer]
        return "never asked yet" if requests == float("inf") else f"last asked {requests:.0f} requests ago"

    return Ranking(ranked, describe)


def fastest_order(case: Case) -> Ranking:
    """`fastest` (also `latency`): the shortest round trip to the exit, and then staying there.

    There is a favourite. Another exit takes its place when its round trip has been shorter by 20 %, and by 10 ms at
    least, for 45 s, or at once when the favourite is no longer healthy or was chosen less than 10 s ago. So noise
    moves nothing, and nearly all requests leave by one address; but the others idle, and one that is just a little
    faster is never used. What lies behind the exit is not measured.
    """
    ranked = sorted(case.candidates, key=lambda candidate: (candidate.rank, candidate.round_trip))
    favourite = next_favourite(ranked, case.memory.favourite(case.wanted.scope), case.now)
    trial = better_trial(ranked, favourite)
    favoured = None if favourite is None else favourite.peer
    ranked.sort(key=lambda candidate: (candidate is not trial, candidate.rank, candidate.peer != favoured))

    def describe(candidate: Candidate) -> str:
        words = f"round trip {candidate.round_trip * 1000:.1f} ms"
        if favourite is None or candidate.peer != favourite.peer:
            return words
        if favourite.beaten_since is None:
            return f"{words}, the favourite"
        return f"{words}, the favourite, but beaten for {case.now - favourite.beaten_since:.0f} s"

    return Ranking(ranked, describe, favourite)


def ordered_order(case: Case) -> Ranking:
    """`ordered`: the first healthy exit in the order of the configuration; discovered ones stand behind.

    For a main exit and its stand-ins. After an outage the main exit is used again when it has been healthy for 30 s,
    or at once if the stand-in has not been healthy for much longer itself. One exit carries everything.
    """
    ranked = sorted(
        case.candidates, key=lambda candidate: (candidate.rank, candidate.preference, candidate.peer)
    )
    first = _first_in_order(ranked)
    ranked.sort(key=lambda candidate: candidate is not first)

    def describe(candidate: Candidate) -> str:
        words = f"place {candidate.preference + 1} in the order"
        if first is None or candidate.rank > first.rank or candidate.preference >= first.preference:
            return words
        return (
            f"{words}, healthy for {candidate.stable_for:.0f} s of the {STABLE:.0f} s before it is used again"
        )

    return Ranking(ranked, describe)


def least_loaded_order(case: Case) -> Ranking:
    """`least-loaded`: drawn by chance, more often the less an exit says it has to do, and the less we have on it.

    What an exit says (processor, requests of its limit) counts between 1 and 4 and no more, because nothing proves
    it: one that claims to be idle gets four times the share of one that is full, never all. Our own live requests on
    it, which we know, divide its weight. Takes no notice of distance; an exit that says nothing counts as half busy.
    """
    drawn = {candidate.peer: case.rng.expovariate(_weight(candidate)) for candidate in case.candidates}
    ranked = sorted(case.candidates, key=lambda candidate: (candidate.rank, drawn[candidate.peer]))

    def describe(candidate: Candidate) -> str:
        return f"weight {_weight(candidate):.2f}: {_load(candidate)}, {candidate.streams} requests of ours"

    return Ranking(ranked, describe)


def sticky_order(case: Case) -> Ranking:
    """`sticky`: the same exit for the same destination, or for the same user (`sticky_by`), on every client.

    The exit with the lowest hash of key and peer ID (rendezvous hashing). When an exit goes, only what was on it
    moves, to the others evenly, and comes back with it. Sites see one address. Takes no notice of distance, load or
    slowness, and a popular destination stays on one exit. With `sticky_by: user`, nobody is a user like any other.
    """
    wanted = case.wanted
    by_user = wanted.sticky_by is StickyBy.USER
    key = wanted.user if by_user else wanted.host.lower().removesuffix(".")
    ranked = sorted(
        case.candidates, key=lambda candidate: (_is_suspect(candidate), _hash(key, candidate.peer))
    )
    what = "user" if by_user else "destination"
    return Ranking(ranked, lambda candidate: f"by the hash of {what} and exit")


STRATEGIES: dict[str, Callable[[Case], Ranking]] = {
    "random": random_order,
    "round-robin": round_robin_order,
    "fastest": fastest_order,
    "latency": fastest_order,  # what the Go program's code calls it
    "ordered": ordered_order,
    "least-loaded": least_loaded_order,
    "sticky": sticky_order,
}

_HAVE_FAVOURITES = ("fastest", "latency")


# -- what they are made of --------------------------------------------------------------------------------------------


def _in_session(ranking: Ranking, wanted: Wanted) -> Ranking:
    """The order for a request of a session: its exit, or the strategy's first one, and then always the same ones.

    So requests of a session that fail together move to the same exit.
    """
    pinned = next((candidate for candidate in ranking.ranked if candidate.peer == wanted.pinned), None)
    first = pinned or ranking.ranked[0]
    key = f"{wanted.user}\0{wanted.session}"
    ranked = sorted(
        ranking.ranked,
        key=lambda candidate: (candidate is not first, candidate.rank, _hash(key, candidate.peer)),
    )

    def describe(candidate: Candidate) -> str:
        if candidate is first:
            return "the session is kept on it" if pinned else ranking.describe(candidate)
        return "by the hash of session and exit"

    return Ranking(ranked, describe, ranking.favourite if pinned is None else None)


def _describe(ranking: Ranking, candidate: Candidate) -> str:
    words = ranking.describe(candidate)
    if candidate.trial:
        return f"{words}; on probation: one request tries it"
    if candidate.state is State.HEALTHY:
        return words
    return (
        f"{words}; {candidate.state}, so asked {'last' if _is_suspect(candidate) else 'after healthy ones'}"
    )


_ONLY_ONE = partial(_describe, Ranking((), lambda candidate: "the only one that can be asked"))


def _by_rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: candidate.rank)


def _is_suspect(candidate: Candidate) -> bool:
    return candidate.state is State.SUSPECT and not candidate.trial


def _first_in_order(ranked: Sequence[Candidate]) -> Candidate | None:
    """The first that is not to be passed over.

    Passed over is one that came back lately, while one behind it has been healthy for much longer. As both grow
    older together, that ends only when the one has become stable or the other one fails: time alone flaps nothing.
    """
    for place, candidate in enumerate(ranked):
        if candidate.trial or candidate.stable_for >= STABLE:
            return candidate
        behind = (other.stable_for for other in ranked[place + 1 :] if other.rank == candidate.rank)
        if max(behind, default=0.0) - candidate.stable_for < STABLE:
            return candidate
    return None


def _weight(candidate: Candidate) -> float:
    return (HEAVIEST - (HEAVIEST - 1.0) * _busy(candidate)) / (1 + candidate.streams)


def _busy(candidate: Candidate) -> float:
    """0 for nothing to do, 1 for full, as the exit says."""
    load = candidate.load
    if load is None:
        return 0.5
    if load.limit is None:
        return min(1.0, load.cpu)
    of_limit = load.streams / load.limit if load.limit else 1.0
    return min(1.0, max(load.cpu, of_limit))


def _load(candidate: Candidate) -> str:
    load = candidate.load
    if load is None:
        return "says nothing of its load"
    limit = "" if load.limit is None else f" of {load.limit}"
    return f"says cpu {load.cpu * 100:.0f} %, {load.streams} requests{limit}"


def _hash(key: str, peer: str) -> bytes:
    return hashlib.blake2b(f"{key}\0{peer}".encode(), digest_size=8).digest()
