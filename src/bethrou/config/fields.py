"""Field types shared by the models: what a text in YAML or on the command line becomes.

A value may come as text (YAML, options) or as the finished object (code and tests). Errors raised here show
the value; fields that hold secrets are pydantic's SecretStr, whose value nothing here repeats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bethrou.config.values import (
    SHOWN,
    AddressRule,
    HostPort,
    ResolverChoice,
    parse_address_rule,
    parse_duration,
    parse_label,
    parse_listen,
    parse_resolver,
    parse_size,
)
from bethrou.errors import AddressError, UserError
from bethrou.printable import quoted
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.upstream import Upstream

T = TypeVar("T")

REFUSED = "refused"
"""Type of the pydantic errors raised here; the reason is in their context under the same name."""


class Block(BaseModel):
    """A block of keys: frozen, and no key goes unnoticed. An empty value counts as not given, as in Go."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # The key stays checked: an unknown key is wrong even without a value.
        return {key: value for key, value in data.items() if key not in keys_of(cls) or not _is_empty(value)}


def keys_of(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _is_empty(value: object) -> bool:
    return value is None or value == ""


def refuse(reason: str) -> PydanticCustomError:
    """Return the error to raise in a validator; `reason` reaches the user as it is."""
    return PydanticCustomError(REFUSED, "{" + REFUSED + "}", {REFUSED: reason})


def _reader(parse: Callable[[str], T], kind: type | tuple[type, ...], noun: str) -> BeforeValidator:
    """Return a validator that parses text, passes finished objects and refuses everything else."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise refuse(f"must be {noun}")
        try:
            return parse(value)
        except UserError as error:
            raise refuse(str(error)) from error

    return BeforeValidator(read)


def _seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refuse("must be a duration (30s, 1m30s, 500ms or a number of seconds)")
    try:
        if isinstance(value, float) and not math.isfinite(value):
            raise refuse("must be a finite duration")
        return parse_duration(value if isinstance(value, str) else f"{value:.9f}")
    except UserError as error:
        raise refuse(str(error)) from error


def _multiaddr(text: str) -> Multiaddr:
    try:
        return Multiaddr.parse(text)
    except AddressError as error:
        raise AddressError(f"{error}{_multiaddr_hint(text)}") from error


def _size(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refuse("must be a number of bytes (500000, 500kB, 10MB or 10MiB)")
    try:
        return parse_size(str(value))
    except UserError as error:
        raise refuse(str(error)) from error


def _at_least(lowest: int) -> AfterValidator:
    def check(size: int) -> int:
        if 0 < size < lowest:
            raise refuse(f"must be 0 (no limit) or at least {lowest}")
        return size

    return AfterValidator(check)


def _is_a_relay(address: Multiaddr) -> Multiaddr:
    if address.is_circuit:
        raise refuse(f"{quoted(str(address), SHOWN)} must be the relay's own address, without /p2p-circuit")
    return address


def _names_a_peer(address: Multiaddr) -> Multiaddr:
    if address.peer_id is None:
        raise refuse(
            f"{quoted(str(address), SHOWN)} must end in /p2p/ID, the peer ID of the node at that address"
        )
    return address


def _multiaddr_hint(text: str) -> str:
    """Say how a `HOST:PORT` is written as a multiaddr: it is the commonest mistake."""
    try:
        host, port = parse_listen(text)
    except UserError:
        return ""
    if not host:
        return ""
    kind = "ip6" if ":" in host else "ip4" if re.fullmatch(r"[\d.]+", host) else "dns4"
    return f" (did you mean /{kind}/{host}/tcp/{port}?)"


class Strategy(StrEnum):
    """How an exit is chosen for a request."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    FASTEST = "fastest"
    """The exit with the lowest latency; `latency` is another name for it."""
    ORDERED = "ordered"
    """Ours: the first healthy exit in the order of `nodes`."""
    LEAST_LOADED = "least-loaded"
    """Ours: the exit that says it has least to do."""
    STICKY = "sticky"
    """Ours: the same exit for the same destination or user."""


class MemberPolicy(StrEnum):
    """Who is let in beside holding the network key."""

    OPEN = "open"
    """Everybody, except those whom the operator's list has removed."""
    REQUIRED = "required"
    """Only those whom the operator's list names, or who came by an invite."""


class StickyBy(StrEnum):
    """What the strategy `sticky` keeps together."""

    DESTINATION = "destination"
    USER = "user"


class Security(StrEnum):
    """What encrypts a link and proves who is at its other end."""

    NOISE = "noise"
    TLS = "tls"
    """TLS 1.3."""


class LogLevel(StrEnum):
    """The least important log lines to be printed."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class Choice(BeforeValidator):
    """A validator for an enum of texts, with other spellings and a suggestion for a mistyped one."""

    def __init__(self, kind: type[StrEnum], also: dict[str, StrEnum], any_case: bool = False) -> None:
        allowed = [*kind, *also]

        def read(value: object) -> object:
            text = value.lower() if isinstance(value, str) and any_case else value
            if isinstance(text, str) and text in allowed:
                return also.get(text) or kind(text)
            raise refuse(not_one_of(value, allowed))

        super().__init__(read)


def not_one_of(value: object, allowed: list[str]) -> str:
    """Say that `value` is none of `allowed`, and which was most likely meant."""
    if not isinstance(value, str):
        return f"must be one of {', '.join(allowed)}"
    near = get_close_matches(value.lower(), allowed, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return f"{quoted(value, SHOWN)} is not one of {', '.join(allowed)}{hint}"


Duration = Annotated[float, BeforeValidator(_seconds)]
"""Seconds."""

PositiveDuration = Annotated[float, Field(gt=0), BeforeValidator(_seconds)]
"""Seconds, more than none."""

ProxyField = Annotated[InstanceOf[Upstream], _reader(Upstream.parse, Upstream, "a proxy's URL")]
"""A proxy that peers are reached through."""
ListenField = Annotated[InstanceOf[HostPort], _reader(parse_listen, HostPort, "HOST:PORT")]
RuleField = Annotated[InstanceOf[AddressRule], _reader(parse_address_rule, AddressRule, "CIDR or CIDR:PORT")]
PeerIdField = Annotated[InstanceOf[PeerId], _reader(PeerId.parse, PeerId, "a peer ID")]
MultiaddrField = Annotated[InstanceOf[Multiaddr], _reader(_multiaddr, Multiaddr, "a multiaddr")]
PeerAddressField = Annotated[MultiaddrField, AfterValidator(_names_a_peer)]
"""An address that says whose it is."""
RelayAddressField = Annotated[PeerAddressField, AfterValidator(_is_a_relay)]
"""Where a relay is, and which."""
SizeField = Annotated[int, BeforeValidator(_size)]
"""Bytes; 0 where there is no limit."""
RateField = Annotated[SizeField, _at_least(16_384)]
"""Bytes a second; so few that one frame took a minute would be a stall."""
Label = Annotated[str, _reader(parse_label, (), "text")]
"""A name or tag of a node: what can stand behind `exit=` and `tag=` in a SOCKS user name."""

StrategyField = Annotated[Strategy, Choice(Strategy, {"latency": Strategy.FASTEST})]
StickyByField = Annotated[StickyBy, Choice(StickyBy, {})]
MemberPolicyField = Annotated[MemberPolicy, Choice(MemberPolicy, {})]
LevelField = Annotated[LogLevel, Choice(LogLevel, {"warning": LogLevel.WARN}, any_case=True)]
FormatField = Annotated[LogFormat, Choice(LogFormat, {}, any_case=True)]


def _securities(value: object) -> object:
    """Names in a list, or in a text with commas between them."""
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise refuse("must be noise, tls, or both in the order in which they are to be proposed")
    for name in names:
        if name not in list(Security):
            raise refuse(not_one_of(name, list(Security)))
    if len(set(names)) < len(names):
        raise refuse("names one of them twice")
    return tuple(Security(name) for name in names)


SecurityField = Annotated[tuple[Security, ...], BeforeValidator(_securities)]


def _resolver(value: object) -> object:
    if isinstance(value, ResolverChoice):
        return value
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise refuse("must be name servers (ADDRESS or ADDRESS:PORT) or system")
    try:
        return parse_resolver(texts)
    except UserError as error:
        raise refuse(str(error)) from error


ResolverField = Annotated[InstanceOf[ResolverChoice], BeforeValidator(_resolver)]
