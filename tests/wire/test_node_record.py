import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import seal
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import (
    DOMAIN,
    MAX_ADDRESSES,
    MAX_NUMBER,
    MAX_PAYLOAD,
    MAX_RECORD,
    PAYLOAD_TYPE,
    NodeRecord,
    RecordCache,
)

SEED = bytes(range(32))
IDENTITY = Identity.from_seed(SEED)
PEER = IDENTITY.peer_id
OTHER = Identity.from_seed(bytes(32))
PUBLIC = Multiaddr.parse("/ip4/8.8.8.8/tcp/4001")
CIRCUIT = Multiaddr.parse(f"/dns4/relay.example/tcp/4001/p2p/{OTHER.peer_id}/p2p-circuit")
RECORD = NodeRecord(
    PEER, 7, 1900000000, (PUBLIC, CIRCUIT), "berlin-1", ("eu", "fast"), ("exit", "relay"), "bethrou/0.1.0"
)
PAYLOAD = (
    b'{"id":"12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB","seq":7,"expires":1900000000,'
    b'"name":"berlin-1","tags":["eu","fast"],"roles":["exit","relay"],"addrs":["/ip4/8.8.8.8/tcp/4001",'
    b'"/dns4/relay.example/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"],'
    b'"agent":"bethrou/0.1.0"}'
)
LABELS = st.text("abcXYZ019._~-", min_size=1, max_size=30)
RECORDS = st.builds(
    NodeRecord,
    st.just(PEER),
    st.integers(0, MAX_NUMBER),
    st.integers(0, MAX_NUMBER),
    st.lists(st.integers(1, 65535), max_size=MAX_ADDRESSES, unique=True).map(
        lambda ports: tuple(Multiaddr.tcp("2001:db8::1", port) for port in ports)
    ),
    st.just("") | LABELS,
    st.lists(LABELS, max_size=32).map(tuple),
    st.lists(LABELS, max_size=4).map(tuple),
    st.text("abc/0.1 ", max_size=128),
)


def signed(message: object, identity: Identity = IDENTITY) -> bytes:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return seal(identity, DOMAIN, PAYLOAD_TYPE, payload)


def fields(**changed: Any) -> dict[str, Any]:
    return {"id": str(PEER), "seq": 1, "expires": 2, "addrs": []} | changed


def test_the_bytes_are_those_of_the_specifications() -> None:
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    length = len(PAYLOAD).to_bytes(2, "big")
    varint = bytes((length[1] & 0x7F | 0x80, length[0] << 1 | length[1] >> 7))
    to_sign = b"\x13bethrou-node-record" + b"\x14/bethrou/node-record" + varint + PAYLOAD
    expected = (
        b"\x0a\x24\x08\x01\x12\x20"
        + key.public_key().public_bytes_raw()
        + b"\x12\x14/bethrou/node-record"
        + b"\x1a"
        + varint
        + PAYLOAD
        + b"\x2a\x40"
        + key.sign(to_sign)
    )
    assert RECORD.seal(IDENTITY) == expected
    assert NodeRecord.open(expected) == RECORD


@given(RECORDS)
def test_round_trip(record: NodeRecord) -> None:
    record = record.trimmed()
    assert NodeRecord.open(record.seal(IDENTITY)) == record


def test_what_is_missing_has_a_default_and_what_is_new_is_ignored() -> None:
    record = NodeRecord.open(signed(fields(new={"a": [1]}, name=None, tags=None, roles=None, agent=None)))
    assert record == NodeRecord(PEER, 1, 2, ())
    assert record.roles == ("exit",)
    assert NodeRecord.open(signed(fields(roles=[]))).roles == ()
    assert NodeRecord.open(signed(fields(roles=["relay", "archive"]))).roles == ("relay", "archive")


