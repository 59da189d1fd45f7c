from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import seal
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_record import DOMAIN, MAX_ADDRESSES, PAYLOAD_TYPE, PeerRecord, read_addresses

from .support import load

RECORDS = [envelope for envelope in load("envelopes.json")["envelopes"] if envelope["kind"] == "peer record"]
IDENTITY = Identity.from_seed(bytes(range(32)))
OTHER = Identity.from_seed(bytes(32))
ADDRESS = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")


@pytest.mark.parametrize("vector", RECORDS, ids=lambda vector: vector["source"])
def test_records_of_go(vector: dict[str, Any]) -> None:
    record = PeerRecord.open(bytes.fromhex(vector["envelope"]))
    fields = vector["fields"]
    assert str(record.peer_id) == fields["peer_id"]
    assert record.seq == fields["seq"]
    assert [str(address) for address in record.addresses] == fields["addrs"]
    if "signer_seed" in vector:
        identity = Identity.from_seed(bytes.fromhex(vector["signer_seed"]))
        assert record.seal(identity).hex() == vector["envelope"]


def test_a_record_is_signed_by_its_peer() -> None:
    with pytest.raises(ValueError, match="signed by the peer"):
        PeerRecord(IDENTITY.peer_id, 1, ()).seal(OTHER)


@pytest.mark.parametrize("peer", [OTHER.peer_id.raw, b"", None], ids=["other", "empty", "missing"])
def test_speaking_of_somebody_else_is_refused(peer: bytes | None) -> None:
    body = b"" if peer is None else protobuf.blob(1, peer)
    with pytest.raises(DecodeError):
        PeerRecord.open(seal(IDENTITY, DOMAIN, PAYLOAD_TYPE, body + protobuf.uint(2, 1)))


def test_another_domain_is_refused() -> None:
    body = protobuf.blob(1, IDENTITY.peer_id.raw)
    with pytest.raises(DecodeError, match="signature"):
        PeerRecord.open(seal(IDENTITY, "libp2p-routing-state", PAYLOAD_TYPE, body))


def test_unknown_addresses_do_not_spoil_the_known_ones() -> None:
    raw = [b"", b"\xff\xff", ADDRESS.encode(), bytes.fromhex("047f"), ADDRESS.encode()]
    assert read_addresses(raw) == (ADDRESS,)
    infos = b"".join(protobuf.blob(3, protobuf.blob(1, entry)) for entry in raw) + protobuf.blob(3, b"")
    body = protobuf.blob(1, IDENTITY.peer_id.raw) + infos
    record = PeerRecord.open(seal(IDENTITY, DOMAIN, PAYLOAD_TYPE, body))
    assert record == PeerRecord(IDENTITY.peer_id, 0, (ADDRESS,))


def test_the_number_of_addresses_is_bounded() -> None:
    raw = [Multiaddr.tcp("192.0.2.1", port).encode() for port in range(1, 1000)]
    assert len(read_addresses(raw)) == MAX_ADDRESSES


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(1, 65535), max_size=20, unique=True))
def test_round_trip(seq: int, ports: list[int]) -> None:
    record = PeerRecord(IDENTITY.peer_id, seq, tuple(Multiaddr.tcp("2001:db8::1", port) for port in ports))
    assert PeerRecord.open(record.seal(IDENTITY)) == record
