import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import protobuf, varint
from bethrou.wire.circuit import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    VOUCHER_DOMAIN,
    VOUCHER_TYPE,
    HopMessage,
    HopType,
    Limit,
    Reservation,
    Status,
    StopMessage,
    StopType,
    Voucher,
    describe_status,
)
from bethrou.wire.envelope import seal
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.multistream import HEADER
from bethrou.wire.peer_id import PeerId

from .support import load, streams

MESSAGES = [each for each in load("messages.json")["messages"] if each["name"].startswith(("hop", "stop"))]
VOUCHERS = [each for each in load("envelopes.json")["envelopes"] if each["kind"] == "relay voucher"]
RELAY = Identity.from_seed(bytes(range(32)))
PEER = Identity.from_seed(bytes(32)).peer_id
ADDRESS = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")

statuses = st.none() | st.sampled_from(Status)
limits = st.none() | st.builds(Limit, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))


def without_length(message: bytes) -> bytes:
    size, start = varint.decode(message)
    assert size == len(message) - start
    return message[start:]


def as_fields(message: HopMessage | StopMessage) -> dict[str, Any]:
    """A message as messages.json tells it."""

    def shown(name: str, value: Any) -> Any:
        if isinstance(value, Limit):
            return {key: number for key, number in dataclasses.asdict(value).items() if number}
        if isinstance(value, Reservation):
            addrs = [str(address) for address in value.addrs]
            return {"expire": value.expire, "addrs": addrs, "voucher": value.voucher.hex()}
        return str(value) if isinstance(value, PeerId) else value

    fields = ((each.name, getattr(message, each.name)) for each in dataclasses.fields(message))
    return {name: shown(name, value) for name, value in fields if value is not None}


@pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: vector["name"])
def test_messages_of_go(vector: dict[str, Any]) -> None:
    kind = HopMessage if vector["name"].startswith("hop") else StopMessage
    message = kind.decode(bytes.fromhex(vector["hex"]))
    assert as_fields(message) == vector["fields"]
    assert without_length(message.encode()).hex() == vector["hex"]


def recorded(protocol: str) -> list[Any]:
    return [pytest.param(stream, id=name) for name, stream in streams(protocol)]


def messages_of(stream: dict[str, Any]) -> tuple[bytes, bytes]:
    """The first message in each direction of a recorded stream: request and answer."""
    opener, answerer = ("sent", "received") if stream["opened_by"] == "us" else ("received", "sent")
    found = []
    for direction in (opener, answerer):
        data = bytes.fromhex(stream[direction]).removeprefix(HEADER)
        size, start = varint.decode(data)
        data = data[start + size :]  # the protocol
        size, start = varint.decode(data)
        found.append(data[: start + size])
    return found[0], found[1]


@pytest.mark.parametrize("stream", recorded(HOP_PROTOCOL))
def test_recorded_hop_streams(stream: dict[str, Any]) -> None:
    request, answer = (HopMessage.decode(without_length(each)) for each in messages_of(stream))
    assert request.type in (HopType.RESERVE, HopType.CONNECT)
    assert (request.peer is not None) == (request.type is HopType.CONNECT)
    assert (answer.type, answer.status) == (HopType.STATUS, Status.OK)
    assert (answer.reservation is not None) == (request.type is HopType.RESERVE)
    assert request.encode() == messages_of(stream)[0]
    assert answer.encode() == messages_of(stream)[1]


@pytest.mark.parametrize("stream", recorded(STOP_PROTOCOL))
def test_recorded_stop_streams(stream: dict[str, Any]) -> None:
    request, answer = (StopMessage.decode(without_length(each)) for each in messages_of(stream))
    assert request.type is StopType.CONNECT
    assert request.peer is not None
    assert answer == StopMessage(StopType.STATUS, status=Status.OK)
    assert request.encode() == messages_of(stream)[0]
    assert answer.encode() == messages_of(stream)[1]


