"""Asking the system's own resolver, getaddrinfo, with everything that nsswitch.conf says.

getaddrinfo blocks, for up to half a minute when no server answers, and cannot be interrupted. So it runs in
threads of its own: a bounded number, and none of those that uvloop or asyncio need for other things. While
more names than threads go unanswered, further look-ups wait; that is why c-ares is the default.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeAlias

from bethrou.errors import Failure, RequestError
from bethrou.proxy.name_source import (
    MAX_ADDRESSES,
    MAX_LOOKUPS,
    Address,
    Answer,
    no_such_host,
    too_many_lookups,
)

THREADS = 64
"""Most look-ups at work at the same time. A waiting thread costs some 30 KiB."""

TTL = 10.0
"""How long an answer is kept, in seconds: getaddrinfo does not tell."""

GetAddrInfo: TypeAlias = Callable[[str], list[tuple[Any, ...]]]
Job: TypeAlias = tuple[str, "asyncio.Future[tuple[Address, ...]]"]

_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})


def system_getaddrinfo(name: str) -> list[tuple[Any, ...]]:
    """Call the system's getaddrinfo for TCP."""
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


class SystemSource:
    """Looks names up with getaddrinfo in daemon threads: one that hangs does not keep the program from ending."""

    def __init__(self, getaddrinfo: GetAddrInfo = system_getaddrinfo, threads: int = THREADS) -> None:
        """Needs a running loop. Threads are started when they are needed."""
        self._loop = asyncio.get_running_loop()
        self._getaddrinfo = getaddrinfo
        self._max_threads = threads
        self._threads = 0
        self._unfinished = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    async def look_up(self, name: str) -> Answer:
        """Find the addresses of a name, in the system's order. Raises RequestError."""
        if self._unfinished >= self._max_threads + MAX_LOOKUPS:
            raise too_many_lookups(name)
        future: asyncio.Future[tuple[Address, ...]] = self._loop.create_future()
        self._unfinished += 1
        if self._threads < min(self._unfinished, self._max_threads):
            self._threads += 1
            threading.Thread(target=self._work, name="bethrou-getaddrinfo", daemon=True).start()
        self._jobs.put((name, future))
        try:
            addresses = await future
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_NAME:
                raise no_such_host(name) from error
            raise RequestError(Failure.INTERNAL, f"lookup {name}: {error.strerror}") from error
        except (OSError, UnicodeError) as error:
            raise RequestError(Failure.INTERNAL, f"lookup {name}: {error}") from error
        if not addresses:
            raise no_such_host(name)
        return Answer(addresses, TTL)

    async def close(self) -> None:
        """Let the threads end: idle ones at once, others when getaddrinfo returns."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            name, future = job
            result: tuple[Address, ...] | OSError | UnicodeError = ()
            if not future.cancelled():
                result = self._call(name)
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                self._loop.call_soon_threadsafe(self._finish, future, result)

    def _call(self, name: str) -> tuple[Address, ...] | OSError | UnicodeError:
        try:
            entries = self._getaddrinfo(name)
        except (OSError, UnicodeError) as error:
            return error
        found = dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries)
        return tuple(found)[:MAX_ADDRESSES]

    def _finish(
        self,
        future: asyncio.Future[tuple[Address, ...]],
        result: tuple[Address, ...] | OSError | UnicodeError,
    ) -> None:
        self._unfinished -= 1
        if future.done():
            return
        if isinstance(result, tuple):
            future.set_result(result)
        else:
            future.set_exception(result)
