"""What `bethrou doctor` says of rules and policies that do nothing, or that ask for exits that are not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bethrou.cli.doctor import on_policy
from bethrou.cli.doctor.facts import Facts
from bethrou.config import client_config, node_config
from bethrou.proxy.rules import Rules
from bethrou.snapshots import PolicySnapshot
from ops.controlled import EXIT, PEER, STATUS

NODES = [{"addrs": [f"/ip4/192.0.2.7/tcp/4000/p2p/{PEER}"]}]


def client(*rules: dict[str, Any], **status: Any) -> Facts:
    config = client_config({"nodes": NODES, "rules": list(rules)})
    told = replace(STATUS, exits=(EXIT,), exits_known=1) if not status else replace(STATUS, **status)
    return Facts(role="client", user=0, config=config, status=told)


def said(facts: Facts) -> list[tuple[str, str]]:
    return [(finding.level.value, finding.text) for finding in on_policy.rules(facts)]


def test_rules_that_all_can_match() -> None:
    assert said(client()) == []
    assert said(client({"use": "any"})) == [("ok", "1 rule, each of which can match")]
    direct = client({"cidr": "10.0.0.0/8", "use": "direct"}, {"use": "exit=berlin"}, exits=(EXIT,))
    text = "2 rules, each of which can match; 1 of them: from this machine itself, not from an exit"
    assert said(direct) == [("ok", text)]


@pytest.mark.parametrize(
    ("first", "second", "host", "port"),
    [
        ({}, {"domain": "a.example"}, "a.example", 1),
        ({"domain": "example"}, {"domain": ["a.example", "b.c.example"]}, "b.c.example", 1),
        ({"cidr": ["192.0.2.0/24", "10.0.0.0/8"]}, {"cidr": "10.1.0.0/16"}, "10.1.2.3", 1),
        ({"cidr": "2001:db8::/32"}, {"cidr": "2001:db8:1::/48"}, "2001:db8:1::1", 1),
        ({"port": "1-1024"}, {"port": ["25", "80-90"]}, "x.example", 85),
        ({"domain": "example"}, {"domain": "a.example", "port": 443}, "a.example", 443),
        ({"domain": "a.example", "port": 443}, {"domain": "a.example", "port": 443}, "a.example", 443),
    ],
)
def test_rules_that_are_never_reached(
    first: dict[str, Any], second: dict[str, Any], host: str, port: int
) -> None:
    facts = client({**first, "use": "any"}, {**second, "use": "any"})
    ((level, text),) = said(facts)
    assert (level, text.partition(":")[0].partition(" (")[0]) == ("warning", "rules[1]")
    assert "is never reached: rules[0]" in text
    assert facts.config is not None
    judged = Rules(facts.config.rules).judge(host, port)  # type: ignore[union-attr]
    assert judged.index == 0


@pytest.mark.parametrize(
    ("first", "second", "host", "port"),
    [
        ({"domain": "a.example"}, {"domain": "example"}, "b.example", 1),
        ({"domain": "a.example"}, {"domain": "ba.example"}, "ba.example", 1),
        ({"domain": "example", "port": 443}, {"domain": "a.example"}, "a.example", 80),
        ({"cidr": "10.1.0.0/16"}, {"cidr": "10.0.0.0/8"}, "10.2.0.1", 1),
        ({"cidr": "10.0.0.0/8"}, {"domain": "a.example"}, "a.example", 1),
        ({"port": "80-90"}, {"port": ["85", "91"]}, "a.example", 91),
        # an address inside of another one (NAT64) is blocked, and not exempted
        ({"cidr": "10.0.0.0/8"}, {"cidr": "10.0.0.0/8", "use": "block"}, "64:ff9b::a00:1", 1),
    ],
)
def test_rules_that_look_as_if(first: dict[str, Any], second: dict[str, Any], host: str, port: int) -> None:
    facts = client({"use": "any", **first}, {"use": "any", **second})
    assert [level for level, _ in said(facts)] == ["ok"]
    assert Rules(facts.config.rules).judge(host, port).index == 1  # type: ignore[union-attr]


def test_rules_without_an_exit() -> None:
    paris, asia = {"domain": "a.example", "use": "exit=paris"}, {"domain": "b.example", "use": "tag=asia"}
    assert said(client(paris, asia)) == [
        (
            "warning",
            "requests for which rules[0] (domain: a.example, use: exit=paris) decides are refused: "
            "no exit that is known has exit=paris",
        ),
        (
            "warning",
            "requests for which rules[1] (domain: b.example, use: tag=asia) decides are refused: "
            "no exit that is known has tag=asia",
        ),
    ]
    fixes = [finding.fix for finding in on_policy.rules(client(paris, asia))]
    assert fixes == [
        "correct the rule: exits and tags that are known are exit=berlin",
        "correct the rule: exits and tags that are known are tag=eu",
    ]
    fits = client({"use": f"exit={PEER},tag=eu"})
    assert said(fits) == [("ok", "1 rule, each of which can match")]
    away = client({"use": "exit=berlin"}, exits=(replace(EXIT, state="down"),), exits_known=1)
    assert said(away) == [
        (
            "warning",
            "requests for which rules[0] (use: exit=berlin) decides are refused: "
            "no exit with exit=berlin can be used now",
        )
    ]
    many = client({"use": "exit=paris"}, exits=(EXIT,), exits_known=4000)
    assert said(many) == [
        ("unknown", "rules[0] (use: exit=paris): no exit with exit=paris is among those listed")
    ]
    stopped = replace(client({"use": "exit=paris"}), status=None)
    assert said(stopped) == [("ok", "1 rule, each of which can match")]


def test_many_rules_are_counted() -> None:
    found = said(client({"use": "any"}, *[{"port": 1, "use": "block"}] * 100))
    assert len(found) == on_policy.MAX_FINDINGS + 1
    assert found[-1] == ("unknown", "and 80 more; correct these first")


# -- exits ----------------------------------------------------------------------------------------------------------


def policy(allow: list[str], deny: list[str], **config: Any) -> list[tuple[str, str]]:
    """What is said of them, which is the same whether node.yaml has them or the running node tells them."""
    facts = Facts(role="node", user=0, config=node_config({"allow": allow, "deny": deny, **config}))
    listed = [(finding.level.value, finding.text) for finding in on_policy.policy(facts)]
    told = PolicySnapshot(tuple(allow), tuple(deny), not config.get("no_exit", False))
    runs = Facts(role="node", user=0, status=replace(STATUS, role="node", listening=(), policy=told))
    assert [(finding.level.value, finding.text) for finding in on_policy.policy(runs)] == listed
    return listed


@pytest.mark.parametrize(
    ("allow", "deny", "level", "text"),
    [
        (
            ["10.0.0.0/8"],
            ["10.1.0.0/16"],
            "ok",
            "1 rule to allow and 1 rule to deny, each of which does something",
        ),
        (["10.0.0.0/8", "10.0.0.5:25"], [], "ok", "2 rules to allow, each of which does something"),
        (
            ["10.0.0.0/8:80"],
            ["10.0.0.0/8:443"],
            "ok",
            "1 rule to allow and 1 rule to deny, each of which does something",
        ),
        (
            ["10.1.0.0/16"],
            ["10.0.0.0/8"],
            "warning",
            "allow 10.1.0.0/16 does nothing: deny 10.0.0.0/8 wins over it",
        ),
        (
            ["10.1.0.0/16:80"],
            ["10.0.0.0/8"],
            "warning",
            "allow 10.1.0.0/16:80 does nothing: deny 10.0.0.0/8 wins over it",
        ),
        (
            ["10.0.0.0/8", "10.1.0.0/16"],
            [],
            "warning",
            "allow 10.1.0.0/16 does nothing: allow 10.0.0.0/8 has it",
        ),
        (
            ["10.0.0.0/8", "10.0.0.0/8"],
            [],
            "warning",
            "allow 10.0.0.0/8 does nothing: allow 10.0.0.0/8 has it",
        ),
        (
            [],
            ["10.0.0.0/8:80", "10.0.0.0/8"],
            "warning",
            "deny 10.0.0.0/8:80 does nothing: deny 10.0.0.0/8 has it",
        ),
        (
            ["::/0"],
            [],
            "warning",
            "allow ::/0 lets every member into this machine's own network, and to this machine itself",
        ),
    ],
)
def test_policies(allow: list[str], deny: list[str], level: str, text: str) -> None:
    assert policy(allow, deny) == [(level, text)]


def test_a_policy_that_nobody_asked_for() -> None:
    assert policy([], []) == []
    assert policy(["10.0.0.0/8"], [], relay_mode=True, no_exit=True) == [
        ("warning", "allow and deny do nothing: this node is no exit (no_exit)")
    ]
    assert list(on_policy.policy(client({"use": "any"}))) == []


def test_its_own_port_has_to_be_named() -> None:
    told = PolicySnapshot(("10.0.0.0/8", "10.0.0.2:4000", "10.0.0.2:80"), ())
    status = replace(STATUS, role="node", listening=("/ip4/0.0.0.0/tcp/4000",), policy=told)
    (finding,) = on_policy.policy(Facts(role="node", user=0, status=status))
    assert finding.text == "allow 10.0.0.2/32:80 does nothing: allow 10.0.0.0/8 has it"
    assert finding.subject == "allow 10.0.0.2/32:80"
