"""Which rule of the configuration a request falls under, and what that means with the wishes in its user name. Pure.

1. The first rule that matches counts; without one, any exit may be used.
2. `block` wins over every wish.
3. `direct` gives way to a user name that asks for an exit or a tag: whoever names an exit does not want to be seen
   here.
4. Exit and tag of the rule and of the user name all have to fit. When nothing fits, the request is refused: nothing
   falls back to another exit, or to this machine.
5. The strategy is the user name's, else the rule's, else that of `routing`.

Names are never looked up for this: `domain` is compared with names as text, `cidr` with literal addresses. An IPv4
address in the form of an IPv6 one (::ffff:192.0.2.1) is that IPv4 address. Where packets only may end up at one (NAT64,
6to4), that is reason enough to block, and none to go there directly.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from bethrou.config.rules import Action, PortRange, RoutingRule
from bethrou.proxy.candidates import ANY_EXIT, Scope
from bethrou.proxy.special_addresses import Address, embedded_ipv4
from bethrou.wire.destination import pack_address


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to become of a request."""

    action: Action = Action.EXIT
    scope: Scope = ANY_EXIT
    """The exits that it may use, by rule and user name."""
    strategy: str | None = None
    """What the rule says; None: nothing."""
    rule: str = ""
    """The rule as it is written; "" when none matched."""
    index: int | None = None
    """Its place in `rules`, from 0."""
    note: str = ""
    """Why it does not mean what the rule says, for people."""


class Rules:
    """The rules of a configuration, ready to be asked for each request."""

    def __init__(self, rules: Sequence[RoutingRule] = ()) -> None:
        self._rules = [(_Conditions(rule), _ruling(rule, index)) for index, rule in enumerate(rules)]

    def judge(self, host: str, port: int, exit: str | None = None, tag: str | None = None) -> Ruling:  # noqa: A002
        """The ruling on a request to `host`:`port` whose user name asks for `exit` and `tag`."""
        ruling = self._first_match(host, port) if self._rules else NO_RULE
        if exit is None and tag is None:
            return ruling
        if ruling.action is Action.BLOCK:
            return replace(ruling, note="the user name asks for an exit, but block wins")
        if ruling.action is Action.DIRECT:
            note = "the user name asks for an exit, which wins over direct"
            return replace(ruling, action=Action.EXIT, scope=ANY_EXIT.narrowed(exit, tag), note=note)
        return replace(ruling, scope=ruling.scope.narrowed(exit, tag))

    def _first_match(self, host: str, port: int) -> Ruling:
        packed = pack_address(host)
        names = tuple(_name_and_parents(host)) if packed is None else ()
        certain, possible = ((), ()) if packed is None else _addresses(ipaddress.ip_address(packed))
        for conditions, ruling in self._rules:
            addresses = possible if ruling.action is Action.BLOCK else certain
            if conditions.hold(names, addresses, port):
                return ruling
        return NO_RULE


NO_RULE = Ruling()


def warnings(rules: Sequence[RoutingRule]) -> tuple[str, ...]:
    """What somebody who wrote these rules should know, a sentence each."""
    said = []
    direct = [index for index, rule in enumerate(rules) if rule.use.action is Action.DIRECT]
    if direct:
        said.append(
            f"{_places(direct)}: such connections leave from this machine itself, not from an exit, "
            "and it looks their names up"
        )
    cidr = [index for index, rule in enumerate(rules) if rule.cidr]
    if cidr:
        said.append(
            f"{_places(cidr)}: cidr matches addresses that applications ask for, never names that lead there"
        )
    last = next((index for index, rule in enumerate(rules) if rule.matches_all), None)
    if last is not None and last + 1 < len(rules):
        said.append(
            f"{_places(range(last + 1, len(rules)))}: never reached, as rules[{last}] matches everything"
        )
    return tuple(said)


def _places(indexes: Sequence[int]) -> str:
    more = f" and {len(indexes) - 3} more" if len(indexes) > 3 else ""
    return ", ".join(f"rules[{index}]" for index in indexes[:3]) + more


def _ruling(rule: RoutingRule, index: int) -> Ruling:
    use = rule.use
    strategy = None if use.strategy is None else use.strategy.value
    return Ruling(use.action, ANY_EXIT.narrowed(use.exit, use.tag), strategy, str(rule), index)


class _Conditions:
    """The conditions of one rule, made quick."""

    __slots__ = ("_domains", "_networks", "_ports")

    def __init__(self, rule: RoutingRule) -> None:
        self._domains = frozenset(rule.domain)
        self._networks = _Networks(rule.cidr) if rule.cidr else None
        self._ports: tuple[PortRange, ...] = rule.port

    def hold(self, names: Sequence[str], addresses: Sequence[Address], port: int) -> bool:
        """Whether all match a request for a name (`names`: it and its parents) or an address (in all its forms)."""
        if self._ports and not any(ports.low <= port <= ports.high for ports in self._ports):
            return False
        if self._domains and self._domains.isdisjoint(names):
            return False
        return self._networks is None or any(address in self._networks for address in addresses)


class _Networks:
    """A set of networks; a look-up costs as much as it has different prefix lengths."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._by_prefix: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            host_bits = network.max_prefixlen - network.prefixlen
            values = self._by_prefix.setdefault((network.version, host_bits), set())
            values.add(int(network.network_address) >> host_bits)

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        return any(
            version == address.version and number >> host_bits in values
            for (version, host_bits), values in self._by_prefix.items()
        )


def _addresses(literal: Address) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """The forms of an address, and with them those where its packets may end up."""
    inner = embedded_ipv4(literal)
    if inner is None:
        return (literal,), (literal,)
    mapped = literal.version == 6 and literal.ipv4_mapped is not None
    return (literal, inner) if mapped else (literal,), (literal, inner)


def _name_and_parents(host: str) -> Iterator[str]:
    name = host.lower().removesuffix(".")
    while name:
        yield name
        name = name.partition(".")[2]
