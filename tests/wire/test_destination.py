import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import Failure, RequestError
from bethrou.wire.destination import check_host, join_address, split_address

LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.com:443", "example.com", 443),
        ("Example.COM.:80", "Example.COM.", 80),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example", 1),
        ("_srv.exa_mple.com:65535", "_srv.exa_mple.com", 65535),
        ("localhost:80", "localhost", 80),
        ("1.example.com:80", "1.example.com", 80),
        ("0x7f.example:80", "0x7f.example", 80),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:80", "::1", 80),
        ("[2001:DB8:0:0::1]:80", "2001:db8::1", 80),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "127.0.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "1.2.3.4.5",
        "256.1.1.1",
        "0",
        "0x",
        "evil.127",
        "example.0x7f",
        "a..b",
        ".",
        ".example.com",
        "x" * 64 + ".com",
    ],
)
def test_names_that_cannot_exist(host: str) -> None:
    with pytest.raises(RequestError) as caught:
        split_address(f"{host}:80")
    assert caught.value.failure is Failure.NO_SUCH_HOST


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:-1",
        "example.com:+80",
        "example.com: 80",
        "example.com:80 ",
        "example.com:http",
        "example.com:\u0661",
        "example.com:000080",
        "exa mple.com:80",
        " example.com:80",
        "example.com\0.org:80",
        "example.com\n:80",
        "b\u00fccher.example:80",
        "\ud800:80",
        "user@example.com:80",
        "http://example.com:80",
        "example.com/x:80",
        "::1:80",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "[example.com]:80",
        "[127.0.0.1]:80",
        "[fe80::1%eth0]:80",
        "[:::1]:80",
        "a." * 128 + ":80",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        split_address(text)
    assert caught.value.failure is Failure.BAD_REQUEST
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_the_longest_host() -> None:
    longest = "a." * 127 + "a"
    assert split_address(f"{longest}:80") == (longest, 80)


def test_a_host_alone_may_be_an_ipv6_address() -> None:
    assert check_host("0:0::1") == "::1"
    for host in ("[::1]", "::1%1", "1::2::3"):
        with pytest.raises(RequestError):
            check_host(host)


@given(
    st.one_of(st.lists(LABELS, min_size=1, max_size=3).map(".".join), st.ip_addresses().map(str)),
    st.integers(1, 65535),
)
def test_round_trip(host: str, port: int) -> None:
    try:
        assert split_address(join_address(host, port)) == (host, port)
    except RequestError as error:
        assert error.failure is Failure.NO_SUCH_HOST
        assert host.rpartition(".")[2].strip("0123456789abcdefx") == ""


@given(st.text(max_size=300))
def test_random_text_only_raises_request_errors(text: str) -> None:
    for candidate in (text, text + ":80", f"[{text}]:80"):
        with contextlib.suppress(RequestError):
            host, port = split_address(candidate)
            assert host.isascii()
            assert host.isprintable()
            assert 0 < port < 65536


@given(st.text("0123456789abcdefx.", min_size=1, max_size=20))
def test_whatever_inet_aton_would_take_is_dotted_decimal_or_refused(host: str) -> None:
    with contextlib.suppress(RequestError):
        accepted = check_host(host)
        if accepted.rpartition(".")[2].isdigit():
            ipaddress.IPv4Address(accepted)
