"""Has a directory forget what is past its time, when it is."""

from __future__ import annotations

import asyncio

from bethrou.discovery.directory import Directory

LOOK = 1.0
"""Seconds between two looks: an exit that has fallen silent is gone within one of its end."""


class ExpiryTimer:
    """Looks after `directory` until `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Directory) -> None:
        self._loop = loop
        self._directory = directory
        self._timer = loop.call_later(LOOK, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK, self._look)
        self._directory.expire()
