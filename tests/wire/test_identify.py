import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import identify, protobuf, varint
from bethrou.wire.identify import Identify, believable_addresses, decode, merge
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.peer_id import PeerId
from bethrou.wire.peer_record import MAX_ADDRESSES, PeerRecord

from .support import load, sessions

IDENTITY = Identity.from_seed(bytes(range(32)))
OTHER = Identity.from_seed(bytes(32))
LISTED = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")
SIGNED = Multiaddr.parse("/ip4/192.0.2.2/tcp/4002")
OPENING = HEADER + frame(identify.PROTOCOL)


def recorded() -> list[tuple[str, bytes, str]]:
    """Every identify message of the recordings: name, body, and who said it."""
    found = []
    for name, session in sessions():
        for stream in session["streams"]:
            if stream["protocol"] != identify.PROTOCOL:
                continue
            whose = "ours" if stream["opened_by"] == "peer" else "theirs"
            data = bytes.fromhex(stream["sent" if whose == "ours" else "received"])[len(OPENING) :]
            length, start = varint.decode(data)
            assert start + length == len(data)
            found.append((f"{name}.{stream['stream']}", data[start:], session[whose]["peer_id"]))
    return found


RECORDED = recorded()


def test_the_message_encoded_by_go() -> None:
    vector = next(entry for entry in load("messages.json")["messages"] if entry["name"] == "identify")
    fields = vector["fields"]
    message = decode(bytes.fromhex(vector["hex"]))
    assert message.encode().hex() == vector["hex"]
    assert message.public_key is not None
    assert message.public_key.to_protobuf().hex() == fields["publicKey"]
    assert [str(address) for address in message.listen_addrs] == fields["listenAddrs"]
    assert list(message.protocols) == fields["protocols"]
    assert str(message.observed_addr) == fields["observedAddr"]
    assert message.protocol_version == fields["protocolVersion"]
    assert message.agent_version == fields["agentVersion"]
    assert message.signed_peer_record is None


@pytest.mark.parametrize(
    ("body", "peer"), [entry[1:] for entry in RECORDED], ids=[entry[0] for entry in RECORDED]
)
def test_recorded_messages(body: bytes, peer: str) -> None:
    message = decode(body)
    assert message.encode() == body
    assert message.public_key is not None
    speaker = PeerId.from_public_key(message.public_key)
    assert str(speaker) == peer
    assert identify.PROTOCOL in message.protocols
    assert message.agent_version.startswith(("github.com/henrybarreto/bethrou/", "vector/"))
    assert message.observed_addr is not None
    assert believable_addresses(message, speaker) == message.listen_addrs
    if message.signed_peer_record is not None:
        assert PeerRecord.open(message.signed_peer_record).addresses == message.listen_addrs


def test_the_recordings_have_messages_with_a_record() -> None:
    assert any(decode(body).signed_peer_record is not None for _, body, _ in RECORDED)


def test_split_messages_are_merged() -> None:
    whole = Identify(
        IDENTITY.public_key,
        (LISTED, SIGNED),
        ("/a", "/b"),
        LISTED,
        "ipfs/0.1.0",
        "agent/1",
        PeerRecord(IDENTITY.peer_id, 1, (SIGNED,)).seal(IDENTITY),
    )
    first = replace(whole, signed_peer_record=None, protocols=("/a",)).encode()
    second = protobuf.blob(3, b"/b") + protobuf.blob(8, whole.signed_peer_record or b"")
    assert merge((first, second)) == whole == decode(whole.encode())


def test_a_later_message_overrides_single_fields() -> None:
    message = merge((protobuf.blob(6, b"old"), protobuf.blob(6, b"new")))
    assert message == Identify(agent_version="new")


