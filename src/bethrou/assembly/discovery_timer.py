"""What discovery has to do now and then: forget what is past its time, and tell of sources that fall ill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bethrou.discovery.directory import Directory
from bethrou.events import Emit, SourceChanged
from bethrou.snapshots import SourceSnapshot

LOOK = 1.0
"""Seconds between two looks: an exit that has fallen silent is gone within one of its end."""

ILL_FOR = 3
"""Looks in a row that a source has to be ill to be told of: a connection that is made anew is no news."""


class DiscoveryTimer:
    """Looks after `directory` and the sources whose `snapshots` it is given, until `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: Directory,
        snapshots: Callable[[], Sequence[SourceSnapshot]],
        emit: Emit,
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._snapshots = snapshots
        self._emit = emit
        self._ill: dict[str, int] = {}
        """For how many looks each source has been ill."""
        self._timer = loop.call_later(LOOK, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK, self._look)
        self._directory.expire()
        for source in self._snapshots():
            before = self._ill.get(source.name, 0)
            self._ill[source.name] = 0 if source.ok else before + 1
            if source.ok and before >= ILL_FOR:
                self._emit(SourceChanged(source.name, True, source.detail))
            elif not source.ok and before + 1 == ILL_FOR:
                self._emit(SourceChanged(source.name, False, source.detail))
