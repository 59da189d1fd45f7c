"""From a file or options to a checked configuration, or to one line that says what is wrong and where.

The line names the file (or option), the field and the value; values of fields that may hold a password are
never shown.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bethrou.config.fields import REFUSED, Block, keys_of
from bethrou.config.models import ClientConfig, ClientOptions, NodeConfig
from bethrou.config.values import SHOWN
from bethrou.config.yaml_text import read_yaml
from bethrou.errors import ConfigError
from bethrou.printable import printable, quoted

MAX_FILE = 1 << 20
"""Longest client.yaml read, in bytes: some 5,000 exits."""

B = TypeVar("B", bound=Block)

_SINGULAR = {"tags": "tag", "peers": "peer"}  # fields whose repeatable option is called otherwise
_SECRET_KEYS = frozenset({"pass", "users", "address"})
_UNKNOWN_KEY = "extra_forbidden"


def load_client_config(path: str | Path, options: Mapping[str, Any] | None = None) -> ClientConfig:
    """Read and check client.yaml; nothing is ever written. Raises ConfigError, one line naming the file.

    `options` (keys as the fields of ClientOptions) take the place of what the file says.
    """
    given = check(ClientOptions, options or {}, "", options=True).as_configuration()
    data, name = _read_mapping(
        path, "nodes", "; write one with the lines that a node prints, or say --config"
    )
    return check(ClientConfig, _overlaid(data, given), f"{name}: ")


def client_config(data: Mapping[str, Any]) -> ClientConfig:
    """Check the keys of a client.yaml that is no file. Raises ConfigError."""
    return check(ClientConfig, data, "")


def load_node_config(path: str | Path | None, options: Mapping[str, Any]) -> NodeConfig:
    """Read and check node.yaml, if there is one; `options` (keys as the fields of NodeConfig) take the place of what it
    says. Raises ConfigError naming the file or the option.
    """
    if path is None:
        return node_config(options)
    # so that what is wrong with an option is said of the option; a block may be whole only together with the file
    node_config({field: value for field, value in options.items() if field != "discovery"})
    data, name = _read_mapping(path, "listen")
    return check(NodeConfig, _overlaid(data, options), f"{name}: ")


def _read_mapping(path: str | Path, example: str, absent: str = "") -> tuple[dict[str, Any], str]:
    """The keys of a file, and the file's name for errors. `absent`: what to do where there is none."""
    name = printable(str(path))
    text = _read_text(path, name, absent)
    try:
        data = read_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    if data is None:
        raise ConfigError(f"{name}: the file is empty; it needs at least {example}")
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: must consist of keys such as {example}:, not of {_kind(data)}")
    return data, name


def node_config(options: Mapping[str, Any]) -> NodeConfig:
    """Check a node's options (keys as the fields of NodeConfig). Raises ConfigError naming the option."""
    return check(NodeConfig, options, "", options=True)


def check(model: type[B], data: Mapping[str, Any], source: str, options: bool = False) -> B:
    """Make a `model` of `data`. Raises ConfigError: `source`, the field, and what is wrong with it.

    With `options` a field is written as the command-line option of that name.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=True)
        # A mistyped key also makes another key "missing", and a refused item its list too short: say the cause.
        problems.sort(key=lambda problem: problem["type"] != _UNKNOWN_KEY)
        problems = [problem for problem in problems if problem["type"] != "too_short"] or problems
        reason = _describe(model, problems[0], options)
        more = len(problems) - 1
        rest = f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""
        # Not chained: pydantic's own report would show the values, passwords among them.
        raise ConfigError(f"{source}{reason}{rest}") from None


def _overlaid(data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put `given` over `data`, block by block. What is no block in `data` stays: the models will refuse it."""
    result = dict(data)
    for key, value in given.items():
        before = result.get(key)
        if not isinstance(value, dict) or before is None:
            result[key] = value
        elif isinstance(before, dict):
            result[key] = _overlaid(before, value)
    return result


def _read_text(path: str | Path, name: str, absent: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        hint = absent if error.errno == errno.ENOENT else ""
        raise ConfigError(f"{name}: cannot be read: {error.strerror}{hint}") from error
    except ValueError as error:
        raise ConfigError(f"{name}: is no file name: {error}") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"{name}: is longer than {MAX_FILE} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}: line {line}: is not UTF-8 text; save the file as UTF-8") from None


def _describe(model: type[BaseModel], problem: ErrorDetails, options: bool) -> str:
    path = problem["loc"]
    where = _option(path) if options else _dotted(path)
    if problem["type"] == _UNKNOWN_KEY:
        return f"{where}: unknown key{_suggestion(model, path)}"
    reason = _reason(problem)
    return f"{where}: {reason}" if where else reason


def _dotted(path: tuple[int | str, ...]) -> str:
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return printable(words.removeprefix("."), 120)


def _option(path: tuple[int | str, ...]) -> str:
    words = "-".join(_SINGULAR.get(part, part) for part in path if isinstance(part, str))
    return printable(f"--{words.replace('_', '-')}", 120) if words else ""


def _reason(problem: ErrorDetails) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == REFUSED:
        return str(context[REFUSED])
    secret = any(part in _SECRET_KEYS for part in problem["loc"])
    got = "" if secret else f", not {_kind(problem['input'])}"
    for prefix, wanted in _WANTED.items():
        if kind.startswith(prefix):
            return f"must be {wanted.format(**context)}{got}"
    return printable(problem["msg"], 200)


_WANTED = {
    "bool": "true or false",
    "int": "a whole number",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "tuple": "a list",
    "model": "a block of keys",
    "dict": "a block of keys",
    "mapping": "a block of keys",
    "string": "text",
    "path": "a file name",
}
"""What pydantic's error types (by how they begin) mean to somebody who writes YAML."""


def _kind(value: object) -> str:
    if isinstance(value, str):
        return quoted(value, SHOWN)
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return printable(str(value), SHOWN)


def _suggestion(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Propose the key that was most likely meant: one that looks alike here, or the same in another block."""
    here, key = path[:-1], str(path[-1])
    block = _block_at(model, here)
    known = sorted(keys_of(block))
    near = get_close_matches(key.lower().replace("-", "_"), known, n=1)
    if near:
        return f' (did you mean "{near[0]}"?)'
    elsewhere = next((place for place in _all_keys(model, "") if place.split(".")[-1] == key), None)
    return f" (did you mean {elsewhere}?)" if elsewhere else f"; known are {', '.join(known)}"


def _block_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    for part in path:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = _block_in(field.annotation) or model
    return model


def _all_keys(model: type[BaseModel], prefix: str) -> list[str]:
    places = []
    for name, field in model.model_fields.items():
        places.append(prefix + (field.alias or name))
        block = _block_in(field.annotation)
        if block is not None:
            places += _all_keys(block, f"{places[-1]}.")
    return places


def _block_in(annotation: object) -> type[BaseModel] | None:
    """Find the block that a field consists of, also inside tuple[...] and Optional."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    return next((block for part in get_args(annotation) if (block := _block_in(part)) is not None), None)
