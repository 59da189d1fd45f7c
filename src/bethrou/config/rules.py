"""`rules` in client.yaml: which requests go where. The first rule that matches decides.

    rules:
      - {domain: corp.example, use: exit=berlin}
      - {cidr: [192.168.0.0/16, 10.0.0.0/8], use: direct}
      - {domain: [ads.example, tracker.example], use: block}
      - {port: 8000-8100, use: "tag=eu,strategy=sticky"}
      - {use: any}

All conditions of a rule must match; one that is a list matches when any of its items does; a rule without conditions
matches everything. What the rules mean together with the wishes in a user name is decided in proxy/rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, InstanceOf, model_validator

from bethrou.config.fields import Block, Strategy, not_one_of, refuse
from bethrou.config.values import SHOWN, parse_label, parse_network
from bethrou.errors import ConfigError
from bethrou.printable import quoted

T = TypeVar("T")

MAX_RULES = 1_000
"""Rules of a client: each request is held against them one after the other. Lists inside a rule may be long."""

_DOMAIN = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", re.ASCII)
_MAX_DOMAIN = 253  # characters of a name in text form (RFC 1035, 2.3.4)
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class Action(StrEnum):
    """What becomes of a request."""

    EXIT = "exit"
    """It is sent through an exit."""
    DIRECT = "direct"
    """It is carried out by this machine itself."""
    BLOCK = "block"
    """It is refused."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a rule has its requests use. None: it leaves that open."""

    action: Action
    exit: str | None = None
    tag: str | None = None
    strategy: Strategy | None = None

    def __str__(self) -> str:
        if self.action is not Action.EXIT:
            return self.action.value
        words = {"exit": self.exit, "tag": self.tag, "strategy": self.strategy}
        return ",".join(f"{key}={value}" for key, value in words.items() if value is not None) or "any"


@dataclass(frozen=True, slots=True)
class PortRange:
    """TCP ports from `low` to `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


def parse_use(text: str) -> Use:
    """Read `any`, `direct`, `block`, or one or more of `exit=NAME`, `tag=TAG`, `strategy=NAME` with commas between."""
    word = text.strip()
    if word == "any":
        return Use(Action.EXIT)
    if word in (Action.DIRECT, Action.BLOCK):
        return Use(Action(word))
    values: dict[str, str] = {}
    for part in word.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in ("exit", "tag", "strategy"):
            raise ConfigError(
                f"{quoted(text, SHOWN)} is no use (write any, direct, block, exit=NAME, tag=TAG or strategy=NAME)"
            )
        if key in values:
            raise ConfigError(f"{quoted(text, SHOWN)} says {key} twice")
        values[key] = value if key == "strategy" else parse_label(value)
    strategy = values.get("strategy")
    return Use(
        Action.EXIT, values.get("exit"), values.get("tag"), None if strategy is None else _strategy(strategy)
    )


def _strategy(text: str) -> Strategy:
    if text == "latency":
        return Strategy.FASTEST
    if text not in list(Strategy):
        raise ConfigError(f"strategy {not_one_of(text, [*Strategy, 'latency'])}")
    return Strategy(text)


def parse_domain(text: str) -> str:
    """Read a domain: the name itself and everything below it. Lower case, without the dot at the end."""
    name = text.strip().lower().removesuffix(".")
    if not name.isascii():
        raise ConfigError(f"{quoted(text, SHOWN)} must be written in ASCII, as names are looked up (xn--...)")
    if name.startswith(("*.", ".")):
        raise ConfigError(f"{quoted(text, SHOWN)}: leave out what is in front: a domain matches all below it")
    if not _DOMAIN.fullmatch(name) or len(name) > _MAX_DOMAIN:
        raise ConfigError(f"{quoted(text, SHOWN)} is no domain (write example.org)")
    if _ENDS_IN_NUMBER.fullmatch(name):
        raise ConfigError(f"{quoted(text, SHOWN)} is no domain; write addresses behind cidr")
    return name


def parse_ports(text: str) -> PortRange:
    """Read `PORT` or `LOW-HIGH`."""
    match = _PORTS.fullmatch(text.strip())
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= 65535:
        raise ConfigError(f"{quoted(text, SHOWN)} is no port or range (write 443 or 8000-8100)")
    return PortRange(low, high)


def _listed(parse: Callable[[str], T], kind: type | tuple[type, ...]) -> BeforeValidator:
    """A validator for one text or a list of them."""

    def read_one(value: object) -> T:
        if isinstance(value, kind) and not isinstance(value, str):
            return value  # type: ignore[return-value]
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise refuse("must be text or a list of texts")
        try:
            return parse(str(value))
        except ConfigError as error:
            raise refuse(str(error)) from error

    def read(value: object) -> tuple[T, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(read_one(item) for item in items)

    return BeforeValidator(read)


def _use(value: object) -> object:
    if isinstance(value, Use):
        return value
    if not isinstance(value, str):
        raise refuse("must be any, direct, block, exit=NAME, tag=TAG or strategy=NAME")
    try:
        return parse_use(value)
    except ConfigError as error:
        raise refuse(str(error)) from error


CONDITIONS = ("domain", "cidr", "port")


class RoutingRule(Block):
    """One of `rules`. Its text form is what `bethrou why` shows."""

    domain: Annotated[tuple[str, ...], _listed(parse_domain, ())] = ()
    cidr: Annotated[
        tuple[InstanceOf[IPv4Network] | InstanceOf[IPv6Network], ...],
        _listed(parse_network, (IPv4Network, IPv6Network)),
    ] = ()
    """Matches requests for literal addresses only: an exit looks names up, nobody here."""
    port: Annotated[tuple[InstanceOf[PortRange], ...], _listed(parse_ports, PortRange)] = ()
    use: Annotated[InstanceOf[Use], BeforeValidator(_use)] = Field()

    @property
    def matches_all(self) -> bool:
        """Whether it has no conditions."""
        return not (self.domain or self.cidr or self.port)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        """Refuse what other blocks let pass: a rule whose only condition is empty would match everything."""
        if not isinstance(data, dict):
            return data
        for key in CONDITIONS:
            if key in data and data[key] in (None, "", [], ()):
                raise refuse(f"{key} is empty: leave it out to match everything")
        if data.get("use") in (None, ""):
            raise refuse("use is needed: any, direct, block, exit=NAME, tag=TAG or strategy=NAME")
        return data

    @model_validator(mode="after")
    def _check(self) -> RoutingRule:
        if self.domain and self.cidr:
            raise refuse("domain and cidr never both match: a request names either a host or an address")
        return self

    def __str__(self) -> str:
        conditions = {"domain": self.domain, "cidr": self.cidr, "port": self.port}
        words = [f"{key}: {_shown(values)}" for key, values in conditions.items() if values]
        return ", ".join([*words, f"use: {self.use}"])


def _shown(values: tuple[object, ...]) -> str:
    if len(values) == 1:
        return str(values[0])
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return f"[{', '.join(str(value) for value in values[:3])}{more}]"
