import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import dcutr, protobuf
from bethrou.wire.dcutr import SYNC, HolePunch, Kind, connect, decode
from bethrou.wire.multiaddr import Multiaddr

from .support import load

ADDRESS = Multiaddr.parse("/ip4/203.0.113.9/tcp/4001")
VECTORS = {entry["name"]: entry for entry in load("messages.json")["messages"]}


def vector(name: str) -> tuple[bytes, dict[str, Any]]:
    entry = VECTORS[name]
    return bytes.fromhex(entry["hex"]), entry["fields"]


def test_the_connect_encoded_by_go() -> None:
    raw, fields = vector("dcutr CONNECT")
    message = decode(raw, Kind.CONNECT)
    assert message.kind == fields["type"]
    assert [str(address) for address in message.addresses] == fields["addrs"]
    assert message.encode() == raw


def test_the_sync_encoded_by_go() -> None:
    raw, fields = vector("dcutr SYNC")
    assert decode(raw, Kind.SYNC) == SYNC
    assert SYNC.kind == fields["type"]
    assert SYNC.encode() == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (SYNC.encode(), Kind.CONNECT),
        (connect([ADDRESS]).encode(), Kind.SYNC),
        (b"", Kind.CONNECT),
        (protobuf.uint(1, 0), Kind.CONNECT),
        (protobuf.uint(1, 200), Kind.SYNC),
        (protobuf.blob(1, b"d"), Kind.CONNECT),
    ],
)
def test_a_message_of_another_kind_is_refused(raw: bytes, expected: Kind) -> None:
    with pytest.raises(DecodeError, match="instead of"):
        decode(raw, expected)


def test_addresses_that_make_no_sense_are_left_out() -> None:
    raw = connect([ADDRESS]).encode() + protobuf.blob(2, b"\xff\xff") + protobuf.blob(2, ADDRESS.encode())
    assert decode(raw, Kind.CONNECT) == connect([ADDRESS])


def test_the_longest_message() -> None:
    padding = protobuf.blob(9, b"x" * 4000)
    rest = connect([ADDRESS]).encode() + padding
    fits = rest + protobuf.blob(9, b"x" * (dcutr.MAX_MESSAGE - len(rest) - 2))
    assert len(fits) == dcutr.MAX_MESSAGE
    assert decode(fits, Kind.CONNECT).addresses == (ADDRESS,)
    with pytest.raises(DecodeError, match="longer"):
        decode(fits + protobuf.uint(9, 1), Kind.CONNECT)


@given(st.integers(0, 14))
def test_cut_anywhere_it_is_no_other_message(end: int) -> None:
    raw, _ = vector("dcutr CONNECT")
    whole = decode(raw, Kind.CONNECT)
    with contextlib.suppress(DecodeError):
        assert decode(raw[:end], Kind.CONNECT).addresses in ((), whole.addresses)


@given(st.integers(0, 11), st.integers(1, 255))
def test_damage_raises_decode_errors_only(place: int, flip: int) -> None:
    raw = bytearray(vector("dcutr CONNECT")[0])
    raw[place % len(raw)] ^= flip
    with contextlib.suppress(DecodeError):
        assert decode(bytes(raw), Kind.CONNECT).kind is Kind.CONNECT


@given(st.binary(max_size=200), st.sampled_from(Kind))
def test_random_bytes_raise_decode_errors_only(raw: bytes, kind: Kind) -> None:
    with contextlib.suppress(DecodeError):
        decode(raw, kind)


@given(st.lists(st.integers(1, 65535), max_size=20, unique=True))
def test_round_trip(ports: list[int]) -> None:
    message = connect(Multiaddr.tcp("203.0.113.9", port) for port in ports)
    assert decode(message.encode(), Kind.CONNECT) == message
    assert isinstance(message, HolePunch)
