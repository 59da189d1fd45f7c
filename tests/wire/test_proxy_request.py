import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError, Failure, RequestError
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.proxy_request import (
    PROTOCOL_V1_0,
    Connected,
    Dialing,
    JsonObjectReader,
    PrefixedJsonReader,
    ProxyRequest,
    Refused,
    decode_answer_v1_0,
    decode_answer_v1_1,
    decode_request_v1_0,
    decode_request_v1_1,
    encode_answer_v1_0,
    encode_answer_v1_1,
    encode_request_v1_0,
    encode_request_v1_1,
    failure_of_text,
    text_of_failure,
)

from .support import streams

ON_THE_WIRE = [failure for failure in Failure if failure is not Failure.NO_EXIT]
OPENING = HEADER + frame(PROTOCOL_V1_0)
STREAMS = list(streams(PROTOCOL_V1_0))


def read_v1_0(data: bytes) -> dict[str, Any]:
    message = JsonObjectReader().receive(data)
    assert message is not None
    return message


def read_v1_1(data: bytes) -> dict[str, Any]:
    message = PrefixedJsonReader().receive(data)
    assert message is not None
    return message


def halves(stream: dict[str, str]) -> tuple[bytes, bytes]:
    """Request and answer of a recorded stream, each with what follows."""
    sent, received = bytes.fromhex(stream["sent"]), bytes.fromhex(stream["received"])
    request, answer = (sent, received) if stream["opened_by"] == "us" else (received, sent)
    return request[len(OPENING) :], answer[len(OPENING) :]


@pytest.mark.parametrize("stream", [stream for _, stream in STREAMS], ids=[name for name, _ in STREAMS])
def test_recorded_requests(stream: dict[str, str]) -> None:
    data, _ = halves(stream)
    reader = JsonObjectReader()
    message = reader.receive(data)
    assert message is not None
    request = decode_request_v1_0(message)
    assert request.host == "127.0.0.1"
    assert encode_request_v1_0(request) + reader.surplus == data


@pytest.mark.parametrize("stream", [stream for _, stream in STREAMS], ids=[name for name, _ in STREAMS])
def test_recorded_answers(stream: dict[str, str]) -> None:
    _, data = halves(stream)
    reader = JsonObjectReader()
    message = reader.receive(data)
    assert message is not None
    answer = decode_answer_v1_0(message)
    if isinstance(answer, Connected):
        assert encode_answer_v1_0(answer) + reader.surplus == data
    elif stream["opened_by"] == "us":
        assert answer == Refused(Failure.REFUSED, "dial tcp 127.0.0.1:4199: connect: connection refused")
        assert reader.surplus == b""


def test_the_recordings_have_both_outcomes() -> None:
    outcomes = {type(decode_answer_v1_0(read_v1_0(halves(stream)[1]))) for _, stream in STREAMS}
    assert outcomes == {Connected, Refused}


def test_requests_as_go_writes_them() -> None:
    assert encode_request_v1_0(ProxyRequest("example.com", 443)) == b'{"address":"example.com:443"}\n'
    assert encode_request_v1_0(ProxyRequest("::1", 80, "0" * 16, "bob")) == b'{"address":"[::1]:80"}\n'


