"""`rules` in client.yaml: how they are read, and what is wrong with those that cannot be."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from bethrou.config import Action, RoutingRule, Strategy, Use, load_client_config
from bethrou.config.rules import MAX_RULES, PortRange
from bethrou.errors import ConfigError

NODE = "/ip4/127.0.0.1/tcp/4000/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def load(folder: Path, rules: str) -> tuple[RoutingRule, ...]:
    path = folder / "client.yaml"
    path.write_text(f"nodes: [{{addrs: [{NODE}]}}]\nrules:\n{rules}\n")
    return load_client_config(path).rules


def test_rules_are_read_in_their_order(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        """
  - {domain: Corp.Example., use: exit=berlin}
  - domain: [a.example, b.example]
    port: [80, 8000-8100]
    use: block
  - {cidr: [192.168.0.0/16, 10.1.2.3, "fd00::/8"], use: direct}
  - {port: 22, use: "tag=eu, strategy=latency"}
  - use: any
""",
    )
    assert [str(rule) for rule in rules] == [
        "domain: corp.example, use: exit=berlin",
        "domain: [a.example, b.example], port: [80, 8000-8100], use: block",
        "cidr: [192.168.0.0/16, 10.1.2.3/32, fd00::/8], use: direct",
        "port: 22, use: tag=eu,strategy=fastest",
        "use: any",
    ]
    assert rules[1].port == (PortRange(80, 80), PortRange(8000, 8100))
    assert rules[2].cidr == tuple(ip_network(cidr) for cidr in ("192.168.0.0/16", "10.1.2.3", "fd00::/8"))
    assert rules[3].use == Use(Action.EXIT, tag="eu", strategy=Strategy.FASTEST)
    assert [rule.matches_all for rule in rules] == [False, False, False, False, True]


def test_none_are_needed(tmp_path: Path) -> None:
    assert load(tmp_path, "") == ()


def test_a_long_list_is_shown_short() -> None:
    rule = RoutingRule.model_validate({"domain": [f"{n}x.example" for n in range(50)], "use": "block"})
    assert str(rule) == "domain: [0x.example, 1x.example, 2x.example and 47 more], use: block"


def test_a_rule_can_be_made_of_finished_values() -> None:
    network = ip_network("10.0.0.0/8")
    rule = RoutingRule(cidr=(network,), port=(PortRange(1, 2),), use=Use(Action.BLOCK))
    assert str(rule) == "cidr: 10.0.0.0/8, port: 1-2, use: block"


USES = "any, direct, block, exit=NAME, tag=TAG or strategy=NAME"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{}", f"rules[0]: use is needed: {USES}"),
        ("{domain: example.org}", f"rules[0]: use is needed: {USES}"),
        ("{use: }", f"rules[0]: use is needed: {USES}"),
        ("{use: [block]}", f"rules[0].use: must be {USES}"),
        ("{use: blok}", f'rules[0].use: "blok" is no use (write {USES})'),
        ("{use: exit}", f'rules[0].use: "exit" is no use (write {USES})'),
        ("{use: name=berlin}", 'rules[0].use: "name=berlin" is no use'),
        ("{use: 'exit=a,exit=b'}", 'rules[0].use: "exit=a,exit=b" says exit twice'),
        ("{use: exit=}", 'rules[0].use: "" must have 1 to 64 characters'),
        ("{use: tag=e u}", 'rules[0].use: "e u" must have 1 to 64 characters'),
        (
            "{use: strategy=fastst}",
            'rules[0].use: strategy "fastst" is not one of random, round-robin, fastest',
        ),
        ("{use: strategy=fastst}", '(did you mean "fastest"?)'),
        ("{use: 'exit=a,direct'}", 'rules[0].use: "exit=a,direct" is no use'),
        ("{use: any, domain: }", "rules[0]: domain is empty: leave it out to match everything"),
        ("{use: any, cidr: []}", "rules[0]: cidr is empty: leave it out to match everything"),
        ("{use: any, port: ''}", "rules[0]: port is empty: leave it out to match everything"),
        ("{use: any, domian: x}", 'rules[0].domian: unknown key (did you mean "domain"?)'),
        ("{use: any, domain: {a: b}}", "rules[0].domain: must be text or a list of texts"),
        ("{use: any, domain: [a.org, [b.org]]}", "rules[0].domain: must be text or a list of texts"),
        ("{use: any, domain: münchen.de}", "must be written in ASCII, as names are looked up (xn--...)"),
        (
            "{use: any, domain: '*.example.org'}",
            'rules[0].domain: "*.example.org": leave out what is in front',
        ),
        ("{use: any, domain: .example.org}", 'rules[0].domain: ".example.org": leave out what is in front'),
        (
            "{use: any, domain: exa mple.org}",
            'rules[0].domain: "exa mple.org" is no domain (write example.org)',
        ),
        ("{use: any, domain: https://x.org/}", 'rules[0].domain: "https://x.org/" is no domain'),
        ("{use: any, domain: a..org}", 'rules[0].domain: "a..org" is no domain'),
        ("{use: any, domain: .}", 'rules[0].domain: "." is no domain'),
        ("{use: any, domain: 10.0.0.1}", '"10.0.0.1" is no domain; write addresses behind cidr'),
        ("{use: any, domain: '::1'}", 'rules[0].domain: "::1" is no domain'),
        (f"{{use: any, domain: {'a.' * 127}org}}", "is no domain (write example.org)"),
        (
            "{use: any, cidr: example.org}",
            'rules[0].cidr: "example.org" is no network (write CIDR, for example',
        ),
        ("{use: any, cidr: 10.0.0.1/8}", "it has bits set behind the prefix (did you mean 10.0.0.0/8?)"),
        ("{use: any, cidr: 10.0.0.0/8:80}", 'rules[0].cidr: "10.0.0.0/8:80" is no network (write CIDR, for'),
        ("{use: any, port: https}", 'rules[0].port: "https" is no port or range (write 443 or 8000-8100)'),
        ("{use: any, port: 0}", 'rules[0].port: "0" is no port or range'),
        ("{use: any, port: 65536}", 'rules[0].port: "65536" is no port or range'),
        ("{use: any, port: 90-80}", 'rules[0].port: "90-80" is no port or range'),
        ("{use: any, port: [80, true]}", 'rules[0].port: "true" is no port or range'),
        ("{use: any, domain: a.org, cidr: 10.0.0.0/8}", "rules[0]: domain and cidr never both match"),
        ("~", "rules[0]: must be a block of keys, not empty"),
        ("block", 'rules[0]: must be a block of keys, not "block"'),
    ],
)
def test_a_wrong_rule_is_named(tmp_path: Path, rule: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"  - {rule}")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_there_is_a_bound(tmp_path: Path) -> None:
    assert len(load(tmp_path, "  - {use: any}\n" * MAX_RULES)) == MAX_RULES
    with pytest.raises(ConfigError, match=r"rules: must be a list of at most 1000, not a list of 1001"):
        load(tmp_path, "  - {use: any}\n" * (MAX_RULES + 1))
