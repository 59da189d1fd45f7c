"""The last-known-good list: members that were reached before, kept on disk, so that a program that starts again finds
its network although Redis is away and every address in its configuration is dead.

Reading and writing happen in a thread: an fsync on a busy disk takes seconds, and requests are not to wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bethrou.atomic_file import replace_file
from bethrou.discovery import cache_file
from bethrou.discovery.cache_file import MAX_ADDRESSES, MAX_FILE, MAX_MEMBERS, CacheFile, Good
from bethrou.discovery.directory import STATIC, Directory, dialable
from bethrou.discovery.source import Sighting
from bethrou.errors import DecodeError
from bethrou.net.tasks import Tasks
from bethrou.printable import printable
from bethrou.snapshots import SourceSnapshot
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord
from bethrou.wire.peer_id import PeerId

SOURCE = "cache"

CACHE_NAME = "cache.json"
"""The file in a program's state directory."""

WRITE_INTERVAL = 30.0
"""Seconds between two writes at least; the last one is at the end of the program."""

LIFETIME = 30 * 86400.0
"""Seconds for which a member that was good is a hint, whatever has expired since: a vacation, and then some."""

STEP = 3600.0
"""Seconds after which it is worth a write that a member is still good."""


class Cache:
    """The list in the file `path`: it reminds `directory` of those in it, and takes those that are good now.

    `clock` gives Unix time in seconds; `warn` takes a line when the file is damaged or cannot be written.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        directory: Directory,
        clock: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._directory = directory
        self._clock = clock
        self._warn = warn
        self._tasks = Tasks(loop)
        self._good: dict[PeerId, Good] = {}
        """At most MAX_MEMBERS, those that were good last at the end."""
        self._loaded = False
        """Whether the file has been read, and may be written."""
        self._changed = asyncio.Event()
        """Set while the file does not say what is known here."""
        self._using_file = asyncio.Lock()
        """Held while a thread reads or writes: it cannot be stopped, and two writers would race."""
        self._read = 0
        self._damaged = 0
        self._problem = ""

    def start(self) -> None:
        """Begin: what is in the file is told as soon as it has been read."""
        self._tasks.start(self._run(), "last-known-good list")

    async def close(self) -> None:
        """Write what has changed, and end."""
        async with self._using_file:
            await self._tasks.close()
        if self._loaded and self._changed.is_set():
            await self._write()

    def note_good(self, peer: PeerId, address: Multiaddr) -> None:
        """`peer` has been reached at `address`. To be called when a link is up, and now and then while it lasts.

        Members that only the configuration names are not kept: whoever takes one out there does not expect it here.
        """
        entry = self._directory.entries.get(peer)
        if entry is not None and STATIC in entry.sources and {*entry.sources} <= {STATIC, SOURCE}:
            self.forget(peer)
            return
        before = self._good.get(peer)
        known = () if before is None else before.addresses
        record = before.record if before is not None else None
        if entry is not None and entry.record is not None:
            record = entry.record
        addresses = tuple(dict.fromkeys((address.without_peer(), *known)))[:MAX_ADDRESSES]
        self._note(Good(peer, self._clock(), addresses, record), before)

    def forget(self, peer: PeerId) -> None:
        """Remind nobody of `peer`, until it is good again."""
        if self._good.pop(peer, None) is not None:
            self._changed.set()
        self._directory.gone(SOURCE, peer)

    def snapshot(self) -> SourceSnapshot:
        """How it is doing."""
        return SourceSnapshot(
            name=SOURCE,
            ok=not self._problem,
            detail=self._problem or f"keeps those that were reached in {printable(str(self._path))}",
            known=len(self._good),
            heard=self._read,
            skipped=self._damaged,
            silent_for=None,
        )

    def _note(self, good: Good, before: Good | None) -> None:
        # The last one stays as it is in the file when only a little time has passed.
        if before is not None and replace(before, at=good.at) == good and 0 <= good.at - before.at < STEP:
            return
        self._good.pop(good.peer, None)
        self._good[good.peer] = good
        self._trim()
        self._changed.set()

    def _trim(self) -> None:
        for peer in list(self._good)[: max(0, len(self._good) - MAX_MEMBERS)]:
            del self._good[peer]

    # -- the file ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._load()
        while True:
            await self._changed.wait()
            await self._write()
            await asyncio.sleep(WRITE_INTERVAL)

    async def _load(self) -> None:
        async with self._using_file:
            found, damage = await self._loop.run_in_executor(None, _read_file, self._path)
        self._loaded = True
        self._read, self._damaged = len(found.members), found.damaged
        if damage:
            self._problem = damage
            self._warn(damage)
            self._changed.set()
        self._remember(found)

    def _remember(self, found: CacheFile) -> None:
        """Take over what is in the file; what has been noted meanwhile is newer."""
        now = self._clock()
        # A clock that was set back since must not make anything good for longer.
        members = [(replace(good, at=min(good.at, now)), record) for good, record in found.members]
        members = [(good, record) for good, record in members if now - good.at < LIFETIME]
        members.sort(key=lambda member: member[0].at)
        self._good = {good.peer: good for good, _ in members if good.peer not in self._good} | self._good
        self._trim()
        for good, record in members:
            self._directory.seen(_sighting(good, record, now))

    async def _write(self) -> None:
        async with self._using_file:
            self._changed.clear()
            members = tuple(self._good.values())
            try:
                await self._loop.run_in_executor(None, _write_file, self._path, members)
            except (OSError, ValueError) as error:
                self._failed(error)
            else:
                self._problem = ""

    def _failed(self, error: OSError | ValueError) -> None:
        """Try again at the next turn, and say so once."""
        self._changed.set()
        problem = f"{printable(str(self._path))}: cannot be written: {_reason(error)}"
        if problem != self._problem:
            self._problem = problem
            self._warn(problem)


def _sighting(good: Good, record: NodeRecord | None, now: float) -> Sighting:
    """What the file says of a member. An expired record still is a hint, but nothing to pass on."""
    hint = Sighting(SOURCE, good.peer, good.addresses, expires=good.at + LIFETIME)
    if record is None:
        return hint
    return replace(
        hint,
        addresses=(*good.addresses, *dialable(record.addrs, from_loopback=False)),
        name=record.name,
        tags=record.tags,
        roles=record.roles,
        agent=record.agent,
        seq=record.seq,
        record=None if record.expired(now) else good.record,
    )


# -- in a thread -----------------------------------------------------------------------------------------------


def _read_file(path: Path) -> tuple[CacheFile, str]:
    """Return what the file says, and what is wrong with it, or "". A damaged one is put aside, not lost."""
    found = CacheFile()
    try:
        with path.open("rb") as file:
            found = cache_file.decode(file.read(MAX_FILE + 1))
    except FileNotFoundError:
        return found, ""
    except (OSError, ValueError, DecodeError) as error:
        damage = f"cannot be used: {_reason(error)}"
    else:
        if not found.damaged:
            return found, ""
        damage = f"has {found.damaged} entries that make no sense"
    aside = path.with_name(f"{path.name}.bad")
    with contextlib.suppress(OSError):
        path.replace(aside)
        damage += f"; kept as {printable(aside.name)}"
    return found, f"{printable(str(path))}: {damage}"


def _write_file(path: Path, members: tuple[Good, ...]) -> None:
    replace_file(path, cache_file.encode(members))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
