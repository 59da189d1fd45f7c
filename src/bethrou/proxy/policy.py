"""Where an exit lets its members go: a pure judgement on the address that is about to be dialled.

In this order, and the first that applies decides:

1. deny:    what a `--deny` rule matches is denied.
2. allow:   what an `--allow` rule matches is allowed, whatever the default says.
3. default: denied is what is not globally routable (special_addresses.py), what is an address of the exit
            itself, and TCP port 25, so that no exit becomes a source of spam. All else is allowed.

A rule is `CIDR` or `CIDR:PORT`. An allow rule without a port matches every port except those that need to be
named: 25, and the exit's own listen ports at its own addresses. So `--allow 10.0.0.0/8` opens a network but
not its mail servers; `--allow 10.0.0.5:25` opens that one. A deny rule without a port matches every port.

An address that carries another one inside (IPv4-mapped, NAT64, 6to4) has to pass in both forms. Names are
nobody's business here: whoever dials resolves first, judges each address, and dials that very address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address

from bethrou.config.values import AddressRule
from bethrou.proxy.special_addresses import Address, embedded_ipv4, special_use

MAIL_PORT = 25
"""SMTP between servers. Submission by users (465, 587) needs a password there and is not restricted."""


class DenialCause(Enum):
    """What kind of rule denied; for counting."""

    DENY_RULE = "deny-rule"
    NOT_ROUTABLE = "not-routable"
    OWN_ADDRESS = "own-address"
    OWN_PORT = "own-port"
    MAIL_PORT = "mail-port"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a destination is denied. `reason` is a few words that do not repeat the address."""

    cause: DenialCause
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """An exit's policy. When the exit's addresses change, `dataclasses.replace` makes the next one."""

    allow: tuple[AddressRule, ...] = ()
    deny: tuple[AddressRule, ...] = ()
    own_addresses: frozenset[Address] = frozenset()
    """Of the exit's interfaces, and under which others see it. Without zones."""
    own_ports: frozenset[int] = frozenset()
    """TCP ports on which the exit listens for members."""

    def judge(self, address: Address, port: int) -> Denial | None:
        """Say whether TCP to `address` and `port` may be dialled: None, or why not."""
        for form in _forms(address):
            denial = self._judge_form(form, port)
            if denial is not None:
                return denial
        return None

    def _judge_form(self, address: Address, port: int) -> Denial | None:
        for rule in self.deny:
            if rule.port in (None, port) and address in rule.network:
                return Denial(DenialCause.DENY_RULE, f"denied by the rule {rule}")
        named = self._must_be_named(address, port)
        for rule in self.allow:
            if (rule.port == port or (rule.port is None and not named)) and address in rule.network:
                return None
        return named or self._judge_address(address)

    def _must_be_named(self, address: Address, port: int) -> Denial | None:
        if port == MAIL_PORT:
            return Denial(DenialCause.MAIL_PORT, "port 25 is closed against spam")
        if port in self.own_ports and self._is_here(address):
            return Denial(DenialCause.OWN_PORT, "the exit itself listens there")
        return None

    def _is_here(self, address: Address) -> bool:
        # All of 127.0.0.0/8 is this machine though no interface lists it, and so are 0.0.0.0 and :: for a dialler.
        return address in self.own_addresses or address.is_loopback or address.is_unspecified

    def _judge_address(self, address: Address) -> Denial | None:
        use = special_use(address)
        if use is not None:
            return Denial(DenialCause.NOT_ROUTABLE, f"not globally routable ({use})")
        if address in self.own_addresses:
            return Denial(DenialCause.OWN_ADDRESS, "an address of the exit itself")
        return None


def _forms(address: Address) -> Iterator[Address]:
    inner = embedded_ipv4(address)
    if inner is not None:
        yield inner
    if isinstance(address, IPv6Address) and address.scope_id:
        # A zone says on which wire, not whether; with it the address would equal none of ours.
        address = IPv6Address(int(address))
    yield address
