"""Snapshots as JSON and back. Unknown keys are ignored, so that either side may be the newer one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from bethrou.errors import DecodeError

T = TypeVar("T")

_MAX_INTEGER = 1 << 1023  # larger ones are no float


def to_json(value: object) -> bytes:
    """A dataclass (or a dictionary or list of such) as ASCII text, which no terminal takes for commands."""
    return json.dumps(value, default=_as_dict, separators=(",", ":"), allow_nan=False).encode()


def from_json(kind: type[T], data: object) -> T:
    """The dataclass `kind` that was written as the JSON object `data`. Raises DecodeError."""
    if not isinstance(data, Mapping):
        raise DecodeError(f"no JSON object where a {kind.__name__} should be")
    hashable: Any = kind  # for mypy, which does not take classes for it
    hints = _hints(hashable)
    values = {name: _read(hints[name], data[name]) for name in hints if name in data}
    missing = _required(hashable) - values.keys()
    if missing:
        raise DecodeError(f"a {kind.__name__} has no {', '.join(sorted(missing))}")
    return kind(**values)


def _as_dict(value: Any) -> dict[str, Any]:
    # dataclasses.asdict copies everything deeply, which takes a second for ten thousand exits
    kind: Any = type(value)
    return {name: get(value) for name, get in _getters(kind)}


@cache
def _getters(kind: Any) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    return tuple((field.name, attrgetter(field.name)) for field in fields(kind))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _required(kind: Any) -> frozenset[str]:
    return frozenset(
        field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
    )


def _read(hint: Any, value: Any) -> Any:
    """`value` as the type `hint` wants it: dataclasses, tuples of one type, what may be None, and plain values."""
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise DecodeError("no JSON array where one should be")
        return tuple(_read(get_args(hint)[0], item) for item in value)
    alternatives = get_args(hint)
    if NoneType in alternatives:
        return None if value is None else _read(alternatives[0], value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < _MAX_INTEGER else math.inf
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise DecodeError(f"a JSON {type(value).__name__} where {hint.__name__} should be")
    return value
