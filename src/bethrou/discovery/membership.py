"""The member book of a running program: kept on disk, and told to whoever has to act on it.

What a node has admitted is on disk before the device hears of it, so that no restart makes an invite good again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bethrou.atomic_file import replace_file
from bethrou.discovery.member_book import MAX_FILE, MemberBook
from bethrou.errors import DecodeError, KeyFileError
from bethrou.events import Emit, MemberJoined, MemberListTaken, MemberListUnwritten
from bethrou.net.tasks import Tasks
from bethrou.printable import printable
from bethrou.wire.grant import Admission
from bethrou.wire.member_exchange import Kind
from bethrou.wire.member_list import Member
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

SUFFIX = ".members"
"""The book of the identity in `node.key` is in `node.members` beside it: it belongs to who one is."""


def book_path(identity: Path) -> Path:
    """Where the book of the identity at `identity` is."""
    return identity.with_suffix(SUFFIX)


def read_book(
    path: Path,
    operator: PeerId,
    key: NetworkKey,
    time: Callable[[], float],
    conflict: Callable[[Admission], None] = lambda admission: None,
) -> MemberBook:
    """Read the book at `path`, an empty one where there is none. Raises KeyFileError for one that is damaged.

    A damaged book is not passed over: it says which invites are used.
    """
    book = MemberBook(operator, key.fingerprint, time, conflict)
    shown = printable(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return book
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise KeyFileError(f"{shown}: cannot be read: {reason}") from None
    try:
        book.decode(data)
    except DecodeError as error:
        raise KeyFileError(
            f"{shown}: is damaged, or of another network ({error}); restore it, or take it away to begin anew"
        ) from None
    return book


class Membership:
    """`book` on the disk at `path`, with those who are told when it changes."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, book: MemberBook, path: Path, emit: Emit, own: PeerId
    ) -> None:
        self.book = book
        self.own = own
        self._loop = loop
        self._path = path
        self._emit = emit
        self._listeners: list[Callable[[], None]] = []
        self._writing = asyncio.Lock()
        self._written = b""
        self._tasks = Tasks(loop)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change."""
        self._listeners.append(listener)

    async def take(self, items: Iterable[tuple[Kind, bytes]]) -> bool:
        """Judge what somebody tells; whether there was news, which is then told on and written.

        Raises DecodeError for what is not genuine; then nothing of it counts.
        """
        opened = []
        for kind, envelope in items:
            found = self.book.open(kind, envelope)
            if found is not None:
                opened.append(found)
                await asyncio.sleep(
                    0
                )  # three signatures cost 400 us, and streams are not to wait for thousands
        before, serial = dict(self.book.members), self.book.serial
        news = self.book.apply(opened)
        if news:
            self._tell(before, serial)
            self._tasks.start(self._store_quietly(), "member list to disk")
        return news

    async def admit(self, admission: Admission, envelope: bytes) -> None:
        """Take an admission of our own, and have it on disk. Raises OSError when that fails: then it does not count.

        It is taken at once. Who does not wait for the disk leaves the rest to go on without it.
        """
        new = admission.peer not in self.book.members
        self.book.apply([(admission, envelope)])
        error = await asyncio.shield(self._tasks.start(self._keep(admission, new), "admission to disk"))
        if error is not None:
            raise error

    async def store(self) -> None:
        """Have the book as it is now on disk. Raises OSError. It is written also when nobody waits for it any more:
        of two writes at a time the older one could come last.
        """
        error = await asyncio.shield(self._tasks.start(self._write(), "member book to disk"))
        if error is not None:
            raise error

    async def close(self) -> None:
        """Wait until everything is written."""
        await self._tasks.wait()

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _keep(self, admission: Admission, new: bool) -> OSError | None:
        try:
            await self.store()
        except OSError as error:
            self.book.forget(admission.grant.key)
            return error
        before = dict(self.book.members)
        if new:
            before.pop(admission.peer, None)
        self._tell(before, self.book.serial)
        return None

    async def _write(self) -> OSError | None:
        async with self._writing:
            data = self.book.encode()
            if data == self._written:
                return None
            try:
                await asyncio.to_thread(replace_file, self._path, data)
            except OSError as error:
                return error
            self._written = data
        return None

    def _tell(self, before: dict[PeerId, Member], serial: int) -> None:
        members = self.book.members
        added = [member for peer, member in members.items() if peer not in before]
        if self.book.serial != serial:
            gone = [member for peer, member in before.items() if peer not in members]
            names = (tuple(each.name or str(each.peer) for each in some) for some in (added, gone))
            self._emit(MemberListTaken(self.book.serial, len(members), *names))
        else:
            for member in added:
                self._emit(MemberJoined(str(member.peer), member.name, member.role))
        for listener in self._listeners:
            listener()

    async def _store_quietly(self) -> None:
        try:
            await self.store()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            self._emit(MemberListUnwritten(str(self._path), reason))
