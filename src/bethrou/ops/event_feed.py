"""Events for more than one: the log always, and whoever watches for as long as they watch."""

from __future__ import annotations

from collections.abc import Callable

from bethrou.events import Emit, Event


class EventFeed:
    """An `Emit` that passes each event on to `log` and then to the subscribers, in the order in which they came."""

    def __init__(self, log: Emit) -> None:
        self._log = log
        self._subscribers: dict[object, Emit] = {}

    def __call__(self, event: Event) -> None:
        """Pass `event` on."""
        self._log(event)
        if self._subscribers:
            for callback in list(self._subscribers.values()):
                callback(event)

    def subscribe(self, callback: Emit) -> Callable[[], None]:
        """Have `callback` called with each event until the function that is returned is called."""
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe
