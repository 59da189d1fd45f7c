"""Sessions: `session=ANY` in a user name keeps the same exit for all requests of that user and session.

While the exit lives, that is: when it is no candidate any more, or failed the request, the session moves to another
one and stays there. A pure table; the time is passed in, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

DEFAULT_TTL = 600.0
"""Seconds after its last use for which a session keeps its exit, unless the user name says `ttl`."""

MAX_SESSIONS = 10_000
"""Sessions kept; then the one that was not used for the longest time goes. Some 3 MB."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session's exit."""

    peer: str
    expires: float
    """When it ends, unless it is used before."""


class Sessions:
    """The sessions of a client. What a user calls a session is that user's own."""

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._table: OrderedDict[tuple[str, str], Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def find(self, user: str, session: str, now: float) -> Session | None:
        """The session, or None when there is none or its time is over. Looking is no use of it."""
        kept = self._table.get((user, session))
        return kept if kept is not None and now < kept.expires else None

    def keep(self, user: str, session: str, peer: str, now: float, ttl: float | None = None) -> None:
        """Use the session, with the exit `peer` from now on; it ends `ttl` seconds later."""
        key = (user, session)
        self._table[key] = Session(peer, now + (DEFAULT_TTL if ttl is None else ttl))
        self._table.move_to_end(key)
        if len(self._table) > self._limit:
            self._table.popitem(last=False)
