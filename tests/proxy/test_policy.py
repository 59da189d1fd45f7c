from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.config.values import parse_address_rule
from bethrou.proxy.policy import DenialCause, Policy
from bethrou.proxy.special_addresses import _IPV4, _IPV6, embedded_ipv4, special_use

OWN4, OWN6 = ip_address("8.8.4.4"), ip_address("2a00::1")
PORT = 443


def policy(allow: str = "", deny: str = "", own_ports: frozenset[int] = frozenset()) -> Policy:
    return Policy(
        allow=tuple(parse_address_rule(rule) for rule in allow.split()),
        deny=tuple(parse_address_rule(rule) for rule in deny.split()),
        own_addresses=frozenset({OWN4, OWN6}),
        own_ports=own_ports,
    )


def allowed(judge: Policy, address: str, port: int = PORT) -> bool:
    return judge.judge(ip_address(address), port) is None


@pytest.mark.parametrize(
    "address",
    [
        *(
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
        ),
        *(
            "172.32.0.0",
            "192.0.1.0",
            "192.0.0.9",
            "192.0.0.10",
            "192.31.196.1",
            "192.52.193.1",
            "192.175.48.1",
        ),
        *("198.17.255.255", "198.20.0.0", "223.255.255.255", "9.255.255.255", "11.0.0.0"),
        *("2606:4700:4700::1111", "2000::", "2001:200::", "2001:1::1", "2001:1::2", "2001:1::3", "2001:3::1"),
        *(
            "2001:4:112::1",
            "2001:20::1",
            "2001:30::1",
            "2620:4f:8000::1",
            "2001:db7::",
            "2001:db9::",
            "2003::",
        ),
        *("3ffe:ffff::", "3fff:1000::", "64:ff9b::8.8.8.8"),
    ],
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert allowed(policy(), address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255"),
        *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.11"),
        *("192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::2", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8"),
        *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8"),
        *(
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:1::4",
            "2001:2::1",
        ),
        *("2001:10::1", "2001:40::1", "2001:1ff::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1"),
        *("3fff::1", "3fff:fff::1", "5f00::1", "4000::1", "fc00::1", "fd00::1", "fe80::1", "fec0::1"),
        *("ff02::1", "ff0e::1", "fe80::1%eth0", "1fff::1", "::1%lo"),
    ],
)
def test_all_other_addresses_are_denied(address: str) -> None:
    denial = policy().judge(ip_address(address), PORT)
    assert denial is not None
    assert denial.cause is DenialCause.NOT_ROUTABLE
    assert denial.reason.startswith("not globally routable (")


@pytest.mark.parametrize(("cidr", "name", "public"), [*_IPV4, *_IPV6], ids=str)
def test_the_registrys_name_is_given_to_the_whole_block(cidr: str, name: str, public: bool) -> None:
    network = ip_network(cidr)
    nested = [row for row in (_IPV4 if network.version == 4 else _IPV6) if row[0] != cidr]
    for address in (network.network_address, network[network.num_addresses // 2], network.broadcast_address):
        inside = [row[0] for row in nested if address in ip_network(row[0])]
        if not any(ip_network(other).prefixlen > network.prefixlen for other in inside):
            assert special_use(address) == (None if public else name)


def test_addresses_of_the_exit_itself_are_denied() -> None:
    for address in ("8.8.4.4", "2a00::1", "64:ff9b::8.8.4.4"):
        denial = policy().judge(ip_address(address), PORT)
        assert denial is not None
        assert denial.cause is DenialCause.OWN_ADDRESS


def test_a_zone_does_not_hide_an_own_address() -> None:
    own = frozenset({ip_address("fe80::1")})
    judge = Policy(own_addresses=own, allow=(parse_address_rule("fe80::/10"),), own_ports=frozenset({80}))
    assert not allowed(judge, "fe80::1%eth0", 80)


def test_mail_is_denied() -> None:
    denial = policy().judge(ip_address("1.1.1.1"), 25)
    assert denial is not None
    assert denial.cause is DenialCause.MAIL_PORT
    assert allowed(policy(), "1.1.1.1", 587)


@pytest.mark.parametrize(
    ("allow", "deny", "address", "port", "verdict"),
    [
        ("10.0.0.0/8", "", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "", "11.1.2.3", 80, True),
        ("10.0.0.0/8", "", "192.168.1.1", 80, False),
        ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", 80, False),
        ("10.1.2.3", "10.0.0.0/8", "10.1.2.3", 80, False),
        ("10.1.2.3:80", "", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "", "10.1.2.3", 81, False),
        ("10.0.0.0/8", "10.0.0.0/8:22", "10.1.2.3", 22, False),
        ("10.0.0.0/8", "10.0.0.0/8:22", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "", "10.1.2.3", 25, False),
        ("10.0.0.0/8:25", "", "10.1.2.3", 25, True),
        ("0.0.0.0/0:25", "", "1.1.1.1", 25, True),
        ("0.0.0.0/0:25", "1.1.1.1", "1.1.1.1", 25, False),
        ("0.0.0.0/0", "", "::1", 80, False),
        ("::/0", "", "127.0.0.1", 80, False),
        ("", "1.1.1.0/24", "1.1.1.1", 80, False),
        ("", "0.0.0.0/0", "2606::1", 80, True),
        ("8.8.4.4", "", "8.8.4.4", 80, True),
        # An address inside another one has to pass, too; and the outer one as well.
        ("::ffff:0:0/96", "", "::ffff:127.0.0.1", 80, False),
        ("127.0.0.0/8", "", "::ffff:127.0.0.1", 80, False),
        ("127.0.0.0/8 ::ffff:0:0/96", "", "::ffff:127.0.0.1", 80, True),
        ("2002::/16", "", "2002:7f00:1::", 80, False),
        ("2002::/16", "", "2002:808:808::", 80, True),
        ("127.0.0.0/8", "", "64:ff9b::127.0.0.1", 80, True),
        ("", "8.8.8.8", "64:ff9b::8.8.8.8", 80, False),
        ("", "64:ff9b::/96", "64:ff9b::8.8.8.8", 80, False),
    ],
)
def test_deny_beats_allow_beats_default(
    allow: str, deny: str, address: str, port: int, verdict: bool
) -> None:
    assert allowed(policy(allow, deny), address, port) is verdict


def test_the_exits_own_listen_port_needs_to_be_named() -> None:
    ports = frozenset({4000})
    open_to_itself = policy("8.8.4.4", own_ports=ports)
    assert allowed(open_to_itself, "8.8.4.4", 4001)
    denial = open_to_itself.judge(OWN4, 4000)
    assert denial is not None
    assert denial.cause is DenialCause.OWN_PORT
    assert allowed(policy("8.8.4.4:4000", own_ports=ports), "8.8.4.4", 4000)
    assert allowed(policy(own_ports=ports), "1.1.1.1", 4000)


def test_a_reason_names_the_rule_but_not_the_address() -> None:
    denial = policy(deny="1.1.1.0/24").judge(ip_address("1.1.1.1"), 80)
    assert denial is not None
    assert denial.reason == "denied by the rule 1.1.1.0/24"


ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)
ports = st.integers(1, 65535)


@given(ipv4, ports)
def test_no_wrapping_gets_around_the_policy(inner: IPv4Address, port: int) -> None:
    bits = int(inner)
    for wrapped in ((0xFFFF << 32) | bits, (0x64FF9B << 96) | bits, (0x2002 << 112) | (bits << 80)):
        outer = IPv6Address(wrapped)
        assert embedded_ipv4(outer) == inner
        if policy().judge(inner, port) is not None:
            assert policy().judge(outer, port) is not None


@given(ipv4 | ipv6, ports)
def test_a_deny_rule_always_wins(address: IPv4Address | IPv6Address, port: int) -> None:
    everything = f"0.0.0.0/0 ::/0 0.0.0.0/0:{port} [::/0]:{port}"
    assert policy(everything).judge(address, port) is None
    denial = policy(everything, deny=str(address)).judge(address, port)
    assert denial is not None
    assert denial.cause is DenialCause.DENY_RULE


@given(ipv6)
def test_what_ipaddress_calls_private_is_never_public(address: IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved:
        assert special_use(address) is not None or address in ip_network("2001::/23")


@given(ipv4)
def test_ipv4_agrees_with_ipaddress_where_that_is_right(address: IPv4Address) -> None:
    if (
        address.is_private
        or address.is_multicast
        or address.is_reserved
        or address in ip_network("100.64.0.0/10")
    ):
        assert special_use(address) is not None or address in ip_network("192.0.0.0/24")
    elif address not in ip_network("192.88.99.0/24") and address not in ip_network("192.0.0.0/24"):
        assert special_use(address) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.9.9.9"])
def test_the_exit_itself_answers_at_addresses_that_no_interface_lists(address: str) -> None:
    everything = policy("0.0.0.0/0 ::/0", own_ports=frozenset({4000}))
    assert allowed(everything, address, 4001)
    denial = everything.judge(ip_address(address), 4000)
    assert denial is not None
    assert denial.cause is DenialCause.OWN_PORT
