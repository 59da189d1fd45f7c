"""The exits that a request may choose among: what is known of each, and which of them a request may use at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bethrou.proxy.health import State
from bethrou.snapshots import LoadSnapshot


class Candidate(NamedTuple):
    """An exit that could be asked now. (A tuple, because every request has some made.)"""

    peer: str
    round_trip: float = 0.0
    """Seconds, measured on the link (the median of the last ones)."""
    state: State = State.HEALTHY
    """Healthy, slow or suspect; exits in other states are no candidates."""
    trial: bool = False
    """Whether it is suspect, but one request may try it in its ordinary place (`Health.may_try`)."""
    preference: int = 0
    """Its place in the configured order; discovered ones stand behind."""
    load: LoadSnapshot | None = None
    """What it says of its load; a claim, which nothing proves."""
    streams: int = 0
    """Our own live requests on it."""
    stable_for: float = 0.0
    """Seconds that it has been healthy (`Health.stable_for`)."""
    name: str = ""
    """What it calls itself; a claim, too, and so are its tags."""
    tags: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """0 for those to be asked first: healthy ones and trials; then slow ones, then suspects."""
        return 0 if self.trial else self.state.rank


@dataclass(frozen=True, slots=True)
class Scope:
    """Which exits a request may use: those that every word of it fits. Without a word, all."""

    exits: tuple[str, ...] = ()
    """Names or full peer IDs."""
    tags: tuple[str, ...] = ()

    def narrowed(self, exit: str | None, tag: str | None) -> Scope:  # noqa: A002 - the product's word
        """This scope with an exit or a tag more; None adds nothing."""
        return Scope(_with(self.exits, exit), _with(self.tags, tag))

    def why_not(self, candidate: Candidate) -> str | None:
        """Why `candidate` is outside, for people, or None."""
        for exit_ in self.exits:
            if exit_ not in (candidate.peer, candidate.name or candidate.peer):
                return f"is not the exit {exit_}"
        for tag in self.tags:
            if tag not in candidate.tags:
                return f"has no tag {tag}"
        return None

    def __str__(self) -> str:
        return ", ".join([*(f"exit={exit_}" for exit_ in self.exits), *(f"tag={tag}" for tag in self.tags)])


ANY_EXIT = Scope()


def eligible(candidates: Sequence[Candidate], scope: Scope) -> list[Candidate]:
    """The candidates that a request may use."""
    if scope == ANY_EXIT:
        return list(candidates)
    return [candidate for candidate in candidates if scope.why_not(candidate) is None]


def _with(words: tuple[str, ...], word: str | None) -> tuple[str, ...]:
    return words if word is None or word in words else (*words, word)
