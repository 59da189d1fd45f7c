"""Which of the addresses that peers report count as ours."""

from ipaddress import ip_address

from bethrou.net.observed import ObservedAddresses
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr

PEERS = [Identity.from_seed(bytes([n]) * 32).peer_id for n in range(4)]
PUBLIC = Multiaddr.parse("/ip4/5.5.5.1/tcp/4000")
LIE = Multiaddr.parse("/ip4/8.8.8.8/tcp/53")


def test_one_peer_is_believed_while_it_is_alone() -> None:
    observed = ObservedAddresses()
    observed.note(PEERS[0], PUBLIC)
    assert observed.believed == {ip_address("5.5.5.1")}


def test_a_minority_decides_nothing() -> None:
    observed = ObservedAddresses()
    for peer in PEERS[:3]:
        observed.note(peer, PUBLIC)
    observed.note(PEERS[3], LIE)
    assert observed.believed == {ip_address("5.5.5.1")}
    observed.forget(PEERS[0])
    observed.forget(PEERS[1])
    assert observed.believed == frozenset()


def test_what_a_peer_says_last_counts() -> None:
    observed = ObservedAddresses()
    observed.note(PEERS[0], LIE)
    observed.note(PEERS[0], PUBLIC)
    assert observed.believed == {ip_address("5.5.5.1")}


def test_names_and_circuits_say_nothing() -> None:
    observed = ObservedAddresses()
    observed.note(PEERS[0], Multiaddr.parse("/dns4/example.com/tcp/1"))
    observed.note(PEERS[1], Multiaddr.parse(f"{PUBLIC}/p2p/{PEERS[2]}/p2p-circuit"))
    observed.note(PEERS[2], None)
    assert observed.believed == frozenset()


def test_zones_say_nothing_whatever_they_are_called() -> None:
    observed = ObservedAddresses()
    observed.note(PEERS[0], Multiaddr.parse("/ip6zone/a%b/ip6/2001:db8::1/tcp/1"))
    assert observed.believed == {ip_address("2001:db8::1")}
