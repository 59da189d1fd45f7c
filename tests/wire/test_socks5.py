import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import Failure
from bethrou.wire.socks5 import (
    Connect,
    Credentials,
    Event,
    Reply,
    Socks5Server,
    Stranger,
    Violation,
    reply,
    reply_code,
)

from .support import CUTS, byte_by_byte, cut

ANONYMOUS = b"\x05\x01\x00"
WITH_PASSWORD = b"\x05\x01\x02"
LOGIN = b"\x01\x03bob\x06secret"
REQUEST = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
EXAMPLE = Connect("example.com", 443, 3)


def feed(server: Socks5Server, chunks: list[bytes], accept: bool = True) -> tuple[list[Event], bytes]:
    """Feed all chunks, answer credentials; return the events and everything that was to be sent."""
    events: list[Event] = []
    for chunk in chunks:
        event = server.receive(chunk)
        while event is not None:
            events.append(event)
            event = server.answer_credentials(accept) if isinstance(event, Credentials) else None
    return events, server.data_to_send()


def both_ways(data: bytes, allow_anonymous: bool = True) -> list[tuple[list[Event], bytes, bytes]]:
    results = []
    for chunks in ([data], byte_by_byte(data)):
        server = Socks5Server(allow_anonymous)
        events, sent = feed(server, chunks)
        results.append((events, sent, server.surplus))
    return results


def only_violation(data: bytes, allow_anonymous: bool = True) -> Violation:
    """The violation in which `data` ends, whole and byte by byte."""
    whole, pieces = both_ways(data, allow_anonymous)
    assert whole[0][-1] == pieces[0][-1]
    violation = whole[0][-1]
    assert isinstance(violation, Violation)
    assert violation.reason.isascii()
    assert violation.reason.isprintable()
    return violation


def test_step_by_step_without_a_password() -> None:
    server = Socks5Server(True)
    assert server.receive(ANONYMOUS) is None
    assert server.data_to_send() == b"\x05\x00"
    assert server.receive(REQUEST) == EXAMPLE
    assert server.data_to_send() == b""
    assert server.surplus == b""


def test_step_by_step_with_a_password() -> None:
    server = Socks5Server(False)
    assert server.receive(WITH_PASSWORD) is None
    assert server.data_to_send() == b"\x05\x02"
    assert server.receive(LOGIN) == Credentials(b"bob", b"secret")
    assert server.data_to_send() == b""
    assert server.answer_credentials(True) is None
    assert server.data_to_send() == b"\x01\x00"
    assert server.receive(REQUEST) == EXAMPLE


def test_refused_credentials() -> None:
    server = Socks5Server(True)
    server.receive(WITH_PASSWORD + LOGIN + REQUEST)
    server.data_to_send()
    assert server.answer_credentials(False) is None
    assert server.data_to_send() == b"\x01\x01"
    assert server.receive(REQUEST) is None


def test_nothing_is_read_before_the_verdict() -> None:
    server = Socks5Server(True)
    assert isinstance(server.receive(WITH_PASSWORD + LOGIN + REQUEST), Credentials)
    assert server.receive(b"more") is None
    assert server.surplus == b""
    assert server.answer_credentials(True) == EXAMPLE
    assert server.surplus == b"more"
    with pytest.raises(RuntimeError):
        server.answer_credentials(True)


@pytest.mark.parametrize(
    ("request_bytes", "event"),
    [
        ("05010001c0000201 0050", Connect("192.0.2.1", 80, 1)),
        ("0501000420010db8000000000000000000000001 ffff", Connect("2001:db8::1", 65535, 4)),
        ("05010003" + "0b" + b"example.com".hex() + "01bb", EXAMPLE),
        ("05010003" + "09" + b"127.0.0.1".hex() + "0050", Connect("127.0.0.1", 80, 3)),
        ("05010003" + "05" + b"0::01".hex() + "0050", Connect("::1", 80, 3)),
        ("0501ff01c0000201 0050", Connect("192.0.2.1", 80, 1)),
    ],
)
def test_requests(request_bytes: str, event: Connect) -> None:
    for events, sent, surplus in both_ways(ANONYMOUS + bytes.fromhex(request_bytes) + b"payload"):
        assert (events, sent, surplus) == ([event], b"\x05\x00", b"payload")


@pytest.mark.parametrize(
    ("methods", "allow_anonymous", "chosen"),
    [
        (b"\x00", True, 0x00),
        (b"\x00", False, 0xFF),
        (b"\x02", True, 0x02),
        (b"\x02", False, 0x02),
        (b"\x00\x02", True, 0x02),
        (b"\x02\x00", False, 0x02),
        (b"\x00\x01\x02", True, 0x02),
        (b"\x01", True, 0xFF),
        (b"", True, 0xFF),
        (bytes(range(3, 255)), False, 0xFF),
    ],
)
def test_choice_of_the_method(methods: bytes, allow_anonymous: bool, chosen: int) -> None:
    greeting = bytes((5, len(methods))) + methods
    expected = bytes((5, chosen))
    for events, sent, _ in both_ways(greeting, allow_anonymous):
        if chosen == 0xFF:
            assert [event.reply for event in events if isinstance(event, Violation)] == [expected]
        else:
            assert (events, sent) == ([], expected)


