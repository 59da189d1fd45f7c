import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.reach import Reach, by_worth, reach

RELAY = Identity.from_seed(bytes(32)).peer_id
EXAMPLES = {
    "/ip4/8.8.8.8/tcp/4001": Reach.PUBLIC,
    "/ip6/2606:4700::1/tcp/4001": Reach.PUBLIC,
    "/ip6/::ffff:8.8.8.8/tcp/4001": Reach.PUBLIC,
    "/dns4/exit.example/tcp/443/wss": Reach.NAME,
    "/dns/exit.example/tcp/443": Reach.NAME,
    f"/ip4/8.8.8.8/tcp/4001/p2p/{RELAY}/p2p-circuit": Reach.CIRCUIT,
    f"/ip4/10.0.0.1/tcp/4001/p2p/{RELAY}/p2p-circuit": Reach.CIRCUIT,
    f"/dns4/relay.example/tcp/4001/p2p/{RELAY}/p2p-circuit": Reach.CIRCUIT,
    f"/p2p/{RELAY}/p2p-circuit": Reach.CIRCUIT,
    "/ip4/10.0.0.1/tcp/4001": Reach.PRIVATE,
    "/ip4/100.64.0.1/tcp/4001": Reach.PRIVATE,
    "/ip6/fd00::1/tcp/4001": Reach.PRIVATE,
    "/ip4/169.254.1.1/tcp/4001": Reach.LINK_LOCAL,
    "/ip6/fe80::1/tcp/4001": Reach.LINK_LOCAL,
    "/ip6zone/eth0/ip6/fe80::1/tcp/4001": Reach.LINK_LOCAL,
    "/ip6zone/a%b/ip6/fe80::1/tcp/4001": Reach.LINK_LOCAL,
    "/ip4/127.0.0.1/tcp/4001": Reach.LOOPBACK,
    "/ip4/127.8.0.1/tcp/4001": Reach.LOOPBACK,
    "/ip6/::1/tcp/4001": Reach.LOOPBACK,
    "/ip6/::ffff:127.0.0.1/tcp/4001": Reach.LOOPBACK,
    "/dns4/localhost/tcp/4001": Reach.LOOPBACK,
    "/dns4/a.LOCALHOST./tcp/4001": Reach.LOOPBACK,
    f"/ip4/127.0.0.1/tcp/4001/p2p/{RELAY}/p2p-circuit": Reach.LOOPBACK,
    "/ip4/0.0.0.0/tcp/4001": Reach.NOWHERE,
    "/ip6/::/tcp/4001": Reach.NOWHERE,
    "/ip6/::ffff:0.0.0.0/tcp/4001": Reach.NOWHERE,
    f"/ip4/0.0.0.0/tcp/4001/p2p/{RELAY}/p2p-circuit": Reach.NOWHERE,
    "/ip4/224.0.0.1/tcp/4001": Reach.NOWHERE,
    "/ip4/255.255.255.255/tcp/4001": Reach.NOWHERE,
    "/ip6/ff02::1/tcp/4001": Reach.NOWHERE,
    "/ip4/8.8.8.8/tcp/0": Reach.NOWHERE,
    "/tcp/4001": Reach.NOWHERE,
    "/p2p-circuit": Reach.NOWHERE,
    f"/p2p/{RELAY}": Reach.NOWHERE,
}


@pytest.mark.parametrize(("text", "expected"), EXAMPLES.items())
def test_from_where_an_address_can_be_used(text: str, expected: Reach) -> None:
    assert reach(Multiaddr.parse(text)) is expected


@given(st.lists(st.sampled_from([Multiaddr.parse(text) for text in EXAMPLES])))
def test_what_is_worth_most_comes_first(addresses: list[Multiaddr]) -> None:
    ordered = by_worth(addresses)
    assert len(ordered) == len(set(addresses))
    assert set(ordered) == set(addresses)
    assert [reach(address) for address in ordered] == sorted(reach(address) for address in ordered)
    for kind in Reach:
        of_kind = list(dict.fromkeys(address for address in addresses if reach(address) is kind))
        assert [address for address in ordered if reach(address) is kind] == of_kind