def test_answers_as_go_writes_them() -> None:
    assert encode_answer_v1_0(Connected(("192.0.2.1", 5))) == b'{"status":"ok"}\n'
    text = '"\\u003ca\\u003e \\u0026 \\u2028\\u2029 \u00e9: i/o timeout"'
    answer = encode_answer_v1_0(Refused(Failure.TIMEOUT, "<a> & \u2028\u2029 \u00e9"))
    assert answer.decode() == f'{{"status":"error","message":{text}}}\n'


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("dial tcp 127.0.0.1:4199: connect: connection refused", Failure.REFUSED),
        ("dial tcp: lookup x: no such host", Failure.NO_SUCH_HOST),
        ("dial tcp: lookup refused.example on 127.0.0.53:53: no such host", Failure.NO_SUCH_HOST),
        ("dial tcp 192.0.2.1:80: connect: network is unreachable", Failure.NET_UNREACHABLE),
        ("dial tcp 192.0.2.1:80: connect: no route to host", Failure.HOST_UNREACHABLE),
        ("dial tcp 192.0.2.1:80: connect: host is down", Failure.HOST_UNREACHABLE),
        ("dial tcp 192.0.2.1:80: connect: connection timed out", Failure.TIMEOUT),
        ("dial tcp 192.0.2.1:80: i/o timeout", Failure.TIMEOUT),
        ("context deadline exceeded", Failure.TIMEOUT),
        ("dial tcp: address nonsense: missing port in address", Failure.BAD_REQUEST),
        ("dial tcp: address 1:2:3: too many colons in address", Failure.BAD_REQUEST),
        ("dial tcp: address 99999: invalid port", Failure.BAD_REQUEST),
        ("dial tcp: lookup tcp/nonsense: unknown port", Failure.BAD_REQUEST),
        ("dial tcp 192.0.2.1:80: socket: too many open files", Failure.OVERLOADED),
        (
            "dial tcp: lookup x on 10.0.0.1:53: read udp 10.0.0.2:1: read: connection refused",
            Failure.INTERNAL,
        ),
        ("dial tcp: lookup x on 10.0.0.1:53: server misbehaving", Failure.INTERNAL),
        ("Connection Refused", Failure.REFUSED),
        ("EOF", Failure.INTERNAL),
        ("", Failure.INTERNAL),
    ],
)
def test_texts_of_go_exits(text: str, failure: Failure) -> None:
    assert failure_of_text(text) is failure


@pytest.mark.parametrize("failure", ON_THE_WIRE)
@pytest.mark.parametrize(
    "detail", ["", "dial 192.0.2.1:80", "dial no such host.refused", "x" * 5000, "dial: lookup a"]
)
def test_every_failure_survives_both_versions(failure: Failure, detail: str) -> None:
    refused = Refused(failure, detail)
    old = decode_answer_v1_0(read_v1_0(encode_answer_v1_0(refused)))
    new = decode_answer_v1_1(read_v1_1(encode_answer_v1_1(refused)))
    assert isinstance(old, Refused)
    assert isinstance(new, Refused)
    assert old.failure is new.failure is failure


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("detail", ["", "refused.example", "No Such Host"])
def test_a_go_client_sees_its_words_only_where_they_belong(failure: Failure, detail: str) -> None:
    answer = encode_answer_v1_0(Refused(failure, detail))
    assert (b"refused" in answer) == (failure is Failure.REFUSED)
    assert (b"no such host" in answer) == (failure is Failure.NO_SUCH_HOST)


def test_a_missing_exit_is_never_told_to_a_peer() -> None:
    answer = decode_answer_v1_1(read_v1_1(encode_answer_v1_1(Refused(Failure.NO_EXIT))))
    assert answer == Refused(Failure.INTERNAL, text_of_failure(Failure.INTERNAL))


def test_version_1_1_on_the_wire() -> None:
    request = ProxyRequest("example.com", 443, "0123456789abcdef", "bob")
    assert (
        encode_request_v1_1(request) == b'B{"address":"example.com:443","id":"0123456789abcdef","user":"bob"}'
    )
    assert encode_request_v1_1(ProxyRequest("::1", 80)) == b'\x16{"address":"[::1]:80"}'
    assert encode_answer_v1_1(Dialing()) == b'\x14{"status":"dialing"}'
    assert encode_answer_v1_1(Connected()) == b'\x0f{"status":"ok"}'
    assert encode_answer_v1_1(Connected(("::1", 5))) == b'!{"status":"ok","bound":"[::1]:5"}'
    assert encode_answer_v1_1(Refused(Failure.TIMEOUT, "no answer")) == (
        b'9{"status":"error","code":"timeout","message":"no answer"}'
    )