def test_every_cut_and_every_damaged_byte_is_refused() -> None:
    envelope = RECORD.seal(IDENTITY)
    for place in range(len(envelope)):
        with pytest.raises(DecodeError):
            NodeRecord.open(envelope[:place])
        for bit in (0x01, 0x20, 0x80):
            with pytest.raises(DecodeError):
                NodeRecord.open(envelope[:place] + bytes((envelope[place] ^ bit,)) + envelope[place + 1 :])


def test_what_others_add_to_an_envelope_is_bounded() -> None:
    envelope = RECORD.seal(IDENTITY)
    room = MAX_RECORD - len(envelope)
    assert NodeRecord.open(envelope + protobuf.blob(9, bytes(room - 3))) == RECORD
    with pytest.raises(DecodeError, match="longer than"):
        NodeRecord.open(envelope + protobuf.blob(9, bytes(room - 2)))
    longest = signed(json.dumps(fields()).encode().ljust(MAX_PAYLOAD))
    assert NodeRecord.open(longest).peer_id == PEER


def test_only_the_peer_itself_speaks() -> None:
    with pytest.raises(ValueError, match="signed by the peer"):
        RECORD.seal(OTHER)
    with pytest.raises(DecodeError, match="signed by the peer"):
        NodeRecord.open(signed(fields(), OTHER))
    with pytest.raises(DecodeError, match="signature"):
        NodeRecord.open(seal(IDENTITY, "libp2p-peer-record", PAYLOAD_TYPE, PAYLOAD))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b"null",
        b"\xff" * 100,
        b'{"id":',
        b"[" * 4000,
        b'{"a":' * 17 + b"1" + b"}" * 17,
        json.dumps(fields()).encode() + b" " * MAX_PAYLOAD,
        {},
        fields(id=None),
        fields(id=5),
        fields(id="12D3KooW"),
        fields(id="1" * 3000),
        fields(seq=None),
        fields(seq=-1),
        fields(seq=1.5),
        fields(seq=True),
        fields(seq="1"),
        fields(seq=MAX_NUMBER + 1),
        fields(expires=10**400),
        fields(expires=None),
        fields(expires=[]),
        fields(addrs=None),
        fields(addrs={}),
        fields(addrs="/ip4/8.8.8.8/tcp/4001"),
        fields(name=5),
        fields(tags="eu"),
        fields(tags={}),
        fields(roles="exit"),
        fields(agent=[]),
    ],
    ids=lambda message: repr(message)[:60],
)
def test_wrong_types_and_values(message: object) -> None:
    with pytest.raises(DecodeError):
        NodeRecord.open(signed(message))


def test_one_bad_address_does_not_spoil_the_others() -> None:
    addresses = [
        "nonsense",
        5,
        None,
        ["/ip4/8.8.8.8/tcp/4001"],
        "/ip4/8.8.8.8/udp/4001/quic-v9",
        "/dns4/" + "a" * 2000,
        f"/ip4/8.8.4.4/tcp/4001/p2p/{OTHER.peer_id}",
        f"{CIRCUIT}/p2p/{OTHER.peer_id}",
        f"{CIRCUIT}/p2p/{PEER}",
        str(CIRCUIT),
        f"{PUBLIC}/p2p/{PEER}",
        str(PUBLIC),
    ]
    assert NodeRecord.open(signed(fields(addrs=addresses))).addrs == (CIRCUIT, PUBLIC)


def test_bad_names_tags_and_agents_are_dropped() -> None:
    bad = ["a b", "x" * 65, "ü", "a\n", "", 5, "ok"]
    record = NodeRecord.open(signed(fields(name="a b", tags=bad, roles=bad, agent="\x1b[2J")))
    assert record == NodeRecord(PEER, 1, 2, (), "", ("ok",), ("ok",), "")
    assert NodeRecord.open(signed(fields(name=str(OTHER.peer_id)))).name == ""
    assert NodeRecord.open(signed(fields(agent="a" * 129))).agent == ""


