"""What the controls of a client and of a node have alike."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bethrou import __version__
from bethrou.assembly.diagnosis import Diagnosis
from bethrou.cli.own_files import NO_FILES, OwnFiles
from bethrou.events import Emit
from bethrou.net.autonat import Autonat
from bethrou.net.dcutr import Dcutr
from bethrou.net.host import Host
from bethrou.ops.event_feed import EventFeed
from bethrou.snapshots import ReachabilitySnapshot

Config = TypeVar("Config")


class ControlOfProgram:
    """The control of a program that emits its events to `feed`. `stop` ends the program as a signal would."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parts: tuple[Host, Autonat, Dcutr | None],
        network: str,
        feed: EventFeed,
        stop: Callable[[], None],
        files: OwnFiles = NO_FILES,
    ) -> None:
        self._loop = loop
        self._host = parts[0]
        self._network = network
        self._feed = feed
        self._stop = stop
        self._files = files
        self._one_at_a_time = asyncio.Lock()
        self._started = loop.time()
        self._diagnosis = Diagnosis(*parts, feed.subscribe, time.time_ns)

    async def close(self) -> None:
        """Find nothing out any more."""
        await self._diagnosis.close()

    async def reachability(self) -> ReachabilitySnapshot:
        """How it is reached. Raises NotOffered when that was asked a moment ago."""
        return await self._diagnosis.look()

    def drain(self) -> None:
        """Take nothing new, and end when what is carried has finished."""
        self._stop()

    def subscribe(self, callback: Emit) -> Callable[[], None]:
        """Have `callback` called with each event."""
        return self._feed.subscribe(callback)

    def _usual(self) -> dict[str, Any]:
        """The fields of a status that every program has."""
        return {
            "version": __version__,
            "id": str(self._host.peer_id),
            "network": self._network,
            "uptime": self._loop.time() - self._started,
            "config": self._files.config,
            "pid": os.getpid(),
            "key": self._files.key,
            "identity": self._files.identity,
        }

    async def _obey(
        self, read: Callable[[], Config], obey: Callable[[Config], Sequence[str]]
    ) -> Sequence[str]:
        """Obey what the file says now. Raises UserErrors; nothing has changed then."""
        async with self._one_at_a_time:
            # thousands of exits take a second to read, and what is carried should not wait for that
            return obey(await asyncio.to_thread(read))
