"""The exit that `fastest` stays with: noise must not move requests from one exit to another and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bethrou.proxy.candidates import Candidate

FASTER_SHARE = 0.2
FASTER_BY = 0.010
"""Share and seconds by which another exit has to be faster than the favourite of `fastest`: the greater one counts."""

FASTER_FOR = 45.0
"""Seconds for which it has to be so: as long as nine pings take, of which a round trip is the median. All measurements
behind the verdict have become other ones by then."""

SETTLING = 10.0
"""Seconds in which a new favourite gives way at once: when a client starts, the first exit up need not be the best."""


@dataclass(frozen=True, slots=True)
class Favourite:
    """An exit and what speaks against it."""

    peer: str
    since: float
    """When one was chosen because there was none, or the former one was not healthy any more."""
    beaten_since: float | None = None
    """Since when another exit has been faster by enough; None: none is."""


def next_favourite(ranked: Sequence[Candidate], known: Favourite | None, now: float) -> Favourite | None:
    """The favourite among candidates in the order of rank and round trip; `known` is the one until now.

    Exits on probation are none: they first have to take a request.
    """
    steady = [candidate for candidate in ranked if not candidate.trial]
    if not steady:
        return None
    fastest = steady[0]
    current = None if known is None else _find(steady, known)
    if known is None or current is None or current.rank > fastest.rank:
        return Favourite(fastest.peer, now)
    if not _faster_by_enough(fastest, current):
        return Favourite(current.peer, known.since)
    beaten_since = now if known.beaten_since is None else known.beaten_since
    if now - known.since < SETTLING or now - beaten_since >= FASTER_FOR:
        return Favourite(fastest.peer, known.since)
    return Favourite(current.peer, known.since, beaten_since)


def better_trial(ranked: Sequence[Candidate], favourite: Favourite | None) -> Candidate | None:
    """An exit on probation that would be a better one than the favourite, if there is any: it is tried."""
    current = None if favourite is None else _find(ranked, favourite)
    for candidate in ranked:
        if candidate.trial and (
            current is None or candidate.rank < current.rank or _faster_by_enough(candidate, current)
        ):
            return candidate
    return None


def _find(candidates: Sequence[Candidate], favourite: Favourite) -> Candidate | None:
    return next((candidate for candidate in candidates if candidate.peer == favourite.peer), None)


def _faster_by_enough(candidate: Candidate, current: Candidate) -> bool:
    lead = current.round_trip - candidate.round_trip
    return lead > max(FASTER_SHARE * current.round_trip, FASTER_BY)