@pytest.mark.parametrize("name", [b"", b"b", b"b" * 255])
@pytest.mark.parametrize("password", [b"", b"p", b"p" * 255])
def test_credentials_of_any_length(name: bytes, password: bytes) -> None:
    login = b"\x01" + bytes((len(name),)) + name + bytes((len(password),)) + password
    for events, sent, _ in both_ways(WITH_PASSWORD + login + REQUEST):
        assert events == [Credentials(name, password), EXAMPLE]
        assert sent == b"\x05\x02\x01\x00"


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Credentials(b"bob", b"secret"))


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\x04\x01\x00\x50", b"\x00"]
)
def test_whoever_speaks_something_else_is_left_to_others(data: bytes) -> None:
    for events, sent, surplus in both_ways(data):
        assert (events, sent, surplus) == ([Stranger(data[0])], b"", data[: len(surplus)])
    assert both_ways(data)[0][2] == data


@pytest.mark.parametrize(
    ("request_bytes", "code", "reason"),
    [
        (b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x50", 0x07, "BIND"),
        (b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 0x07, "UDP ASSOCIATE"),
        (b"\x05\x09\x00\x01\x00\x00\x00\x00\x00\x00", 0x07, "command 9"),
        (b"\x05\x01\x00\x02\x00", 0x08, "address type 2"),
        (b"\x04\x01\x00\x01\x00", 0x01, "version 4"),
        (b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00", 0x04, "port 0"),
        (b"\x05\x01\x00\x03\x00\x00\x50", 0x04, "empty"),
        (b"\x05\x01\x00\x03\x03a b\x00\x50", 0x04, "'a b'"),
        (b"\x05\x01\x00\x03\x03a\x00b\x00\x50", 0x04, r"'a\x00b'"),
        (b"\x05\x01\x00\x03\x02\xff\x1b\x00\x50", 0x04, r"'\xff\x1b'"),
        (b"\x05\x01\x00\x03\x05127.1\x00\x50", 0x04, "127.1"),
        (b"\x05\x01\x00\x03\x0a0x7f000001\x00\x50", 0x04, "0x7f000001"),
        (b"\x05\x01\x00\x03\x0a2130706433\x00\x50", 0x04, "2130706433"),
    ],
)
def test_requests_that_are_refused(request_bytes: bytes, code: int, reason: str) -> None:
    violation = only_violation(ANONYMOUS + request_bytes)
    assert violation.reply == bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))
    assert reason in violation.reason


def test_another_version_of_the_login() -> None:
    violation = only_violation(WITH_PASSWORD + b"\x05\x01\x00\x01")
    assert violation.reply == b"\x01\x01"


def test_replies() -> None:
    assert reply(Reply.SUCCEEDED) == bytes.fromhex("05000001000000000000")
    assert reply(Reply.SUCCEEDED, ("192.0.2.1", 443)) == bytes.fromhex("05000001c000020101bb")
    assert reply(Reply.SUCCEEDED, ("2001:db8::1", 1)) == bytes.fromhex(
        "0500000420010db80000000000000000000000010001"
    )
    assert reply(Reply.REFUSED, ("example.com", 443)) == bytes.fromhex("05050001000000000000")


@given(st.sampled_from(list(Reply)), st.ip_addresses(), st.integers(0, 65535))
def test_replies_never_carry_a_name(
    code: Reply, ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    data = reply(code, (str(ip), port))
    assert data[:4] == bytes((5, code, 0, 1 if ip.version == 4 else 4))
    assert data[4:] == ip.packed + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure.REFUSED, 0x05),
        (Failure.HOST_UNREACHABLE, 0x04),
        (Failure.NO_SUCH_HOST, 0x04),
        (Failure.BAD_REQUEST, 0x04),
        (Failure.NET_UNREACHABLE, 0x03),
        (Failure.TIMEOUT, 0x06),
        (Failure.DENIED, 0x02),
        (Failure.DRAINING, 0x01),
        (Failure.OVERLOADED, 0x01),
        (Failure.INTERNAL, 0x01),
        (Failure.NO_EXIT, 0x01),
    ],
)
def test_failures_become_replies(failure: Failure, code: int) -> None:
    assert reply_code(failure) == code


def test_every_failure_has_a_reply() -> None:
    assert all(reply(reply_code(failure))[1] > 0 for failure in Failure)


@given(st.booleans(), st.binary(max_size=600), CUTS)
def test_any_chunking_keeps_the_payload_exactly_once(login: bool, payload: bytes, cuts: list[int]) -> None:
    server = Socks5Server(not login)
    opening = WITH_PASSWORD + LOGIN if login else ANONYMOUS
    events, sent = feed(server, cut(opening + REQUEST + payload, cuts))
    assert events == ([Credentials(b"bob", b"secret"), EXAMPLE] if login else [EXAMPLE])
    assert sent == (b"\x05\x02\x01\x00" if login else b"\x05\x00")
    assert server.surplus == payload


STARTS = st.sampled_from(
    [b"", b"\x05", ANONYMOUS, WITH_PASSWORD, WITH_PASSWORD + b"\x01", ANONYMOUS + b"\x05\x01\x00\x03"]
)


@given(STARTS, st.binary(max_size=80), CUTS, st.booleans(), st.booleans())
def test_random_bytes_never_raise(
    start: bytes, data: bytes, cuts: list[int], anonymous: bool, accept: bool
) -> None:
    whole, pieces = Socks5Server(anonymous), Socks5Server(anonymous)
    expected = feed(whole, [start + data], accept)
    assert feed(pieces, cut(start + data, cuts), accept) == expected
    if any(isinstance(event, Connect) for event in expected[0]):
        assert pieces.surplus == whole.surplus
