"""The messages of `/bethrou/state/1.0.0`: an exit tells members whether it takes new requests, and its load.

uv(length) || JSON `{"state":"serving"|"draining","grace":30,"load":{"streams":n,"cpu":0..1,"limit":n|null},
"name":..,"tags":[..]}`, sent at once and on change; read by `PrefixedJsonReader`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire.json_reader import PrefixedJsonReader, encode_prefixed, text_field
from bethrou.wire.member_fields import read_labels, read_name

__all__ = ["PROTOCOL", "PrefixedJsonReader", "StateMessage"]

PROTOCOL = "/bethrou/state/1.0.0"

_MAX_COUNT = 1 << 53


@dataclass(frozen=True, slots=True)
class StateMessage:
    """What an exit says about itself at one moment."""

    draining: bool = False
    """True: no new requests, and the link will end within `grace` seconds."""
    grace: float = 0.0
    streams: int = 0
    """Requests being carried now."""
    cpu: float = 0.0
    """Share of one core in use, 0 to 1."""
    limit: int | None = None
    """Most requests at a time; None for no limit."""
    name: str = ""
    tags: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the message, length first."""
        message: dict[str, Any] = {
            "state": "draining" if self.draining else "serving",
            "grace": self.grace,
            "load": {"streams": self.streams, "cpu": round(self.cpu, 3), "limit": self.limit},
        }
        if self.name:
            message["name"] = self.name
        if self.tags:
            message["tags"] = list(self.tags)
        return encode_prefixed(message)

    @classmethod
    def decode(cls, message: dict[str, Any]) -> StateMessage:
        """Read a message from `PrefixedJsonReader`. Raises DecodeError for wrong types and values.

        A name or tag that is not made of 1 to 64 of A-Z a-z 0-9 . _ ~ - is left out, and so is a name that is a peer
        ID: an exit could get the requests that are meant for another one.
        """
        state = text_field(message, "state")
        if state not in ("serving", "draining"):
            raise DecodeError(f"exit is in the unknown state {state[:40]!r}")
        load = message.get("load")
        if load is None:
            load = {}
        if not isinstance(load, dict):
            raise DecodeError("JSON field 'load' is no object")
        limit = load.get("limit")
        return cls(
            draining=state == "draining",
            grace=_number(message, "grace", 86400.0),
            streams=int(_number(load, "streams", _MAX_COUNT)),
            cpu=_number(load, "cpu", 1.0),
            limit=None if limit is None else int(_number(load, "limit", _MAX_COUNT)),
            name=read_name(message),
            tags=read_labels(message, "tags"),
        )


def _number(message: dict[str, Any], key: str, highest: float) -> float:
    value: object = message.get(key)
    if value is None:
        return 0.0
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(value, highest)
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return min(value, highest)
    raise DecodeError(f"JSON field {key!r} is no number from 0 on")
