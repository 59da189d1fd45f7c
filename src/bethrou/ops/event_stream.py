"""Events for one subscriber of the control socket, as server-sent events (WHATWG HTML, 9.2), in a bounded queue."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable

from bethrou.events import Event
from bethrou.ops.json_text import to_json

CONTENT_TYPE = "text/event-stream"

MAX_WAITING = 1024
"""Events that wait for a subscriber who does not read; a busy exit has as many in a third of a second."""

DROPPED = "dropped"
"""Name of the event that says how many are missing in its place."""

_WORD_BEGINS = re.compile(r"(?<!^)(?=[A-Z])")


def event_name(event: Event) -> str:
    """What an event is called outside: `RequestEnded` is `request_ended`."""
    return _WORD_BEGINS.sub("_", type(event).__name__).lower()


class EventStream:
    """What one subscriber has not been sent yet. `clock` gives the time of day in seconds."""

    def __init__(self, clock: Callable[[], float], limit: int = MAX_WAITING) -> None:
        self._clock = clock
        self._limit = limit
        self._waiting: deque[tuple[float, Event]] = deque()
        self._dropped = 0
        self._ended = False
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        """One more event: it is kept for the subscriber, or counted when too many are."""
        if len(self._waiting) < self._limit:
            self._waiting.append((self._clock(), event))
        else:
            self._dropped += 1
        self._news.set()

    def end(self) -> None:
        """There is nobody to send to any more."""
        self._ended = True
        self._news.set()

    async def next_piece(self) -> bytes | None:
        """What has happened since the last call, as text of the stream; None at its end."""
        await self._news.wait()
        self._news.clear()
        if self._ended:
            return None
        lines = [_message(event_name(event), time, event) for time, event in self._waiting]
        self._waiting.clear()
        if self._dropped:
            lines.append(_dropped(self._clock(), self._dropped))
            self._dropped = 0
        return b"".join(lines)


def _message(name: str, time: float, event: Event) -> bytes:
    fields = to_json(event).removeprefix(b"{")
    return b'event: %b\ndata: {"event":"%b","time":%.3f,%b\n\n' % (name.encode(), name.encode(), time, fields)


def _dropped(time: float, count: int) -> bytes:
    data = {"event": DROPPED, "time": round(time, 3), "count": count}
    return b"event: %b\ndata: %b\n\n" % (DROPPED.encode(), to_json(data))
