"""/etc/hosts (man 5 hosts): names with addresses given by whoever runs the machine. They come before DNS."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from bethrou.proxy.name_source import MAX_ADDRESSES, Address

MAX_FILE = 8 << 20
"""How much of the file is read, in bytes; block lists of 100,000 names have about half of it."""

MAX_AGE = 5.0
"""After how many seconds the file is looked at again; it is read only when it has changed."""

Stamp = tuple[int, int, int]


class HostsFile:
    """The names in a hosts file, kept up to date. A missing or unreadable file has no names."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._names: dict[str, tuple[Address, ...]] = {}
        self._stamp: Stamp | None = None
        self._looked_at = float("-inf")

    def addresses(self, name: str) -> tuple[Address, ...]:
        """Return the addresses of a lower-case name; none when it is not listed."""
        now = self._clock()
        if now - self._looked_at >= MAX_AGE:
            self._looked_at = now
            self._refresh()
        return self._names.get(name, ())

    def _refresh(self) -> None:
        stamp = self._take_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            with self._path.open("rb") as file:
                self._names = parse_hosts(file.read(MAX_FILE))
        except OSError:
            self._names = {}

    def _take_stamp(self) -> Stamp | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def parse_hosts(data: bytes) -> dict[str, tuple[Address, ...]]:
    """Read `address name alias...` lines; what is not of that form is skipped, as by every resolver."""
    found: dict[str, tuple[Address, ...]] = {}
    for line in data.splitlines():
        words = line.partition(b"#")[0].decode("ascii", "replace").lower().split()
        address = _parse_address(words[0]) if len(words) > 1 else None
        if address is None:
            continue
        for name in words[1:]:
            known = found.get(name, ())
            if address not in known and len(known) < MAX_ADDRESSES:
                found[name] = (*known, address)
    return found


def _parse_address(text: str) -> Address | None:
    try:
        # A zone (fe80::1%lo0, as in macOS's own file) means something to this machine only.
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None
