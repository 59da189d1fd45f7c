from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.config.values import (
    AddressRule,
    DnsServer,
    HostPort,
    ResolverChoice,
    parse_address_rule,
    parse_duration,
    parse_label,
    parse_listen,
    parse_resolver,
    parse_size,
)
from bethrou.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1h2m3.5s", 3723.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("2.s", 2),
        ("100us", 1e-4),
        ("100µs", 1e-4),
        ("100μs", 1e-4),
        ("5ns", 5e-9),
        ("0", 0),
        ("0s", 0),
        ("30", 30),
        ("2.5", 2.5),
        (" 30s ", 30),
    ],
)
def test_durations_are_read_as_go_reads_them_or_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "30 s", "30sec", "1d", "-5s", "1m30", "s30", "nan", "inf", "1e3", "\u0663s", "30s\n5", "."],
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"negative|no duration"):
        parse_duration(text)


def test_a_duration_of_years_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than a year"):
        parse_duration("9999999h")


@given(st.text(max_size=40))
def test_a_duration_is_finite_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_duration(text) <= 366 * 86400
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:1080", "127.0.0.1", 1080, True),
        ("127.1.2.3:0", "127.1.2.3", 0, True),
        ("[::1]:1080", "::1", 1080, True),
        ("localhost:1080", "localhost", 1080, True),
        (":1080", "", 1080, False),
        ("0.0.0.0:1080", "0.0.0.0", 1080, False),
        ("[::]:1080", "::", 1080, False),
        ("nas.lan:1080", "nas.lan", 1080, False),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, False),
    ],
)
def test_listen_addresses(text: str, host: str, port: int, loopback: bool) -> None:
    address = parse_listen(text)
    assert address == HostPort(host, port)
    assert address.is_loopback is loopback
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "1080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1080:"),
        *("::1:1080", "::1", "[::1]", "[::1:1080", "[nonsense/]:1", "a b:1", "h:\u0661"),
    ],
)
def test_other_listen_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("10.1.2.3", "10.1.2.3/32", None),
        ("10.1.2.3:8080", "10.1.2.3/32", 8080),
        ("0.0.0.0/0:25", "0.0.0.0/0", 25),
        ("fd00::/8", "fd00::/8", None),
        ("[fd00::/8]:443", "fd00::/8", 443),
        ("[fd00::1]", "fd00::1/128", None),
        ("::1", "::1/128", None),
    ],
)
def test_address_rules(text: str, network: str, port: int | None) -> None:
    rule = parse_address_rule(text)
    assert rule == AddressRule(ip_network(network), port)
    assert parse_address_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("example.com", "write CIDR"),
        ("10.0.0.0/33", "write CIDR"),
        ("10.0.0.0/8:0", "no port from 1 to 65535"),
        ("10.0.0.0/8:http", "no port from 1 to 65535"),
        ("127.1", "write CIDR"),
        ("", "write CIDR"),
        ("[fd00::/8", "write CIDR"),
    ],
)
def test_other_address_rules_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        parse_address_rule(text)


def test_name_servers() -> None:
    choice = parse_resolver(["9.9.9.9", "127.0.0.1:5353", "2620:fe::fe", "[::1]:5353"])
    assert choice == ResolverChoice(
        (
            DnsServer(ip_address("9.9.9.9")),
            DnsServer(ip_address("127.0.0.1"), 5353),
            DnsServer(ip_address("2620:fe::fe")),
            DnsServer(ip_address("::1"), 5353),
        )
    )
    assert [str(server) for server in choice.servers] == [
        "9.9.9.9:53",
        "127.0.0.1:5353",
        "[2620:fe::fe]:53",
        "[::1]:5353",
    ]


def test_the_systems_resolver_stands_alone() -> None:
    assert parse_resolver(["system"]) == ResolverChoice(system=True)
    assert parse_resolver([]) == ResolverChoice()
    with pytest.raises(ConfigError, match="combined"):
        parse_resolver(["system", "9.9.9.9"])


@pytest.mark.parametrize("text", ["dns.quad9.net", "9.9.9.9:0", "9.9.9.9:dns", "", "System"])
def test_other_name_servers_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_resolver([text])


def test_labels() -> None:
    assert parse_label("eu-west.1_~") == "eu-west.1_~"
    for bad in ("", "a b", "a,b", "a=b", "x" * 65, "é", "a\n"):
        with pytest.raises(ConfigError, match="1 to 64 characters"):
            parse_label(bad)


@given(st.text(max_size=60))
def test_every_parser_answers_with_a_value_or_one_line(text: str) -> None:
    for parse in (parse_listen, parse_address_rule, parse_label, lambda word: parse_resolver([word])):
        try:
            parse(text)
        except ConfigError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500000", 500_000),
        ("500kB", 500_000),
        ("1.5MB", 1_500_000),
        ("10MiB", 10 << 20),
        ("2G", 2_000_000_000),
        ("64 KiB", None),
        ("64kiB", 65_536),
        (" 1B ", 1),
    ],
)
def test_sizes_are_numbers_of_bytes(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(ConfigError, match="no number of bytes"):
            parse_size(text)
    else:
        assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "B", "-1", "1e6", "10mb", "10 Mbit", "\u0663MB", "99999999999999999999TB"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)
