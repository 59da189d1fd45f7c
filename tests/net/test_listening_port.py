"""Dialling from the port that is listened on: peers then see where a NAT puts it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bethrou.errors import ConfigError, DialError
from bethrou.net.dialer import connect_beside
from bethrou.net.listener import open_listening_socket
from bethrou.net.observed import MAX_MAPPED, MappedPorts
from bethrou.wire.multiaddr import Multiaddr
from live.waiting import until

from .hosts import Member, identity


@pytest.fixture
async def members() -> AsyncIterator[tuple[Member, Member]]:
    """One that dials from its listening port, and one to be dialled."""
    dialer, listener = Member("dialer", from_listening_port=True), Member("listener")
    yield dialer, listener
    await dialer.close()
    await listener.close()


async def test_peers_see_the_listening_port(members: tuple[Member, Member]) -> None:
    dialer, listener = members
    link = await dialer.dial(listener.peer_id, [listener.address])
    await until(lambda: dialer.peer_id in listener.links)
    assert listener.links[dialer.peer_id][0].remote == link.local == dialer.address
    await dialer.statement_of(link)
    assert dialer.mapped.addresses == (dialer.address,)
    link.close()
    await until(lambda: not dialer.links)
    assert dialer.mapped.addresses == ()


async def test_names_are_dialled_from_there_too(members: tuple[Member, Member]) -> None:
    dialer, listener = members
    link = await dialer.dial(listener.peer_id, [Multiaddr.parse(f"/dns4/localhost/tcp/{listener.port}")])
    assert link.local == dialer.address


async def test_a_second_link_to_the_same_address_has_another_port(members: tuple[Member, Member]) -> None:
    dialer, listener = members
    first, second = [await dialer.dial(listener.peer_id, [listener.address]) for _ in range(2)]
    assert first.local == dialer.address != second.local
    assert first.alive
    await dialer.statement_of(second)
    assert dialer.mapped.addresses == (dialer.address,)  # where `second` is seen says nothing


async def test_only_who_wants_to_dials_from_there(members: tuple[Member, Member]) -> None:
    dialer, listener = members
    link = await listener.dial(dialer.peer_id, [dialer.address])
    assert link.local != listener.address


async def test_our_own_address_is_not_connected_to_itself(members: tuple[Member, Member]) -> None:
    """From a port to the same port TCP would do that."""
    dialer, _ = members
    with pytest.raises(DialError, match="in use"):
        await dialer.dial(identity("somebody").peer_id, [dialer.address])


async def test_the_port_is_still_ours_alone(members: tuple[Member, Member]) -> None:
    dialer, listener = members
    await dialer.dial(listener.peer_id, [listener.address])
    with pytest.raises(ConfigError, match="in use"):
        open_listening_socket("127.0.0.1", dialer.port)
    link = await listener.dial(dialer.peer_id, [dialer.address])
    assert link.alive


async def test_a_loopback_port_does_not_lead_out(members: tuple[Member, Member]) -> None:
    dialer, _ = members
    assert dialer.listening.socket_for(dialer.address) is not None
    assert dialer.listening.socket_for(Multiaddr.parse("/ip4/192.0.2.1/tcp/1")) is None
    assert dialer.listening.socket_for(Multiaddr.parse("/ip6/::1/tcp/1")) is None
    everywhere = dialer.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/0"))
    sock = dialer.listening.socket_for(Multiaddr.parse("/ip4/192.0.2.1/tcp/1"))
    assert sock is not None
    assert sock.getsockname()[1] == everywhere.tcp_port
    dialer.stop_listening()
    assert dialer.listening.socket_for(dialer.address) is None


async def test_a_punching_connect_uses_no_other_port(members: tuple[Member, Member]) -> None:
    dialer, listener = members
    sock = dialer.listening.socket_for(listener.address)
    assert sock is not None
    transport = await connect_beside(dialer.loop, listener.address, sock, 5.0)
    assert transport.get_extra_info("sockname")[1] == dialer.port
    with pytest.raises(Exception, match="Cannot assign"):
        await connect_beside(dialer.loop, listener.address, sock, 5.0)
    transport.abort()


def test_what_most_peers_say_comes_first() -> None:
    mapped = MappedPorts()
    changes: list[tuple[Multiaddr, ...]] = []
    mapped.watch(lambda: changes.append(mapped.addresses))
    peers = [identity(str(number)).peer_id for number in range(8)]
    seen = [Multiaddr.tcp("5.5.1.1", 4000 + number) for number in range(7)]
    for peer, address in zip(peers, [*seen[:6], seen[5]], strict=False):
        mapped.note(peer, address)
    assert len(mapped.addresses) == MAX_MAPPED
    assert mapped.addresses[0] == seen[5]
    mapped.note(peers[7], Multiaddr.parse("/dns4/somewhere/tcp/4001"))
    mapped.note(peers[7], Multiaddr.parse("/ip4/5.5.1.1/udp/4001"))
    mapped.note(peers[7], None)
    count = len(changes)
    mapped.forget(peers[7])
    assert len(changes) == count
    for peer in peers:
        mapped.forget(peer)
    assert mapped.addresses == changes[-1] == ()
