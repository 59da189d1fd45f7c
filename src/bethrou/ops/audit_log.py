"""The audit log: who was let in and put out, when, in a file that is only ever added to.

JSON lines, mode 0600. Each is written with one system call at the end of the file, whoever else writes there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from bethrou.errors import ConfigError
from bethrou.events import Event, InviteUsedTwice, MemberJoined, MemberListTaken
from bethrou.printable import printable

_LATELY = 1 << 20  # bytes at the end of the file that are looked through: thousands of invites


class AuditLog:
    """Adds to the file at `path`, made when there is something to write. `clock` gives Unix time in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def add(self, what: str, **fields: str | int | list[str]) -> None:
        """Write that `what` was done. Raises ConfigError when it cannot be written."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        line = json.dumps({"time": when, "what": what, **fields}, separators=(",", ":")) + "\n"
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"{printable(str(self._path))}: cannot be written: {error.strerror}") from None

    def invites(self) -> list[str]:
        """The IDs of the invites that were made lately, the newest last; none where the file cannot be read."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LATELY))
                lines = file.read(_LATELY).splitlines()
        except OSError:
            return []
        return [found for line in lines if (found := _invite_in(line))]

    def note(self, event: Event) -> None:
        """Write an event that changes who belongs to the network; others are passed over. Raises as `add`."""
        match event:
            case MemberJoined():
                self.add("joined", member=event.peer, name=event.name, role=event.role)
            case InviteUsedTwice():
                self.add("invite used twice", member=event.peer, name=event.name)
            case MemberListTaken():
                self.add(
                    "list taken",
                    serial=event.serial,
                    members=event.members,
                    added=list(event.added),
                    gone=list(event.gone),
                )
            case _:
                return


def _invite_in(line: bytes) -> str:
    """The ID of the invite that a line is about, or ""."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""  # the half of a line with which the part begins that was read
    found = entry.get("invite") if isinstance(entry, dict) and entry.get("what") == "invited" else ""
    return found if isinstance(found, str) else ""
