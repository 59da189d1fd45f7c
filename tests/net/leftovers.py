"""What must not be left when a host is closed: tasks and descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from net.clock import turns

_FDS = Path("/proc/self/fd")
_SPARE = "/dev/null"
"""uvloop keeps one open, from the first time that it accepts something."""


def descriptors() -> dict[str, str]:
    """Every open descriptor of this process and what it is, without what belongs to the event loop."""
    found = {}
    for entry in list(_FDS.iterdir()):
        try:
            what = str(entry.readlink())
        except FileNotFoundError:
            continue  # that of the listing itself
        if what != _SPARE and not _is_loops_own(int(entry.name), what):
            found[entry.name] = what
    return found


def _is_loops_own(number: int, what: str) -> bool:
    """Loops wake themselves through a pair of Unix sockets; uvloop has a new one each time it runs."""
    if not what.startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(number)) as sock:
        return sock.family == socket.AF_UNIX


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Afterwards there is no task and no descriptor that was not there before."""
    tasks, files = asyncio.all_tasks(), descriptors()
    yield
    await turns()
    remaining = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    assert not remaining, remaining
    left = {number: what for number, what in descriptors().items() if files.get(number) != what}
    assert not left, left
