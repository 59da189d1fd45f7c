import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import AddressError, DecodeError
from bethrou.wire.multiaddr import MAX_BYTES, Multiaddr
from bethrou.wire.multiaddr_parts import KINDS
from bethrou.wire.peer_id import PeerId
from bethrou.wire.public_key import PublicKey

from .support import load

VECTORS = load("multiaddrs.json")
PEERS = [identity["peer_id"] for identity in load("peer_ids.json")["identities"]]
RELAY, TARGET = PeerId.parse(PEERS[0]), PeerId.parse(PEERS[1])
CIRCUIT = Multiaddr.parse(f"/ip4/1.2.3.4/tcp/4001/p2p/{RELAY}/p2p-circuit")

VALUES = {
    "ip4": st.ip_addresses(v=4).map(str),
    "ip6": st.ip_addresses(v=6).map(str),
    "tcp": st.integers(0, 65535).map(str),
    "udp": st.integers(0, 65535).map(str),
    "p2p": st.binary(min_size=32, max_size=32).map(lambda key: str(PeerId.from_public_key(PublicKey(key)))),
}
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._", min_size=1, max_size=40)
COMPONENTS = st.sampled_from(KINDS).flatmap(
    lambda kind: (
        st.just(f"/{kind.name}")
        if kind.size is None
        else VALUES.get(kind.name, NAMES).map(lambda value: f"/{kind.name}/{value}")
    )
)
TEXTS = st.lists(COMPONENTS, min_size=1, max_size=8).map("".join)


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["text"][:60])
def test_both_forms_as_go_writes_them(case: dict[str, str]) -> None:
    address = Multiaddr.parse(case["text"])
    assert address.encode().hex() == case["bytes"]
    assert str(address) == case["canonical"]
    decoded = Multiaddr.decode(bytes.fromhex(case["bytes"]))
    assert decoded == address
    assert decoded.parts == address.parts
    assert {decoded: 1}[address] == 1


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["text"] or "empty")
def test_texts_that_go_refuses(case: dict[str, str]) -> None:
    with pytest.raises(AddressError, match="no multiaddr"):
        Multiaddr.parse(case["text"])


@pytest.mark.parametrize(
    "text",
    [
        "//",
        "/ip4/1.2.3.4//",
        "/ip4/01.2.3.4",
        "/tcp/-1",
        "/tcp/+1",
        "/tcp/\u0661",
        "/tcp/http",
        "/dns4/a b",
        "/dns4/",
        "/dns4/\u00e9",
        "/dns4/" + "a" * 256,
        "/ip6/fe80::1%1",
        "/p2p-circuit/1",
        "/ws" * 17,
        "/ip4/1.2.3.4 ",
        " /ip4/1.2.3.4",
    ],
)
def test_more_texts_that_are_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Multiaddr.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "04",
        "047f0000",
        "06",
        "0600",
        "350b65",
        "3500",
        "350120",
        "3501ff",
        "a50300",
        "a5032600",
        "ff01",
        "8400",
        "84",
        "dd03" * 17,
    ],
)
def test_malformed_bytes(data: str) -> None:
    with pytest.raises(DecodeError):
        Multiaddr.decode(bytes.fromhex(data))


def test_the_length_is_bounded() -> None:
    with pytest.raises(DecodeError, match="bytes, allowed"):
        Multiaddr.decode(b"\x04\0\0\0\0" * MAX_BYTES)


def test_parts() -> None:
    address = Multiaddr.parse(f"/dns4/example.com/tcp/443/wss/p2p/{RELAY}")
    assert address.parts == (("dns4", "example.com"), ("tcp", "443"), ("wss", None), ("p2p", str(RELAY)))


