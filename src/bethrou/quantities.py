"""Bytes, seconds and counts as people read them, in a few characters."""

from __future__ import annotations

_LONGEST = 1e11  # three thousand years
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int) -> str:
    """Bytes, to two or three digits: `999 B`, `1.2 kB`, `37 MB`."""
    amount = float(count)
    for unit in _BYTE_UNITS:
        if round(amount) < 1000 or unit == _BYTE_UNITS[-1]:
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if unit != "B" and amount < 9.95 else f"{amount:.0f} {unit}"


def duration(seconds: float, units: int = 2) -> str:
    """How long something has been going on, in its largest units: `12 s`, `3 min 5 s`, `2 d 4 h`."""
    whole = int(seconds) if 0 < seconds < _LONGEST else 0
    parts = [
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    ]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    return " ".join(f"{amount} {unit}" for amount, unit in parts[:units] if amount or unit == parts[0][1])


def delay(seconds: float | None) -> str:
    """A round trip: `0.4 ms`, `12 ms`, `1.5 s`; nothing for None."""
    if seconds is None:
        return ""
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"


def counted(count: int, noun: str) -> str:
    """`1 exit`, `2 exits`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def circuit_limits(seconds: int, each_way: int) -> str:
    """What a relay lets a circuit do: `2 min, 10 MB each way`; 0 means that there is no limit."""
    parts = [duration(seconds)] if seconds else []
    parts += [f"{size(each_way)} each way"] if each_way else []
    return ", ".join(parts) or "no limits"
