"""What a node says of itself: where it is, newer each time, and made anew in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from bethrou.discovery.own_record import LIFETIME, OwnRecord
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import MAX_ADDRESSES, NodeRecord
from net.hosts import Member, identity

from .network import NOW, Calendar

SEEN_FROM = Multiaddr.parse("/ip4/5.5.5.5/tcp/50123")


class Node(Member):
    """A node on a machine with the interfaces that a test names, and two addresses of loopback."""

    def __init__(self, *interfaces: str) -> None:
        super().__init__("node")
        self.stop_listening()
        self.calendar = Calendar()
        self.record = OwnRecord(
            self,
            self.identity,
            self.calendar.time_ns,
            name="alpha",
            tags=("eu",),
            roles=("exit", "relay"),
            agent="a/1",
        )
        self.interfaces = {ip_address(text) for text in ("127.0.0.1", "::1", *interfaces)}
        self._interfaces._read = self._read_interfaces
        self.look_again()

    def look_again(self) -> None:
        """Have it read its interfaces again the next time it wants to know them."""
        self._interfaces._read_at = float("-inf")

    def _read_interfaces(self) -> frozenset[IPv4Address | IPv6Address]:
        return frozenset(self.interfaces)

    def listen_on(self, host: str) -> int:
        """Listen on an address of this machine; the port."""
        port = self.listen(Multiaddr.tcp(host, 0)).tcp_port
        assert port is not None
        return port

    def told(self) -> NodeRecord:
        """What it says of itself now, as others read it."""
        current = self.record.current()
        assert current is not None
        read = NodeRecord.open(current[1])
        assert read.seq == current[0]
        return read


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    running = Node("10.1.2.3", "192.0.2.7", "fe80::1", "2001:db8::7")
    yield running
    await running.close()


async def test_it_says_who_and_where_it_is(node: Node) -> None:
    port = node.listen_on("0.0.0.0")
    told = node.told()
    assert told.peer_id == node.peer_id
    assert (told.name, told.tags, told.roles, told.agent) == ("alpha", ("eu",), ("exit", "relay"), "a/1")
    assert (told.seq, told.expires) == (NOW * 10**9, NOW + LIFETIME)
    assert {str(address) for address in told.addrs} == {
        f"/ip4/10.1.2.3/tcp/{port}",
        f"/ip4/192.0.2.7/tcp/{port}",
    }


async def test_where_its_peers_see_it_counts_if_it_listens_on_all_addresses(node: Node) -> None:
    port = node.listen_on("0.0.0.0")
    node.observed.note(identity("peer").peer_id, SEEN_FROM)
    told = node.told().addrs
    assert str(told[0]) == f"/ip4/5.5.5.5/tcp/{port}"
    assert len(told) == 3
    node.observed.note(identity("peer").peer_id, Multiaddr.parse("/ip6/2001:db8::5/tcp/1"))
    assert len(node.told().addrs) == 2  # nobody listens there


async def test_where_its_peers_see_it_says_nothing_of_one_that_listens_elsewhere(node: Node) -> None:
    port = node.listen_on("127.0.0.1")
    node.observed.note(identity("peer").peer_id, SEEN_FROM)
    assert [str(address) for address in node.told().addrs] == [f"/ip4/127.0.0.1/tcp/{port}"]


async def test_loopback_is_told_when_there_is_nothing_else(node: Node) -> None:
    first, second = node.listen_on("127.0.0.1"), node.listen_on("::1")
    assert {str(address) for address in node.told().addrs} == {
        f"/ip4/127.0.0.1/tcp/{first}",
        f"/ip6/::1/tcp/{second}",
    }
    third = node.listen_on("0.0.0.0")
    assert {address.tcp_port for address in node.told().addrs} == {third}


async def test_neighbours_that_see_it_on_loopback_do_not_count(node: Node) -> None:
    node.listen_on("0.0.0.0")
    node.observed.note(identity("peer").peer_id, Multiaddr.parse("/ip4/127.0.0.1/tcp/1"))
    assert len(node.told().addrs) == 2


async def test_there_is_none_while_it_listens_nowhere(node: Node) -> None:
    assert node.record.current() is None
    node.listen_on("0.0.0.0")
    assert node.record.current() is not None
    node.stop_listening()  # as a node that drains
    assert node.record.current() is None


async def test_it_is_made_anew_at_half_its_life_and_not_before(node: Node) -> None:
    node.listen_on("0.0.0.0")
    first = node.record.current()
    node.calendar.seconds += LIFETIME / 2 - 1
    assert node.record.current() == first
    node.calendar.seconds += 1
    assert node.told().expires == NOW + LIFETIME // 2 + LIFETIME
    assert node.told().seq == (NOW + LIFETIME // 2) * 10**9


async def test_it_is_made_anew_when_something_changes(node: Node) -> None:
    node.listen_on("0.0.0.0")
    first = node.told()
    node.interfaces.add(ip_address("10.9.9.9"))
    node.look_again()
    second = node.told()
    assert len(second.addrs) == len(first.addrs) + 1
    assert second.seq > first.seq  # although no time has passed


async def test_its_number_rises_even_when_the_clock_is_set_back(node: Node) -> None:
    node.listen_on("0.0.0.0")
    first = node.told()
    node.calendar.seconds -= 1000
    second = node.told()
    assert second.seq == first.seq + 1
    assert second.expires == NOW - 1000 + LIFETIME
    assert node.told() == second


async def test_of_very_many_addresses_the_best_are_told(node: Node) -> None:
    node.interfaces |= {ip_address(f"10.2.{number}.1") for number in range(100)}
    node.listen_on("0.0.0.0")
    node.observed.note(identity("peer").peer_id, SEEN_FROM)
    told = node.told().addrs
    assert len(told) == MAX_ADDRESSES
    assert told[0].host == "5.5.5.5"
