"""Every check, in the order in which findings are shown: what is on this machine first, then the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bethrou.cli.doctor import on_discovery, on_exits, on_policy, on_reach, on_setup
from bethrou.cli.doctor.facts import Facts
from bethrou.cli.doctor.finding import Finding

Check = Callable[[Facts], Iterator[Finding]]

CHECKS: Sequence[Check] = (
    on_setup.configuration,
    on_setup.running,
    on_setup.secrets,
    on_setup.ports,
    on_exits.exits,
    on_exits.versions,
    on_exits.names,
    on_policy.rules,
    on_policy.policy,
    on_reach.addresses,
    on_reach.nat,
    on_reach.punching,
    on_reach.relays,
    on_reach.relaying,
    on_discovery.redis,
    on_discovery.sources,
    on_discovery.clock,
)


def examine(facts: Facts) -> list[Finding]:
    """All findings."""
    return [finding for check in CHECKS for finding in check(facts)]
