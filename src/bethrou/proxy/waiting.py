"""Requests that wait until an exit which they may use can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bethrou.proxy.candidates import Scope


@dataclass(frozen=True, slots=True)
class _Waiter:
    scope: Scope
    ready: asyncio.Future[None]


class WaitingRequests:
    """Those that wait; `can_serve` tells whether an exit within a scope can be asked now."""

    def __init__(self, loop: asyncio.AbstractEventLoop, can_serve: Callable[[Scope], bool]) -> None:
        self._loop = loop
        self._can_serve = can_serve
        self._waiters: set[_Waiter] = set()

    @property
    def scopes(self) -> set[Scope]:
        """What they wait for: few, although requests may be many."""
        return {waiter.scope for waiter in self._waiters}

    async def wait(self, scope: Scope, timeout: float, begun: Callable[[], None]) -> bool:
        """Wait until an exit within `scope` can be asked, at most `timeout` seconds. Whether one can.

        `begun` is called when it has to be waited for.
        """
        if self._can_serve(scope):
            return True
        waiter = _Waiter(scope, self._loop.create_future())
        self._waiters.add(waiter)
        begun()
        try:
            async with asyncio.timeout(timeout):
                await waiter.ready
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def look(self) -> None:
        """Something has changed: let those go on whose exit is there."""
        served = {scope for scope in self.scopes if self._can_serve(scope)}
        for waiter in [waiter for waiter in self._waiters if waiter.scope in served]:
            self._waiters.discard(waiter)
            if not waiter.ready.done():
                waiter.ready.set_result(None)
