"""How the address of Redis is written, and that no error tells what may be a password."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.config import DiscoveryConfig
from bethrou.discovery.redis_address import RedisAddress, announcement_topic, redis_address
from bethrou.errors import ConfigError
from discovery.redis_network import KEY, SECRET


def read(address: str, **options: Any) -> RedisAddress:
    return redis_address(DiscoveryConfig.model_validate({"address": address, **options}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://example.org:7000", RedisAddress("example.org", 7000)),
        ("redis://example.org", RedisAddress("example.org", 6379)),
        ("example.org:7000", RedisAddress("example.org", 7000)),
        ("127.0.0.1:6379", RedisAddress("127.0.0.1", 6379)),
        (" redis://[2001:db8::1]:7000 ", RedisAddress("2001:db8::1", 7000)),
        ("rediss://example.org:7000/0?protocol=3", RedisAddress("example.org", 7000, tls=True)),
        ("REDISS://Example.ORG", RedisAddress("example.org", 6379, tls=True)),
        (f"redis://:{SECRET}@example.org", RedisAddress("example.org", password=SECRET)),
        (f"redis://alice:{SECRET}@example.org", RedisAddress("example.org", user="alice", password=SECRET)),
        ("redis://al%40ice:p%3A%2Fw@h", RedisAddress("h", user="al@ice", password="p:/w")),
        ("redis://alice:p@w@h", RedisAddress("h", user="alice", password="p@w")),
    ],
)
def test_addresses_as_the_go_program_reads_them(text: str, expected: RedisAddress) -> None:
    assert read(text) == expected


def test_user_and_password_beside_the_address_go_before_those_in_it() -> None:
    found = read("redis://alice:wrong@h", **{"user": "bob", "pass": SECRET})
    assert (found.user, found.password) == ("bob", SECRET)
    found = read("redis://alice@h", **{"pass": SECRET})
    assert (found.user, found.password) == ("alice", SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.org",
        "unix:///run/redis.sock",
        "redis://",
        "redis://:0",
        "redis://example.org:0",
        "redis://example.org:70000",
        f"redis://alice:{SECRET}@example.org:port",
        f"redis://alice:1/{SECRET}@example.org",
        f"redis://alice:1#{SECRET}@example.org",
        f"redis://alice:[{SECRET}@example.org",
        f"{SECRET}://example.org",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert SECRET not in str(raised.value)
    assert "alice" not in str(raised.value)
    assert raised.value.__cause__ is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(min_size=1))
def test_any_text_is_an_address_or_a_slip(text: str) -> None:
    try:
        read(text)
    except ConfigError as error:
        assert "discovery" in str(error)


def test_no_password_is_shown() -> None:
    assert SECRET not in repr(read(f"redis://alice:{SECRET}@h"))
    assert SECRET not in str(read(f"redis://alice:{SECRET}@h"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("10.0.0.1", False), ("example.org", False)],
)
def test_whether_it_is_on_this_machine(host: str, expected: bool) -> None:
    assert read(f"redis://{host}:6379").is_loopback is expected


def test_the_topic_is_the_networks_own_unless_one_is_given() -> None:
    assert announcement_topic(DiscoveryConfig(), KEY) == f"bethrou/{KEY.fingerprint}"
    assert announcement_topic(DiscoveryConfig(topic="ours"), KEY) == "ours"
