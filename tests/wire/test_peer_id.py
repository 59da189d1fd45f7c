import contextlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import AddressError, DecodeError
from bethrou.wire import varint
from bethrou.wire.peer_id import PeerId
from bethrou.wire.public_key import PublicKey

from .support import load

VECTORS = load("peer_ids.json")
FIRST = VECTORS["identities"][0]


@pytest.mark.parametrize("case", VECTORS["decode"], ids=lambda case: case["text"][:60] or "empty")
def test_texts_as_go_reads_them(case: dict[str, str]) -> None:
    if "error" in case:
        with pytest.raises(AddressError, match="no peer ID"):
            PeerId.parse(case["text"])
        return
    peer = PeerId.parse(case["text"])
    assert peer.raw.hex() == case["bytes"]
    assert str(peer) == case["canonical"]


@pytest.mark.parametrize("identity", VECTORS["identities"], ids=lambda identity: identity["peer_id"])
def test_all_forms_of_an_identity(identity: dict[str, str]) -> None:
    peer = PeerId.decode(bytes.fromhex(identity["peer_id_bytes"]))
    assert str(peer) == identity["peer_id"]
    key = PublicKey(bytes.fromhex(identity["public_key"]))
    assert PeerId.from_public_key(key) == peer
    assert peer.public_key() == key
    for form in ("cid_base32", "cid_base36"):
        assert PeerId.parse(identity[form]) == peer


def test_equal_peer_ids_are_one_dictionary_key() -> None:
    one, other = PeerId.parse(FIRST["peer_id"]), PeerId.parse(FIRST["cid_base36"])
    assert one is not other
    assert {one: 1}[other] == 1
    assert one != PeerId.parse(VECTORS["identities"][1]["peer_id"])
    assert one != FIRST["peer_id"]


def test_short_is_the_distinctive_end() -> None:
    peer = PeerId.parse(FIRST["peer_id"])
    assert peer.short == "HYdBfeSB"
    assert repr(peer) == f"PeerId('{FIRST['peer_id']}')"


def test_it_cannot_be_changed() -> None:
    peer = PeerId.parse(FIRST["peer_id"])
    with pytest.raises(AttributeError):
        peer.raw = b""  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(peer)) == peer


def test_a_hashed_key_cannot_be_read_back() -> None:
    assert PeerId.parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N").public_key() is None


@pytest.mark.parametrize(
    "raw", ["", "00", "0024", "002408011220" + "00" * 31, "002408011220" + "00" * 33, "800000"]
)
def test_malformed_bytes(raw: str) -> None:
    with pytest.raises(DecodeError):
        PeerId.decode(bytes.fromhex(raw))


def test_the_length_is_bounded() -> None:
    with pytest.raises(DecodeError, match="longer"):
        PeerId.decode(b"\x00" + varint.encode(500) + bytes(500))


@given(st.binary(min_size=32, max_size=32))
def test_round_trip(key: bytes) -> None:
    peer = PeerId.from_public_key(PublicKey(key))
    assert PeerId.parse(str(peer)) == peer == PeerId.decode(peer.raw)
    assert str(peer).startswith("12D3KooW")


@given(st.binary(max_size=50), st.text(max_size=60))
def test_random_input_only_raises_the_documented_errors(data: bytes, text: str) -> None:
    with contextlib.suppress(DecodeError):
        PeerId.decode(data)
    with contextlib.suppress(AddressError):
        PeerId.parse(text)
