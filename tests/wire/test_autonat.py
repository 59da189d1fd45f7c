import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import autonat, protobuf
from bethrou.wire.autonat import (
    DIAL_BACK_RESPONSE,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    Message,
    Status,
    decode,
    decode_dial_back,
    encode_dial_back,
)
from bethrou.wire.multiaddr import Multiaddr

from .support import load

ADDRESS = Multiaddr.parse("/ip4/203.0.113.9/tcp/4001")
NONCE = 0x1122334455667788
VECTORS = {entry["name"]: entry for entry in load("messages.json")["messages"]}
MESSAGES = {
    "autonat2 DialRequest": DialRequest((ADDRESS,), NONCE),
    "autonat2 DialResponse": DialResponse(Status.OK, 1, DialStatus.OK),
    "autonat2 DialDataRequest": DialDataRequest(0, 50_000),
    "autonat2 DialDataResponse": DialDataResponse(b"0123456789"),
}
UINT32 = st.integers(0, 2**32 - 1)


def vector(name: str) -> tuple[bytes, dict[str, Any]]:
    entry = VECTORS[name]
    return bytes.fromhex(entry["hex"]), entry["fields"]


@pytest.mark.parametrize(("name", "message"), MESSAGES.items())
def test_the_messages_encoded_by_go(name: str, message: Message) -> None:
    raw, _ = vector(name)
    assert decode(raw) == message
    assert message.encode() == raw


def test_the_fields_are_those_of_go() -> None:
    request = vector("autonat2 DialRequest")[1]
    assert (request["addrs"], request["nonce"]) == ([str(ADDRESS)], f"{NONCE:016x}")
    response = vector("autonat2 DialResponse")[1]
    assert response == {"status": Status.OK, "addrIdx": 1, "dialStatus": DialStatus.OK}


def test_the_dial_back_encoded_by_go() -> None:
    raw, fields = vector("autonat2 DialBack")
    assert fields["nonce"] == f"{NONCE:016x}"
    assert decode_dial_back(raw) == NONCE
    assert encode_dial_back(NONCE) == raw
    assert vector("autonat2 DialBackResponse")[0] == DIAL_BACK_RESPONSE


def test_zeros_are_left_out_and_read() -> None:
    assert DialResponse(Status.E_INTERNAL).encode() == bytes.fromhex("1200")
    assert decode(bytes.fromhex("1200")) == DialResponse(Status.E_INTERNAL, 0, DialStatus.UNUSED)


def test_an_address_that_does_not_parse_keeps_its_place() -> None:
    body = protobuf.blob(1, b"\xff\xff") + protobuf.blob(1, ADDRESS.encode()) + protobuf.fixed64(2, NONCE)
    request = decode(protobuf.blob(1, body))
    assert request == DialRequest((None, ADDRESS), NONCE)
    with pytest.raises(ValueError, match="parse"):
        request.encode()


def test_of_several_messages_in_one_the_last_counts() -> None:
    assert decode(DialDataRequest(1, 2).encode() + DialDataResponse(b"x").encode()) == DialDataResponse(b"x")


@pytest.mark.parametrize("raw", [b"", protobuf.uint(1, 5), protobuf.blob(5, b"later")])
def test_a_message_without_one_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode(raw)


def test_bounds() -> None:
    many = DialRequest(tuple(Multiaddr.tcp("203.0.113.9", port) for port in range(1, 200)), NONCE)
    request = decode(many.encode())
    assert isinstance(request, DialRequest)
    assert request.addresses == many.addresses[: autonat.MAX_ADDRESSES]
    fits = DialDataResponse(bytes(autonat.MAX_MESSAGE - 6))
    assert len(fits.encode()) == autonat.MAX_MESSAGE
    assert decode(fits.encode()) == fits
    with pytest.raises(DecodeError, match="longer"):
        decode(DialDataResponse(bytes(autonat.MAX_MESSAGE - 5)).encode())
    largest = DialDataResponse(bytes(autonat.MAX_DATA_CHUNK)).encode()
    assert len(largest) <= autonat.MAX_MESSAGE


@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 40))
def test_cut_anywhere_it_is_no_message(name: str, end: int) -> None:
    raw, _ = vector(name)
    with pytest.raises(DecodeError):
        decode(raw[: end % len(raw)])


@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 40), st.integers(1, 255))
def test_damage_raises_decode_errors_only(name: str, place: int, flip: int) -> None:
    raw = bytearray(vector(name)[0])
    raw[place % len(raw)] ^= flip
    with contextlib.suppress(DecodeError):
        decode(bytes(raw))


@given(st.binary(max_size=200))
def test_random_bytes_raise_decode_errors_only(raw: bytes) -> None:
    for read in (decode, decode_dial_back):
        with contextlib.suppress(DecodeError):
            read(raw)


@given(
    st.one_of(
        st.builds(
            DialRequest,
            st.lists(
                st.builds(Multiaddr.tcp, st.just("203.0.113.9"), st.integers(1, 65535)), max_size=50
            ).map(tuple),
            st.integers(0, 2**64 - 1),
        ),
        st.builds(DialResponse, UINT32, UINT32, UINT32),
        st.builds(DialDataRequest, UINT32, st.integers(0, 2**64 - 1)),
        st.builds(DialDataResponse, st.binary(max_size=autonat.MAX_DATA_CHUNK)),
    )
)
def test_round_trip(message: Message) -> None:
    assert decode(message.encode()) == message
