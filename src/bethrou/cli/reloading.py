"""When a running program obeys its configuration anew: at SIGHUP, a change of the file, or a request for it.

A file that is wrong changes nothing; the log says which line.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bethrou.cli.lifecycle import on_terminal
from bethrou.errors import UserError
from bethrou.net.tasks import Tasks
from bethrou.ops.logs import Logger

LOOK = 1.0
"""Seconds between two looks at a file that is watched."""


class Reloading:
    """Calls `reload` at SIGHUP and whenever `now` is called, one after the other, and logs what came of it.

    On a terminal SIGHUP means that the terminal is gone, which ends the program (lifecycle.py).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reload: Callable[[], Awaitable[Sequence[str]]],
        log: Logger,
    ) -> None:
        self._loop = loop
        self._reload = reload
        self._log = log
        self._tasks = Tasks(loop)
        self._one_at_a_time = asyncio.Lock()
        self._waiting = False
        """Whether one has been asked for that has not begun: it will read what the file says then."""
        self._handles_signal = not on_terminal()
        if self._handles_signal:
            loop.add_signal_handler(signal.SIGHUP, self.now)

    def now(self) -> None:
        """Obey the configuration anew."""
        if not self._waiting:
            self._waiting = True
            self._tasks.start(self._run(), "reload")

    async def close(self) -> None:
        """Reload no more."""
        if self._handles_signal:
            self._loop.remove_signal_handler(signal.SIGHUP)
        await self._tasks.close()

    async def _run(self) -> None:
        async with self._one_at_a_time:
            self._waiting = False
            try:
                lines = await self._reload()
            except UserError as error:
                self._log.error("configuration not obeyed, all stays as it is", reason=str(error))
                return
        for line in lines or ["nothing has changed"]:
            self._log.info(f"configuration obeyed anew: {line}")


class FileWatch:
    """Calls `changed` when the file `path` is another one than before, while `wanted` says so.

    It is looked at once a second, by its time, size and number: editors replace files in so many ways that a
    subscription would miss some. One that is another one at each look is still being written: it is waited for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        wanted: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._wanted = wanted
        self._changed = changed
        self._obeyed = self._last = self._look_at_it()
        self._timer = loop.call_later(LOOK, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK, self._look)
        seen, before = self._look_at_it(), self._last
        self._last = seen
        if seen is None or seen != before or seen == self._obeyed:
            return
        self._obeyed = seen
        if self._wanted():
            self._changed()

    def _look_at_it(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:  # between two versions, or gone: what was obeyed stays
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
