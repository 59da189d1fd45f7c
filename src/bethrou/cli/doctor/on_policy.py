"""What is configured about destinations: the rules of a client, and what an exit allows and denies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from bethrou.cli.doctor.facts import CLIENT, Facts
from bethrou.cli.doctor.finding import Finding, ok, unknown, warning
from bethrou.config import ClientConfig, parse_address_rule
from bethrou.config.rules import Action, PortRange, RoutingRule
from bethrou.config.values import AddressRule
from bethrou.proxy.candidates import ANY_EXIT, Candidate, Scope
from bethrou.proxy.policy import MAIL_PORT
from bethrou.quantities import counted
from bethrou.snapshots import ExitSnapshot, StatusSnapshot
from bethrou.wire.multiaddr import Multiaddr

MAX_FINDINGS = 20
"""Rules that have a line of their own; there may be a thousand."""

_USABLE = frozenset({"healthy", "slow", "suspect"})
_NAMED = 5  # names that are offered in the place of one that nobody has

Network = IPv4Network | IPv6Network


# -- a client's rules -----------------------------------------------------------------------------------------------


def rules(facts: Facts) -> Iterator[Finding]:
    """Rules of client.yaml that can never match, or that ask for an exit which nobody is."""
    config = facts.config
    if not isinstance(config, ClientConfig) or not config.rules:
        return
    found = [*_never_reached(config.rules), *_without_an_exit(config.rules, facts.status)]
    if not found:
        direct = sum(rule.use.action is Action.DIRECT for rule in config.rules)
        leave = f"; {direct} of them: from this machine itself, not from an exit" if direct else ""
        yield ok("rules", f"{counted(len(config.rules), 'rule')}, each of which can match{leave}")
    yield from found[:MAX_FINDINGS]
    if len(found) > MAX_FINDINGS:
        yield unknown("rules", f"and {len(found) - MAX_FINDINGS} more; correct these first")


def _never_reached(all_rules: Sequence[RoutingRule]) -> Iterator[Finding]:
    covers = [_Cover(rule) for rule in all_rules]
    for index, rule in enumerate(all_rules):
        first = next((before for before in range(index) if covers[before].takes_all_of(rule)), None)
        if first is not None:
            text = f"rules[{index}] ({rule}) is never reached: rules[{first}] ({all_rules[first]}) matches all of it"
            fix = f"put it in front of rules[{first}], or take it out"
            yield warning("rules", text, fix, f"rules[{index}]")


class _Cover:
    """What one rule leaves to those behind it."""

    def __init__(self, rule: RoutingRule) -> None:
        self._rule = rule
        self._domains = frozenset(rule.domain)
        self._networks = frozenset(rule.cidr)
        self._prefixes = {(network.version, network.prefixlen) for network in rule.cidr}

    def takes_all_of(self, other: RoutingRule) -> bool:
        """Whether no request is left for `other`, which stands behind."""
        mine = self._rule
        if mine.domain and not (other.domain and all(map(self._has_domain, other.domain))):
            return False
        if mine.cidr and not (other.cidr and all(map(self._has_network, other.cidr))):
            return False
        if mine.port and not (other.port and all(map(self._has_ports, other.port))):
            return False
        # `block` matches more forms of an address than other rules do (proxy/rules.py)
        more_forms = bool(mine.cidr) and other.use.action is Action.BLOCK
        return not more_forms or mine.use.action is Action.BLOCK

    def _has_domain(self, name: str) -> bool:
        labels = name.split(".")
        return any(".".join(labels[start:]) in self._domains for start in range(len(labels)))

    def _has_network(self, network: Network) -> bool:
        return any(
            version == network.version
            and prefix <= network.prefixlen
            and network.supernet(new_prefix=prefix) in self._networks
            for version, prefix in self._prefixes
        )

    def _has_ports(self, ports: PortRange) -> bool:
        return any(mine.low <= ports.low and ports.high <= mine.high for mine in self._rule.port)


def _without_an_exit(all_rules: Sequence[RoutingRule], status: StatusSnapshot | None) -> Iterator[Finding]:
    """Names and tags are what exits say of themselves, so a program has to run that has heard them."""
    if status is None:
        return
    all_are_listed = len(status.exits) >= status.exits_known
    for index, rule in enumerate(all_rules):
        scope = ANY_EXIT.narrowed(rule.use.exit, rule.use.tag)
        if scope == ANY_EXIT:
            continue
        fitting = [exit_ for exit_ in status.exits if scope.why_not(_candidate(exit_)) is None]
        if any(exit_.state in _USABLE for exit_ in fitting):
            continue
        subject, refused = (
            f"rules[{index}]",
            f"requests for which rules[{index}] ({rule}) decides are refused",
        )
        if fitting:
            fix = "see what is said of it above, or leave another exit in the rule"
            yield warning("rules", f"{refused}: no exit with {scope} can be used now", fix, subject)
        elif all_are_listed:
            fix = f"correct the rule: exits and tags that are known are {_known(scope, status.exits)}"
            yield warning("rules", f"{refused}: no exit that is known has {scope}", fix, subject)
        else:
            yield unknown(
                "rules", f"rules[{index}] ({rule}): no exit with {scope} is among those listed", subject
            )


def _candidate(exit_: ExitSnapshot) -> Candidate:
    return Candidate(exit_.id, name=exit_.name, tags=exit_.tags)


def _known(scope: Scope, exits: Sequence[ExitSnapshot]) -> str:
    names = {exit_.name for exit_ in exits if exit_.name} if scope.exits else set()
    tags = {tag for exit_ in exits for tag in exit_.tags} if scope.tags else set()
    words = [*sorted(f"exit={name}" for name in names), *sorted(f"tag={tag}" for tag in tags)]
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return (", ".join(words[:_NAMED]) + more) or "none (an exit says its name and tags with --name and --tag)"


# -- an exit's policy -----------------------------------------------------------------------------------------------


def policy(facts: Facts) -> Iterator[Finding]:
    """Rules of an exit that do nothing, or that open more than was meant."""
    if facts.role == CLIENT:
        return
    allow, deny, is_exit = _rules_of_exit(facts)
    if not is_exit:
        if allow or deny:
            text = "allow and deny do nothing: this node is no exit (no_exit)"
            yield warning("policy", text, "take them out, or have it be an exit")
        return
    found = [*_about_allow(allow, deny, _own_ports(facts)), *_about_deny(deny)]
    if not found and (allow or deny):
        kinds = [
            f"{counted(len(some), 'rule')} to {verb}"
            for verb, some in (("allow", allow), ("deny", deny))
            if some
        ]
        yield ok("policy", f"{' and '.join(kinds)}, each of which does something")
    yield from found[:MAX_FINDINGS]
    if len(found) > MAX_FINDINGS:
        yield unknown("policy", f"and {len(found) - MAX_FINDINGS} more; correct these first")


def _rules_of_exit(facts: Facts) -> tuple[Sequence[AddressRule], Sequence[AddressRule], bool]:
    """What is allowed and denied, and whether traffic leaves here at all: by the running node, else by node.yaml."""
    if facts.status is not None and facts.status.policy is not None:
        told = facts.status.policy
        return [*map(parse_address_rule, told.allow)], [*map(parse_address_rule, told.deny)], told.is_exit
    config = facts.config
    if config is None or isinstance(config, ClientConfig):
        return (), (), True
    return config.allow, config.deny, not config.no_exit


def _own_ports(facts: Facts) -> frozenset[int]:
    listening = facts.status.listening if facts.status is not None else ()
    return frozenset(Multiaddr.parse(each).tcp_port or 0 for each in listening)


def _about_allow(
    allow: Sequence[AddressRule], deny: Sequence[AddressRule], own_ports: frozenset[int]
) -> Iterator[Finding]:
    for index, rule in enumerate(allow):
        subject = f"allow {rule}"
        denied = next(
            (other for other in deny if _within(rule, other) and other.port in (None, rule.port)), None
        )
        if denied is not None:
            fix = f"take one of the two out, or have the rule that denies name less than {denied}"
            yield warning("policy", f"{subject} does nothing: deny {denied} wins over it", fix, subject)
            continue
        wider = next((other for other in _others(allow, index) if _allowed_by(rule, other, own_ports)), None)
        if wider is not None:
            yield warning("policy", f"{subject} does nothing: allow {wider} has it", "take it out", subject)
        elif rule.network.prefixlen == 0 and rule.port is None:
            text = f"{subject} lets every member into this machine's own network, and to this machine itself"
            fix = "allow the networks that members need; the rest of the Internet is allowed in any case"
            yield warning("policy", text, fix, subject)


def _about_deny(deny: Sequence[AddressRule]) -> Iterator[Finding]:
    for index, rule in enumerate(deny):
        others = _others(deny, index)
        wider = next(
            (other for other in others if _within(rule, other) and other.port in (None, rule.port)), None
        )
        if wider is not None:
            subject = f"deny {rule}"
            yield warning("policy", f"{subject} does nothing: deny {wider} has it", "take it out", subject)


def _others(some: Sequence[AddressRule], index: int) -> Iterator[AddressRule]:
    """Those that may make this one superfluous: of several that are the same, the first is not."""
    return (other for place, other in enumerate(some) if other != some[index] or place < index)


def _within(rule: AddressRule, other: AddressRule) -> bool:
    mine, theirs = rule.network, other.network
    if isinstance(mine, IPv4Network) and isinstance(theirs, IPv4Network):
        return mine.subnet_of(theirs)
    return isinstance(mine, IPv6Network) and isinstance(theirs, IPv6Network) and mine.subnet_of(theirs)


def _allowed_by(rule: AddressRule, other: AddressRule, own_ports: frozenset[int]) -> bool:
    """Whether `other` allows all that `rule` does. Port 25 and the node's own have to be named."""
    if not _within(rule, other):
        return False
    return other.port == rule.port or (other.port is None and rule.port not in {MAIL_PORT, *own_ports})
