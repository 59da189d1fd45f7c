"""The SOCKS user name, in which an application says how its requests are routed.

`[user][,key=value]...`, split at commas; a first part with `=` means that there is no user. Keys: exit, tag,
strategy, session, ttl; each at most once; values of 1 to 64 of A-Z a-z 0-9 . _ ~ -. So `bob,tag=eu,session=7`
is bob, who wants the same exit with the tag eu for all requests of session 7. `ttl` says how long a session lasts, and
nothing where there is none: a name that is put together of parts may always have it. The same in HTTP Basic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bethrou.errors import DecodeError
from bethrou.wire.labels import is_label

MAX_TTL = 7 * 86400
"""Longest time in seconds for which a session can be pinned."""

_KEYS = frozenset({"exit", "tag", "strategy", "session", "ttl"})
_TTL = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class UserName:
    """A user name taken apart. None: the application leaves that choice to the configuration."""

    user: str = ""
    """Whose password is checked; "" for nobody."""
    exit: str | None = None
    """Name or peer ID of the only exit to use."""
    tag: str | None = None
    strategy: str | None = None
    session: str | None = None
    ttl: int | None = None
    """Seconds for which `session` keeps its exit, if there is one; written as a number, or with s, m, h or d behind."""

    @classmethod
    def parse(cls, raw: bytes) -> UserName:
        """Read a user name as it came over the wire. Raises DecodeError, which never shows a value."""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise DecodeError("user name is no UTF-8") from None
        if not text.isprintable():
            raise DecodeError("user name has control characters")
        if "," not in text and "=" not in text:
            return cls(text)
        first, *rest = text.split(",")
        options = [first, *rest] if "=" in first else rest
        values: dict[str, str] = {}
        for option in options:
            key, value = _split_option(option)
            if key in values:
                raise DecodeError(f"user name has the key {key!r} twice")
            values[key] = value
        return cls(
            user="" if "=" in first else first,
            exit=values.get("exit"),
            tag=values.get("tag"),
            strategy=values.get("strategy"),
            session=values.get("session"),
            ttl=_parse_ttl(values["ttl"]) if "ttl" in values else None,
        )


def _split_option(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not equals:
        raise DecodeError("user name has a part behind a comma that is no key=value")
    if key not in _KEYS:
        # Cut short: what is meant as a key may be anything, and this goes to the log.
        raise DecodeError(f"user name has the unknown key {key[:20]!a}")
    if not is_label(value):
        raise DecodeError(f"user name has a bad value for the key {key!r}")
    return key, value


def _parse_ttl(value: str) -> int:
    match = _TTL.fullmatch(value)
    if match is None:
        raise DecodeError("user name has a bad value for the key 'ttl'")
    seconds = int(match[1]) * _UNITS[match[2]]
    if not 0 < seconds <= MAX_TTL:
        raise DecodeError(f"user name has a ttl outside 1 to {MAX_TTL} seconds")
    return seconds
