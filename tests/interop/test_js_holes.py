"""From circuits to direct links with js, which dials from any port: one of the two has to be within reach.

In js a connect never comes from the listening port, so the hole that it makes in its NAT is not where it says. It names
public addresses of its own only where it is told of them (`--announce`), or where AutoNAT has confirmed them.
"""

from __future__ import annotations

import pytest

from bethrou.events import HolePunched, HolePunchFailed
from bethrou.net.link import CIRCUIT
from bethrou.wire.dcutr import PROTOCOL
from bethrou.wire.psk import NetworkKey
from faults.figures import Figures
from interop.peers import Peers
from live.behind_nat import LISTEN, client_at, echo_at, exit_at, relay_at
from live.namespaces import Internet, Namespace, Nat, an_internet_for_a_test
from live.payload import MIB

internet = pytest.fixture(an_internet_for_a_test)

JS = "/ip4/5.5.1.1/tcp/4001"
OURS = "/ip4/5.5.2.1/tcp/4001"
ANNOUNCE = ("--announce", JS)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    return Figures(request.node.name)


def firewalled(place: Namespace) -> Namespace:
    place.shut()
    return place


def behind_nat(internet: Internet, address: str) -> Namespace:
    return internet.home(address, Nat.PRESERVING).member()


# -- js is the exit, and so B: it asks -------------------------------------------------------------------------------


async def test_js_as_b_within_reach(
    peers: Peers, key: NetworkKey, internet: Internet, figures: Figures
) -> None:
    """We dial it."""
    theirs, ours = internet.host("5.5.1.1"), behind_nat(internet, "5.5.2.1")
    async with relay_at(internet.host("5.5.0.1"), key) as relay, echo_at(theirs) as port:
        exit_ = await peers.exit(
            "js", "--connect-relay", relay.address, *ANNOUNCE, listen=LISTEN, within=theirs
        )
        await relay.told(exit_.id, PROTOCOL)
        async with client_at(ours, key, relay, exit_.id) as client:
            address, initiator = await client.direct(exit_.id)
            figures.note("direct link", f"{address}, ours")
            assert (address, initiator) == (JS, True)
            await client.told(HolePunched)
            await client.echoed("127.0.0.1", port)


async def test_js_as_b_behind_a_firewall_comes_to_us(
    peers: Peers, key: NetworkKey, internet: Internet, figures: Figures
) -> None:
    theirs, ours = firewalled(internet.host("5.5.1.1")), internet.host("5.5.2.1")
    async with relay_at(internet.host("5.5.0.1"), key) as relay, echo_at(theirs) as port:
        exit_ = await peers.exit(
            "js", "--connect-relay", relay.address, *ANNOUNCE, listen=LISTEN, within=theirs
        )
        await relay.told(exit_.id, PROTOCOL)
        async with client_at(ours, key, relay, exit_.id) as client:
            address, initiator = await client.direct(exit_.id)
            figures.note("direct link", f"{address}, js's")
            assert address.startswith("/ip4/5.5.1.1/tcp/")
            assert address != JS  # any port
            assert not initiator
            await client.echoed("127.0.0.1", port)


async def test_js_as_b_where_a_hole_would_be_needed(
    peers: Peers, key: NetworkKey, internet: Internet, figures: Figures
) -> None:
    theirs, ours = firewalled(internet.host("5.5.1.1")), behind_nat(internet, "5.5.2.1")
    async with relay_at(internet.host("5.5.0.1"), key) as relay, echo_at(theirs) as port:
        exit_ = await peers.exit(
            "js", "--connect-relay", relay.address, *ANNOUNCE, listen=LISTEN, within=theirs
        )
        await relay.told(exit_.id, PROTOCOL)
        async with client_at(ours, key, relay, exit_.id) as client:
            failed = await client.told(HolePunchFailed)
            figures.note("not punched", failed.reason)
            assert failed.rounds == 1
            assert await client.path(exit_.id) == CIRCUIT
            await client.echoed("127.0.0.1", port)


# -- js is the client, and so A: it is asked -------------------------------------------------------------------------


@pytest.mark.parametrize("reachable", ["we", "js"])
async def test_js_as_a(
    peers: Peers, key: NetworkKey, internet: Internet, figures: Figures, reachable: str
) -> None:
    """It comes to us when SYNC comes, though it names no address; or we go to it."""
    theirs = internet.host("5.5.1.1") if reachable == "js" else behind_nat(internet, "5.5.1.1")
    ours = internet.host("5.5.2.1") if reachable == "we" else behind_nat(internet, "5.5.2.1")
    options = ("--listen", LISTEN, *ANNOUNCE) if reachable == "js" else ()
    async with (
        relay_at(internet.host("5.5.0.1"), key) as relay,
        exit_at(ours, key, relay) as exit_,
        echo_at(ours) as port,
    ):
        circuit = f"{relay.address}/p2p-circuit/p2p/{exit_}"
        peer = await peers.connected_client("js", circuit, *options, within=theirs)
        opened = await peer.event(
            "opened", lambda line: line["peer"] == exit_ and "p2p-circuit" not in line["address"]
        )
        figures.note("direct link", f"{opened['address'].partition('/p2p')[0]}, {opened['direction']} in js")
        assert opened["address"].startswith(OURS)
        assert opened["direction"] == ("outbound" if reachable == "we" else "inbound")
        answer = await peer.command(
            "request",
            address=f"127.0.0.1:{port}",
            send_random={"bytes": 5 * MIB, "seed": "direct"},
            half_close=True,
            read_until_eof=True,
        )
        assert (answer["sent"], answer["received_sha256"]) == (5 * MIB, answer["sent_sha256"]), answer