@pytest.mark.parametrize("vector", VOUCHERS, ids=lambda vector: vector["source"])
def test_vouchers_of_go(vector: dict[str, Any]) -> None:
    voucher = Voucher.open(bytes.fromhex(vector["envelope"]))
    told = {"relay": str(voucher.relay), "peer": str(voucher.peer), "expiration": voucher.expiration}
    assert told == vector["fields"]
    if "signer_seed" in vector:
        identity = Identity.from_seed(bytes.fromhex(vector["signer_seed"]))
        assert voucher.seal(identity).hex() == vector["envelope"]


def test_a_voucher_is_signed_by_its_relay() -> None:
    with pytest.raises(ValueError, match="signed by the relay"):
        Voucher(PEER, RELAY.peer_id, 1).seal(RELAY)
    payload = protobuf.blob(1, PEER.raw) + protobuf.blob(2, RELAY.peer_id.raw) + protobuf.uint(3, 1)
    with pytest.raises(DecodeError, match="not signed by the relay"):
        Voucher.open(seal(RELAY, VOUCHER_DOMAIN, VOUCHER_TYPE, payload))


def test_a_voucher_for_another_purpose_is_refused() -> None:
    payload = protobuf.blob(1, RELAY.peer_id.raw) + protobuf.blob(2, PEER.raw)
    for domain, kind in (("libp2p-peer-record", VOUCHER_TYPE), (VOUCHER_DOMAIN, b"\x03\x01")):
        with pytest.raises(DecodeError):
            Voucher.open(seal(RELAY, domain, kind, payload))
    with pytest.raises(DecodeError, match="of whom"):
        Voucher.open(seal(RELAY, VOUCHER_DOMAIN, VOUCHER_TYPE, protobuf.blob(1, RELAY.peer_id.raw)))


def test_a_zero_type_is_written_out_and_may_be_missing() -> None:
    assert HopMessage(HopType.RESERVE).encode() == b"\x02\x08\x00"
    assert StopMessage(StopType.CONNECT).encode() == b"\x02\x08\x00"
    assert HopMessage.decode(b"").type is HopType.RESERVE


def test_no_limit_and_an_empty_limit_are_different() -> None:
    for limit in (None, Limit()):
        message = HopMessage(HopType.STATUS, limit=limit, status=Status.OK)
        assert HopMessage.decode(without_length(message.encode())).limit == limit


@pytest.mark.parametrize(
    "message",
    [
        protobuf.uint(1, 3),
        protobuf.blob(1, b"\x00"),
        protobuf.uint(1, 1) + protobuf.uint(2, 5),
        protobuf.uint(1, 1) + protobuf.blob(2, b""),
        protobuf.uint(1, 1) + protobuf.blob(2, protobuf.blob(1, b"\x00\x24short")),
        protobuf.uint(1, 2) + protobuf.blob(5, b"OK"),
        b"\x08",
        bytes(MAX_MESSAGE + 1),
    ],
)
def test_malformed_messages(message: bytes) -> None:
    for kind in (HopMessage, StopMessage):
        if kind is StopMessage and message.startswith(protobuf.uint(1, 2)):
            continue  # another type, another field
        with pytest.raises(DecodeError):
            kind.decode(message)


@given(st.sampled_from(HopType), st.none() | st.just(PEER), limits, statuses, st.booleans())
def test_hop_round_trip(
    kind: HopType, peer: PeerId | None, limit: Limit | None, status: Status | None, granted: bool
) -> None:
    reservation = Reservation(1_800_000_000, (ADDRESS.with_peer(PEER),), b"voucher") if granted else None
    message = HopMessage(kind, peer, reservation, limit, status)
    assert HopMessage.decode(without_length(message.encode())) == message


@given(st.sampled_from(StopType), st.none() | st.just(PEER), limits, statuses)
def test_stop_round_trip(
    kind: StopType, peer: PeerId | None, limit: Limit | None, status: Status | None
) -> None:
    message = StopMessage(kind, peer, limit, status)
    assert StopMessage.decode(without_length(message.encode())) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    for kind in (HopMessage, StopMessage):
        try:
            kind.decode(data)
        except DecodeError:
            continue


def test_statuses_for_people() -> None:
    assert describe_status(Status.NO_RESERVATION) == "no reservation (204)"
    assert describe_status(999) == "status 999"
    assert describe_status(None) == "no status"
