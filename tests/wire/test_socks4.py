import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import Failure
from bethrou.wire.socks4 import MAX_USER_ID, Reply, Socks4Server, reply
from bethrou.wire.socks5 import Connect, Credentials, Event, Violation

from .support import CUTS, byte_by_byte, cut

# as curl 8.14 sends them: socks4:// and socks4a://bob@
OF_CURL = bytes.fromhex("04010050 7f000001 00")
OF_CURL_4A = bytes.fromhex("040101bb 00000001") + b"bob\0example.com\0"


def feed(server: Socks4Server, chunks: list[bytes], accept: bool = True) -> tuple[list[Event], bytes]:
    """Feed all chunks, answer credentials; return the events and everything that was to be sent."""
    events: list[Event] = []
    for chunk in chunks:
        event = server.receive(chunk)
        while event is not None:
            events.append(event)
            event = server.answer_credentials(accept) if isinstance(event, Credentials) else None
    return events, server.data_to_send()


def both_ways(
    data: bytes, allow_anonymous: bool = True, accept: bool = True
) -> tuple[list[Event], bytes, bytes]:
    """Whole and byte by byte: the same, surplus included."""
    results = []
    for chunks in ([data], byte_by_byte(data)):
        server = Socks4Server(allow_anonymous)
        events, sent = feed(server, chunks, accept)
        results.append((events, sent, server.surplus))
    assert results[0][:2] == results[1][:2]
    assert any(isinstance(event, Violation) for event in results[0][0]) or results[0] == results[1]
    return results[0]


def test_an_address() -> None:
    assert both_ways(OF_CURL + b"payload") == ([Connect("127.0.0.1", 80, 1)], b"", b"payload")


def test_a_name() -> None:
    assert both_ways(OF_CURL_4A + b"payload") == (
        [Credentials(b"bob", b""), Connect("example.com", 443, 3)],
        b"",
        b"payload",
    )


def test_a_user_that_is_not_let_in() -> None:
    assert both_ways(OF_CURL_4A, accept=False)[:2] == ([Credentials(b"bob", b"")], bytes((0, 93)) + bytes(6))


def test_nobody_is_let_in_where_a_password_is_needed() -> None:
    (event,), sent, _ = both_ways(OF_CURL_4A, allow_anonymous=False)
    assert isinstance(event, Violation)
    assert (event.reply, sent) == (bytes((0, 93)) + bytes(6), b"")
    assert "password" in event.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x04\x02\x00\x50\x7f\x00\x00\x01\x00", "BIND"),
        (b"\x04\x09", "command 9"),
        (b"\x04\x01\x00\x00\x7f\x00\x00\x01\x00", "port 0"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", "empty"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a b\x00", "'a b'"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\xff\x1b\x00", r"'\xff\x1b'"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x000x7f000001\x00", "0x7f000001"),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01" + b"u" * 256, "user-id is longer"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"n" * 256, "name is longer"),
    ],
)
def test_requests_that_are_refused(data: bytes, reason: str) -> None:
    events, _, _ = both_ways(data)
    violation = events[-1]
    assert isinstance(violation, Violation)
    assert violation.reply == bytes((0, 91)) + bytes(6)
    assert reason in violation.reason
    assert violation.reason.isprintable()


def test_the_longest_user_id_and_name() -> None:
    name = b"a" * 63 + b"." + b"b" * 63
    user = b"u" * MAX_USER_ID
    events, _, _ = both_ways(b"\x04\x01\x00\x50\x00\x00\x00\x01" + user + b"\0" + name + b"\0")
    assert events == [Credentials(user, b""), Connect(name.decode(), 80, 3)]


def test_0_0_0_0_is_an_address() -> None:
    events, _, _ = both_ways(b"\x04\x01\x00\x50\x00\x00\x00\x00\x00")
    assert events == [Connect("0.0.0.0", 80, 1)]


def test_replies() -> None:
    server = Socks4Server(True)
    assert server.granted(("192.0.2.1", 443)) == bytes.fromhex("005a01bbc0000201")
    for bound in (None, ("2001:db8::1", 443), ("example.com", 1)):
        assert server.granted(bound) == bytes((0, 90)) + bytes(6)
    assert {server.refused(failure) for failure in Failure} == {reply(Reply.REFUSED)}


def test_no_verdict_that_nobody_asked_for() -> None:
    server = Socks4Server(True)
    with pytest.raises(RuntimeError):
        server.answer_credentials(True)
    server.receive(OF_CURL_4A)
    assert server.surplus == b""
    server.answer_credentials(True)
    with pytest.raises(RuntimeError):
        server.answer_credentials(True)


@given(st.binary(max_size=300), CUTS)
def test_any_chunking_keeps_the_payload_exactly_once(payload: bytes, cuts: list[int]) -> None:
    server = Socks4Server(True)
    events, _ = feed(server, cut(OF_CURL_4A + payload, cuts))
    assert events == [Credentials(b"bob", b""), Connect("example.com", 443, 3)]
    assert server.surplus == payload


@given(st.binary(max_size=80), CUTS, st.booleans(), st.booleans())
def test_random_bytes_never_raise(data: bytes, cuts: list[int], anonymous: bool, accept: bool) -> None:
    whole, pieces = Socks4Server(anonymous), Socks4Server(anonymous)
    expected = feed(whole, [b"\x04\x01" + data], accept)
    assert feed(pieces, cut(b"\x04\x01" + data, cuts), accept) == expected