def test_nonsense_is_left_out() -> None:
    body = b"".join(
        (
            protobuf.blob(2, b"\xff\xff"),
            protobuf.blob(2, LISTED.encode()),
            protobuf.blob(2, LISTED.encode()),
            protobuf.blob(3, b""),
            protobuf.blob(3, b"/good"),
            protobuf.blob(3, b"/good"),
            protobuf.blob(3, b"/bad\n"),
            protobuf.blob(3, b"x" * 300),
            protobuf.blob(4, b"\xff"),
            protobuf.blob(6, b"agent\x1b[31m\xff" + b"x" * 500),
            protobuf.uint(7, 1),
            protobuf.uint(2, 1),
        )
    )
    message = decode(body)
    assert message.listen_addrs == (LISTED,)
    assert message.protocols == ("/good",)
    assert message.observed_addr is None
    assert message.agent_version.startswith("agent?[31m\ufffdxxx")
    assert len(message.agent_version) == 128


def test_another_key_type_is_refused() -> None:
    with pytest.raises(DecodeError, match="RSA"):
        decode(protobuf.blob(1, protobuf.uint(1, 0) + protobuf.blob(2, b"key")))


def test_bounds() -> None:
    with pytest.raises(DecodeError, match="messages"):
        merge([b""] * (identify.MAX_MESSAGES + 1))
    with pytest.raises(DecodeError, match="longer"):
        decode(bytes(identify.MAX_MESSAGE + 1))
    many = [Multiaddr.tcp("192.0.2.1", port).encode() for port in range(1, 400)]
    parts = [
        b"".join(protobuf.blob(2, raw) for raw in many),
        b"".join(protobuf.blob(3, b"/%d" % n) for n in range(900)),
    ]
    message = merge(parts)
    assert len(message.listen_addrs) == MAX_ADDRESSES
    assert len(message.protocols) == identify.MAX_PROTOCOLS


@pytest.mark.parametrize(
    ("signer", "spoil", "expected"),
    [
        (IDENTITY, False, (SIGNED,)),
        (IDENTITY, True, (LISTED,)),
        (OTHER, False, ()),
        (None, False, (LISTED,)),
    ],
    ids=["good record", "broken record", "record of another peer", "no record"],
)
def test_which_addresses_to_believe(
    signer: Identity | None, spoil: bool, expected: tuple[Multiaddr, ...]
) -> None:
    envelope = None
    if signer is not None:
        envelope = PeerRecord(signer.peer_id, 1, (SIGNED,)).seal(signer)
        envelope = envelope[:-1] + bytes((envelope[-1] ^ spoil,))
    statement = Identify(listen_addrs=(LISTED,), signed_peer_record=envelope)
    assert believable_addresses(statement, IDENTITY.peer_id) == expected


def test_addresses_that_lead_to_somebody_else_are_not_believed() -> None:
    circuit = LISTED.with_peer(OTHER.peer_id).encode() + b"\xa2\x02"
    statement = Identify(
        listen_addrs=(
            LISTED.with_peer(OTHER.peer_id),
            SIGNED.with_peer(IDENTITY.peer_id),
            SIGNED,
            Multiaddr.decode(circuit).with_peer(IDENTITY.peer_id),
        )
    )
    assert believable_addresses(statement, IDENTITY.peer_id) == (SIGNED, Multiaddr.decode(circuit))


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_random_bytes_only_raise_decode_errors(messages: list[bytes]) -> None:
    with contextlib.suppress(DecodeError):
        merge(messages)


@given(
    st.lists(st.integers(1, 65535), max_size=8, unique=True),
    st.lists(st.text("abc/.-", min_size=1, max_size=20), max_size=8, unique=True),
    st.text("abc/1.", max_size=20),
)
def test_round_trip(ports: list[int], protocols: list[str], agent: str) -> None:
    message = Identify(
        IDENTITY.public_key,
        tuple(Multiaddr.tcp("192.0.2.1", port) for port in ports),
        tuple(protocols),
        agent_version=agent,
    )
    assert decode(message.encode()) == message