@pytest.mark.parametrize("decode", [decode_request_v1_0, decode_request_v1_1])
def test_bad_requests(decode: Any) -> None:
    with pytest.raises(DecodeError):
        decode({"address": 5})
    for message in ({}, {"address": None}, {"address": "nonsense"}):
        with pytest.raises(RequestError) as caught:
            decode(message)
        assert caught.value.failure is Failure.BAD_REQUEST
    with pytest.raises(RequestError) as caught:
        decode({"address": "127.1:80"})
    assert caught.value.failure is Failure.NO_SUCH_HOST


@pytest.mark.parametrize(
    "request_id", ["", "0123", "0123456789ABCDEF", "0123456789abcdef0", "0123456789abcde\n"]
)
def test_an_id_that_is_none_is_left_out(request_id: str) -> None:
    assert decode_request_v1_1({"address": "a:1", "id": request_id}).id is None


def test_a_user_cannot_forge_log_lines() -> None:
    request = decode_request_v1_1({"address": "a:1", "user": "bob\r\nroot\x1b" + "x" * 300})
    assert request.user is not None
    assert request.user.startswith("bob??root?xxx")
    assert len(request.user) == 255


def test_unknown_codes_and_statuses() -> None:
    assert decode_answer_v1_1({"status": "error", "code": "new", "message": "m"}) == Refused(
        Failure.INTERNAL, "m"
    )
    assert decode_answer_v1_1({"status": "error"}) == Refused(Failure.INTERNAL, "")
    assert decode_answer_v1_1({"status": "error", "code": "no-exit"}) == Refused(Failure.INTERNAL, "")
    assert decode_answer_v1_0({"status": "error"}) == decode_answer_v1_0({}) == Refused(Failure.INTERNAL, "")
    for message in ({}, {"status": "new"}, {"status": 1}):
        with pytest.raises(DecodeError):
            decode_answer_v1_1(message)


@pytest.mark.parametrize("bound", ["example.com:80", "nonsense", 5, None, "[::1]", "1.2.3.4:0"])
def test_a_strange_bound_address_is_no_failure(bound: object) -> None:
    assert decode_answer_v1_1({"status": "ok", "bound": bound}) == Connected(None)


@given(
    st.ip_addresses().map(str),
    st.integers(1, 65535),
    st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
)
def test_round_trips(ip: str, port: int, request_id: str | None) -> None:
    request = ProxyRequest(ip, port, request_id, "bob")
    assert decode_request_v1_1(read_v1_1(encode_request_v1_1(request))) == request
    assert decode_request_v1_0(read_v1_0(encode_request_v1_0(request))) == ProxyRequest(ip, port)
    assert decode_answer_v1_1(read_v1_1(encode_answer_v1_1(Connected((ip, port))))) == Connected((ip, port))


@given(st.text(max_size=700), st.sampled_from(ON_THE_WIRE))
def test_any_text_can_be_sent(text: str, failure: Failure) -> None:
    answer = decode_answer_v1_1(read_v1_1(encode_answer_v1_1(Refused(failure, text))))
    assert isinstance(answer, Refused)
    assert answer.failure is failure
    read_v1_0(encode_answer_v1_0(Refused(failure, text)))
    read_v1_1(encode_request_v1_1(ProxyRequest("example.com", 1, None, text)))


JSON_VALUES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2)
)
MESSAGES = st.dictionaries(
    st.sampled_from(["address", "id", "user", "status", "code", "bound", "message"]), JSON_VALUES
)


@given(MESSAGES)
def test_random_messages_only_raise_the_documented_errors(message: dict[str, Any]) -> None:
    for decode in (decode_request_v1_0, decode_request_v1_1, decode_answer_v1_0, decode_answer_v1_1):
        with contextlib.suppress(DecodeError, RequestError):
            decode(message)
