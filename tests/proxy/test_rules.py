"""Which rule a request falls under, and what that means with the wishes in its user name."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.config import Action, RoutingRule
from bethrou.proxy.candidates import ANY_EXIT, Scope
from bethrou.proxy.rules import Rules, Ruling, warnings


def rule(**keys: Any) -> RoutingRule:
    return RoutingRule.model_validate(keys)


def matches(host: str, at: int = 443, **conditions: Any) -> bool:
    """Whether a rule with these conditions matches a request."""
    return Rules([rule(**conditions, use="block")]).judge(host, at).action is Action.BLOCK


@pytest.mark.parametrize(
    ("domain", "host", "yes"),
    [
        ("example.org", "example.org", True),
        ("example.org", "www.example.org", True),
        ("example.org", "a.b.c.example.org", True),
        ("example.org", "WWW.Example.ORG", True),
        ("example.org", "www.example.org.", True),
        ("EXAMPLE.org.", "www.example.org", True),
        ("example.org", "example.com", False),
        ("example.org", "badexample.org", False),
        ("example.org", "example.org.evil.net", False),
        ("example.org", "org", False),
        ("www.example.org", "example.org", False),
        ("org", "example.org", True),
        ("xn--mnchen-3ya.de", "www.XN--MNCHEN-3YA.de", True),
        ("localhost", "localhost", True),
        ("example.org", "93.184.216.34", False),
        ("example.org", "::1", False),
        (["a.org", "b.org"], "x.b.org", True),
        (["a.org", "b.org"], "c.org", False),
    ],
)
def test_a_domain_is_the_name_and_all_below_it(domain: str | list[str], host: str, yes: bool) -> None:
    assert matches(host, domain=domain) is yes


@pytest.mark.parametrize(
    ("cidr", "host", "yes"),
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("0.0.0.0/0", "8.8.8.8", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("::1", "::1", True),
        ("10.0.0.0/8", "ten.example", False),
        ("0.0.0.0/0", "example.org", False),
        ("::/0", "example.org", False),
        (["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"], "fd12::1", True),
        (["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"], "192.168.7.7", True),
        (["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"], "192.169.7.7", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "64:ff9b::a00:1", True),
        ("10.0.0.0/8", "2002:a00:1::", True),
        ("64:ff9b::/96", "64:ff9b::a00:1", True),
        ("::ffff:0:0/96", "::ffff:10.0.0.1", True),
    ],
)
def test_a_cidr_matches_addresses_and_never_names(cidr: str | list[str], host: str, yes: bool) -> None:
    assert matches(host, cidr=cidr) is yes


@given(st.ip_addresses(), st.integers(0, 128), st.data())
def test_networks_hold_what_the_standard_library_says(base: Any, prefix: int, data: st.DataObject) -> None:
    network = ip_network(f"{base}/{min(prefix, base.max_prefixlen)}", strict=False)
    address = data.draw(st.ip_addresses(v=base.version) | st.ip_addresses(network=network))
    ruling = Rules([rule(cidr=str(network), use="direct")]).judge(str(address), 80)
    assert (ruling.action is Action.DIRECT) == (address in network)


@pytest.mark.parametrize("host", ["64:ff9b::a00:1", "2002:a00:1::"])
def test_packets_that_only_may_end_up_there_are_no_reason_to_go_there_directly(host: str) -> None:
    rules = Rules([rule(cidr="10.0.0.0/8", use="direct"), rule(use="exit=berlin")])
    assert rules.judge(host, 80).action is Action.EXIT
    assert rules.judge("::ffff:10.0.0.1", 80).action is Action.DIRECT


@pytest.mark.parametrize(
    ("ports", "port", "yes"),
    [
        ("443", 443, True),
        ("443", 444, False),
        (443, 443, True),
        ("8000-8100", 7999, False),
        ("8000-8100", 8000, True),
        ("8000-8100", 8100, True),
        ("8000-8100", 8101, False),
        (["22", "8000-8100"], 22, True),
        (["22", "8000-8100"], 8050, True),
        (["22", "8000-8100"], 23, False),
    ],
)
def test_ports(ports: Any, port: int, yes: bool) -> None:
    assert matches("example.org", port, port=ports) is yes


def test_all_conditions_must_match_and_none_matches_everything() -> None:
    assert matches("example.org", 80, domain="example.org", port=80)
    assert not matches("example.org", 81, domain="example.org", port=80)
    assert not matches("example.net", 80, domain="example.org", port=80)
    assert not matches("10.0.0.1", 81, cidr="10.0.0.0/8", port=80)
    assert matches("anything", 1)
    assert matches("::1", 65535)


def test_the_first_match_decides() -> None:
    rules = Rules(
        [
            rule(domain="www.example.org", use="any"),
            rule(domain="example.org", use="block"),
            rule(port=22, use="tag=eu,strategy=sticky"),
            rule(use="exit=berlin"),
        ]
    )
    assert rules.judge("www.example.org", 22) == Ruling(
        Action.EXIT, rule="domain: www.example.org, use: any", index=0
    )
    assert rules.judge("example.org", 22) == Ruling(
        Action.BLOCK, rule="domain: example.org, use: block", index=1
    )
    assert rules.judge("example.net", 22) == Ruling(
        Action.EXIT, Scope(tags=("eu",)), "sticky", "port: 22, use: tag=eu,strategy=sticky", 2
    )
    assert rules.judge("1.2.3.4", 80).scope == Scope(exits=("berlin",))


def test_without_a_match_any_exit_may_be_used() -> None:
    assert Rules().judge("example.org", 80) == Ruling()
    assert Rules([rule(port=22, use="block")]).judge("example.org", 80) == Ruling()
    assert Ruling() == Ruling(Action.EXIT, ANY_EXIT, None, "", None)


def test_block_wins_over_every_wish() -> None:
    ruling = Rules([rule(use="block")]).judge("example.org", 80, exit="berlin", tag="eu")
    assert ruling.action is Action.BLOCK
    assert ruling.note == "the user name asks for an exit, but block wins"


@pytest.mark.parametrize("wish", [{"exit": "berlin"}, {"tag": "eu"}])
def test_whoever_names_an_exit_does_not_go_there_directly(wish: dict[str, str]) -> None:
    rules = Rules([rule(use="direct")])
    ruling = rules.judge("example.org", 80, **wish)
    assert ruling.action is Action.EXIT
    assert ruling.scope == ANY_EXIT.narrowed(wish.get("exit"), wish.get("tag"))
    assert (ruling.index, ruling.note) == (0, "the user name asks for an exit, which wins over direct")
    assert rules.judge("example.org", 80).action is Action.DIRECT


def test_a_wish_narrows_further() -> None:
    rules = Rules([rule(use="tag=eu,strategy=fastest")])
    ruling = rules.judge("example.org", 80, exit="berlin", tag="fast")
    assert ruling.scope == Scope(exits=("berlin",), tags=("eu", "fast"))
    assert (ruling.strategy, ruling.note) == ("fastest", "")
    both = Rules([rule(use="exit=paris")]).judge("example.org", 80, exit="berlin")
    assert both.scope == Scope(exits=("paris", "berlin"))  # which no exit fits


def test_who_wrote_the_rules_is_told_what_they_mean() -> None:
    told = warnings(
        [
            rule(domain="lan.example", use="direct"),
            *(rule(cidr=f"10.{n}.0.0/16", use="direct") for n in range(4)),
            rule(use="any"),
            rule(port=22, use="block"),
        ]
    )
    assert told == (
        "rules[0], rules[1], rules[2] and 2 more: such connections leave from this machine itself, not from an "
        "exit, and it looks their names up",
        "rules[1], rules[2], rules[3] and 1 more: cidr matches addresses that applications ask for, never names "
        "that lead there",
        "rules[6]: never reached, as rules[5] matches everything",
    )


def test_rules_that_surprise_nobody_are_not_talked_about() -> None:
    assert warnings([]) == ()
    assert (
        warnings([rule(domain="example.org", use="block"), rule(port=22, use="exit=a"), rule(use="any")])
        == ()
    )