def test_no_more_than_32_addresses_are_taken_or_written() -> None:
    many = tuple(Multiaddr.tcp("10.0.0.1", port) for port in range(1, 50))
    texts = [str(address) for address in many]
    assert NodeRecord.open(signed(fields(addrs=texts))).addrs == many[:MAX_ADDRESSES]
    with pytest.raises(ValueError, match="32 addresses"):
        replace(RECORD, addrs=many).seal(IDENTITY)


def test_trimming_keeps_what_is_worth_most() -> None:
    private = [Multiaddr.tcp("10.0.0.1", port) for port in range(1, 50)]
    loopback = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")
    record = replace(RECORD, addrs=(loopback, *private, CIRCUIT, PUBLIC, PUBLIC))
    assert record.trimmed().addrs == (PUBLIC, CIRCUIT, *private[:30])
    assert replace(record, addrs=(loopback, PUBLIC)).trimmed().addrs == (PUBLIC, loopback)


def test_trimming_makes_room_for_long_addresses() -> None:
    long = [Multiaddr.parse(f"/dns4/{'a' * 200}.example/tcp/{port}") for port in range(1, 30)]
    record = replace(RECORD, addrs=(*long, PUBLIC))
    with pytest.raises(ValueError, match="4096 bytes"):
        record.seal(IDENTITY)
    trimmed = record.trimmed()
    assert trimmed.addrs == (PUBLIC, *long[: len(trimmed.addrs) - 1])
    assert 15 < len(trimmed.addrs) < 20
    assert NodeRecord.open(trimmed.seal(IDENTITY)) == trimmed


@pytest.mark.parametrize("number", [-1, MAX_NUMBER + 1])
def test_numbers_that_nobody_reads_are_not_written(number: int) -> None:
    for record in (replace(RECORD, seq=number), replace(RECORD, expires=number)):
        with pytest.raises(ValueError, match="seq and expires"):
            record.seal(IDENTITY)


def test_expiry() -> None:
    assert not RECORD.expired(1899999999.9)
    assert RECORD.expired(1900000000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["seq", "expires", "addrs", "name", "tags", "roles", "agent"]), VALUES)
)
def test_random_messages_only_raise_decode_errors(message: dict[str, Any]) -> None:
    with contextlib.suppress(DecodeError):
        NodeRecord.open(signed(fields(**message)))


def test_a_record_is_verified_once() -> None:
    cache = RecordCache()
    envelope = RECORD.seal(IDENTITY)
    first = cache.open(envelope)
    assert first == RECORD
    assert envelope in cache
    assert cache.open(bytes(bytearray(envelope)), PEER) is first
    assert len(cache) == 1


def test_a_record_is_not_taken_for_that_of_another_peer() -> None:
    cache = RecordCache()
    envelope = RECORD.seal(IDENTITY)
    for _ in range(2):  # when it is new, and when it is known
        with pytest.raises(DecodeError, match="another peer"):
            cache.open(envelope, OTHER.peer_id)
    assert cache.open(envelope, PEER) == RECORD


def test_what_is_not_genuine_is_not_remembered() -> None:
    cache = RecordCache()
    damaged = RECORD.seal(IDENTITY)[:-1] + b"\0"
    for _ in range(2):
        with pytest.raises(DecodeError):
            cache.open(damaged)
    assert damaged not in cache
    assert len(cache) == 0


def test_the_least_recently_used_record_is_forgotten() -> None:
    cache = RecordCache(max_records=2)
    first, second, third = (replace(RECORD, seq=number).seal(IDENTITY) for number in range(3))
    for envelope in (first, second, first, third):
        cache.open(envelope)
    assert [envelope in cache for envelope in (first, second, third)] == [True, False, True]


def test_remembered_envelopes_are_bounded_in_bytes() -> None:
    envelopes = [replace(RECORD, seq=number).seal(IDENTITY) for number in range(5)]
    size = len(envelopes[0])
    cache = RecordCache(max_bytes=3 * size + 1)
    for envelope in envelopes:
        cache.open(envelope)
    assert [envelope in cache for envelope in envelopes] == [False, False, True, True, True]
