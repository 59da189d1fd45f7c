"""An exit in Go or Rust asks for a hole as soon as somebody comes through its relay; our client is behind NAT."""

from __future__ import annotations

import pytest

from bethrou.wire.dcutr import PROTOCOL
from bethrou.wire.psk import NetworkKey
from interop.peers import GO_PEERS, Peers, each_go_peer
from live.behind_nat import LISTEN, client_at, echo_at, relay_at
from live.namespaces import Internet, Namespace, Nat, an_internet_for_a_test

internet = pytest.fixture(an_internet_for_a_test)


async def meet(peers: Peers, key: NetworkKey, internet: Internet, name: str, theirs: Namespace) -> str:
    """Where our client sees the exit when it has found a direct way to it, as the initiator."""
    ours = internet.home("5.5.2.1", Nat.PRESERVING).member()
    async with relay_at(internet.host("5.5.0.1"), key) as relay, echo_at(theirs) as port:
        options = ("--hole-punching=true",) if name == "rust" else ()
        exit_ = await peers.exit(
            name, "--connect-relay", relay.address, *options, listen=LISTEN, within=theirs
        )
        await exit_.event("reserved")
        if name != "rust":  # which speaks it on circuits only
            await relay.told(exit_.id, PROTOCOL)  # before that, Go does not look at who comes
        async with client_at(ours, key, relay, exit_.id) as client:
            address, initiator = await client.direct(exit_.id)
            assert initiator
            await client.echoed("127.0.0.1", port)
            return address


@pytest.mark.parametrize("name", [*GO_PEERS, "rust"])
async def test_an_exit_behind_a_firewall(
    peers: Peers, key: NetworkKey, internet: Internet, name: str
) -> None:
    theirs = internet.host("5.5.1.1")
    theirs.shut()
    assert await meet(peers, key, internet, name, theirs) == "/ip4/5.5.1.1/tcp/4001"


@pytest.mark.parametrize("name", ["go-newest", "rust"])
async def test_an_exit_behind_nat(peers: Peers, key: NetworkKey, internet: Internet, name: str) -> None:
    """v0.42 would believe in its outside address only when four peers on the Internet had told it."""
    theirs = internet.home("5.5.1.1", Nat.PRESERVING).member()
    assert await meet(peers, key, internet, name, theirs) == "/ip4/5.5.1.1/tcp/4001"


@each_go_peer
async def test_an_exit_in_rust_gets_a_place_where_a_relay_in_go_has_a_public_address(
    peers: Peers, internet: Internet, name: str
) -> None:
    """Elsewhere Go names no address in a reservation, and Rust takes none without (known 1 of the matrix)."""
    relay = await peers.exit(name, "--relay", "unlimited", listen=LISTEN, within=internet.host("5.5.0.1"))
    public = next(address for address in relay.events("listening")[0]["addrs"] if "/5.5.0.1/" in address)
    exit_ = await peers.exit(
        "rust", "--connect-relay", public, listen=LISTEN, within=internet.host("5.5.1.1")
    )
    assert (await exit_.event("reserved"))["relay"] == public
