"""Who listens on a TCP port of this machine, from /proc (man 5 proc): Linux only, and without asking anybody."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bethrou.cli.doctor.facts import PortFact

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"
_MOST = 1 << 24  # bytes read of one table: a hundred thousand connections

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class _Listener:
    address: Address
    port: int
    inode: str


def look_at_port(shown: str, host: str, port: int) -> PortFact:
    """Whether somebody listens where connections to `host`:`port` would arrive; `shown` is how people know it."""
    try:
        listeners = [each for table in _TABLES for each in _read(table)]
    except OSError:
        return PortFact(shown, None)  # another system, or a /proc that shows nothing
    inodes = {each.inode for each in listeners if each.port == port and _meet(each.address, host)}
    return PortFact(shown, bool(inodes), tuple(_holders(inodes)) if inodes else ())


def _read(table: Path) -> Iterator[_Listener]:
    with table.open("rb") as file:
        lines = file.read(_MOST).decode("ascii", "replace").splitlines()
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING:
            address, _, port = fields[1].partition(":")
            yield _Listener(_address(address), int(port, 16), fields[9])


def _address(text: str) -> Address:
    """An address as the kernel prints it: 32-bit words in the machine's own order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    raw = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return ipaddress.ip_address(raw)


def _meet(bound: Address, host: str) -> bool:
    """Whether a socket bound to `bound` stands in the way of one for `host`, which may be a name."""
    if bound.is_unspecified:
        return True
    try:
        wanted = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return bound.is_loopback or host != "localhost"
    return wanted.is_unspecified or wanted == bound


def _holders(inodes: set[str]) -> list[tuple[int, str]]:
    """The processes that have these sockets, as far as we may look into them."""
    names = {f"socket:[{inode}]" for inode in inodes}
    processes = (each for each in Path("/proc").iterdir() if each.name.isdecimal())
    return sorted((int(each.name), _command(each)) for each in processes if _has_one_of(each, names))


def _has_one_of(process: Path, names: set[str]) -> bool:
    try:
        return any(str(link.readlink()) in names for link in (process / "fd").iterdir())
    except OSError:
        return False  # somebody else's, or gone


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_bytes()[:64].decode("utf-8", "replace").strip()
    except OSError:
        return "?"
