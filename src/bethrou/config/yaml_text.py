"""A strict reader of YAML: texts, lists and mappings, and nothing that could surprise.

Scalars stay text and the models give them their type, as Go's decoder does: `pass: 0123` is the four
characters, `no` is a word where a word is expected. An unquoted `~`, `null` or nothing is None. Refused are
aliases (a few lines of them can stand for gigabytes), tags (except !!str), keys given twice, a second
document, deep nesting. Errors name the line and never repeat a value: it could be a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import yaml

from bethrou.errors import ConfigError
from bethrou.printable import printable, quoted

MAX_DEPTH = 16
"""Deepest nesting accepted; client.yaml needs 4."""

Node: TypeAlias = "str | list[Node] | dict[str, Node] | None"

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_STR_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
# libyaml, where PyYAML was built with it, is 20 times as fast.
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def read_yaml(text: str) -> Node:
    """Return the one document in `text`; None when there is nothing in it. Raises ConfigError."""
    try:
        return _Reader(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line
        raise ConfigError(f"{_line(line)}{_explain(error, line, text)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise ConfigError(f"{_line(line)}a control character is not allowed in YAML") from None


def _explain(error: yaml.MarkedYAMLError, line: int, text: str) -> str:
    lines = text.splitlines()
    if line < len(lines) and lines[line].lstrip(" ").startswith("\t"):
        return "not valid YAML: indent with spaces, not with tabs"
    # PyYAML's messages quote what they stumbled over, which may be a part of a password.
    problem = re.sub(r"'[^']{2,}'", "something", error.problem or "syntax error")
    return f"not valid YAML: {printable(problem, 120)}"


def _line(line: int) -> str:
    return f"line {line + 1}: "


class _Reader:
    """Builds values from parser events, which arrive one by one, so that a refusal comes early."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events

    def document(self) -> Node:
        value: Node = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _refusal(event, "a second YAML document begins; only one is read")
                value = self._value(next(self._events), 0)
        return value

    def _value(self, event: yaml.Event, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(event, "YAML aliases are not supported; put a text that begins with * in quotes")
        if depth > MAX_DEPTH:
            raise _refusal(event, f"nested more than {MAX_DEPTH} levels deep")
        if not isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent):
            raise _refusal(event, "a value is missing")
        if event.tag is not None and event.tag not in _STR_TAGS:
            raise _refusal(event, "YAML tags are not supported; put a text that begins with ! in quotes")
        if isinstance(event, yaml.ScalarEvent):
            plain = not event.style and event.tag is None
            return None if plain and event.value in _NULLS else event.value
        return self._mapping(depth) if isinstance(event, yaml.MappingStartEvent) else self._sequence(depth)

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> Node:
        items: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            if not isinstance(key, str):
                raise _refusal(event, "a key must be a word")
            if key in items:
                raise _refusal(event, f"the key {quoted(key, 60)} is given twice")
            items[key] = self._value(next(self._events), depth + 1)
        return items


def _refusal(event: yaml.Event, reason: str) -> ConfigError:
    mark = event.start_mark
    return ConfigError(reason if mark is None else f"{_line(mark.line)}{reason}")