@pytest.mark.parametrize(
    ("text", "host", "port", "is_dns"),
    [
        ("/ip4/1.2.3.4/tcp/80", "1.2.3.4", 80, False),
        ("/ip6/2001:DB8:0::1/tcp/80", "2001:db8::1", 80, False),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", "fe80::1%eth0", 1, False),
        ("/dns/example.com/tcp/443/wss", "example.com", 443, True),
        ("/dnsaddr/example.com", "example.com", None, True),
        ("/ip4/1.2.3.4/udp/9/quic-v1", "1.2.3.4", None, False),
        ("/ip6/::ffff:1.2.3.4/tcp/1", "::ffff:1.2.3.4", 1, False),
        ("/p2p-circuit", None, None, False),
    ],
)
def test_where_to_dial(text: str, host: str | None, port: int | None, is_dns: bool) -> None:
    address = Multiaddr.parse(text)
    assert (address.host, address.tcp_port, address.is_dns) == (host, port, is_dns)


def test_the_destination_is_the_last_peer() -> None:
    assert Multiaddr.parse("/ip4/1.2.3.4/tcp/1").peer_id is None
    assert Multiaddr.parse(f"/ip4/1.2.3.4/tcp/1/p2p/{RELAY}").peer_id == RELAY
    assert CIRCUIT.with_peer(TARGET).peer_id == TARGET


def test_a_circuit_without_target_leads_to_nobody_yet() -> None:
    assert CIRCUIT.is_circuit
    assert CIRCUIT.peer_id is None
    assert CIRCUIT.without_peer() is CIRCUIT
    assert str(CIRCUIT.with_peer(TARGET)) == f"{CIRCUIT}/p2p/{TARGET}"


def test_the_relay_of_a_circuit() -> None:
    relay = CIRCUIT.with_peer(TARGET).relay
    assert relay == Multiaddr.parse(f"/ip4/1.2.3.4/tcp/4001/p2p/{RELAY}")
    assert relay.relay is None
    assert Multiaddr.parse("/p2p-circuit").relay is None


def test_with_and_without_peer() -> None:
    bare = Multiaddr.parse("/ip4/1.2.3.4/tcp/1")
    assert bare.with_peer(RELAY).with_peer(TARGET) == Multiaddr.parse(f"{bare}/p2p/{TARGET}")
    assert bare.with_peer(RELAY).without_peer() == bare
    # Relays in Go are known to write their peer ID twice.
    assert Multiaddr.parse(f"{bare}/p2p/{RELAY}/p2p/{RELAY}").without_peer() == bare
    only = Multiaddr.parse(f"/p2p/{RELAY}")
    assert only.without_peer() == only
    assert only.with_peer(TARGET) == Multiaddr.parse(f"/p2p/{TARGET}")


def test_tcp() -> None:
    assert str(Multiaddr.tcp("1.2.3.4", 80)) == "/ip4/1.2.3.4/tcp/80"
    assert str(Multiaddr.tcp("2001:db8::1", 80)) == "/ip6/2001:db8::1/tcp/80"
    assert str(Multiaddr.tcp("fe80::1%eth0", 80)) == "/ip6zone/eth0/ip6/fe80::1/tcp/80"
    for ip, port in (("example.com", 80), ("1.2.3.4", 65536), ("1.2.3.4", -1), ("fe80::1%", 80)):
        with pytest.raises(AddressError):
            Multiaddr.tcp(ip, port)


def test_codes_and_names_are_unique() -> None:
    assert len({kind.code for kind in KINDS}) == len({kind.name for kind in KINDS}) == len(KINDS)


@given(TEXTS)
def test_round_trip(text: str) -> None:
    address = Multiaddr.parse(text)
    assert Multiaddr.decode(address.encode()).encode() == address.encode()
    assert Multiaddr.parse(str(address)) == address


@given(st.binary(max_size=64))
def test_what_decodes_is_canonical(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert Multiaddr.decode(memoryview(data)).encode() == data


@given(st.text(max_size=40), TEXTS)
def test_random_text_only_raises_address_errors(text: str, start: str) -> None:
    for candidate in (text, "/" + text, start + "/" + text):
        with contextlib.suppress(AddressError):
            Multiaddr.parse(candidate)
