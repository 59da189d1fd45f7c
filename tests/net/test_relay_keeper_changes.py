"""Relays that are kept in place of others: those that are given up are given up softly."""

from __future__ import annotations

import pytest

from bethrou.net import circuits, relay_keeper
from bethrou.net.link import CIRCUIT, DIRECT
from bethrou.net.relay_keeper import Outcome
from bethrou.wire.circuit import STOP_PROTOCOL
from live.waiting import until

from .collector import noise
from .hosts import Member
from .leftovers import nothing_left
from .relays import Hidden, Relay, arrives, open_ends


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_keeper, "REDIAL", (0.02, 0.1))
    monkeypatch.setattr(circuits, "IDLE", 0.1)


async def test_a_relay_takes_the_place_of_another() -> None:
    async with nothing_left():
        first, second, dialer = Relay("first"), Relay("second"), Member("dialer")
        hidden = Hidden(first.full_address)
        await hidden.reserved()
        old_way = first.full_address.circuit()
        live = await dialer.dial(hidden.peer_id, [old_way])
        here, there = await open_ends(live, hidden)
        hidden.keeper.configure([second.full_address])
        await hidden.reserved(2)
        assert hidden.circuit_addresses == [second.full_address.circuit()]
        assert hidden.keeper.outcome(first.peer_id) is None
        late = await dialer.dial(hidden.peer_id, [old_way])  # it has not heard yet
        assert late.path == CIRCUIT
        data = noise(300_000)
        here.write(data)
        await arrives(there, len(data))
        (to_first,) = hidden.links[first.peer_id]
        late.close()
        assert to_first.alive
        live.close()
        await until(lambda: not to_first.alive)
        (to_second,) = hidden.links[second.peer_id]
        assert to_second.alive
        for host in (dialer, hidden, first, second):
            await host.close()


async def test_a_link_that_others_made_is_left_to_them() -> None:
    async with nothing_left():
        relay, hidden = Relay(), Hidden()
        link = await hidden.dial(relay.peer_id, [relay.address])
        hidden.keeper.configure([relay.full_address])
        await hidden.reserved()
        assert hidden.links[relay.peer_id] == [link]
        hidden.keeper.configure([])
        assert hidden.circuit_addresses == []
        await until(lambda: link not in hidden.circuits._own)
        assert link.alive
        for host in (hidden, relay):
            await host.close()


async def test_a_relay_that_is_wanted_again_keeps_its_link() -> None:
    async with nothing_left():
        relay, other = Relay(), Relay("other")
        hidden = Hidden(relay.full_address)
        await hidden.reserved()
        (link,) = hidden.links[relay.peer_id]
        hidden.keeper.configure([])
        hidden.keeper.configure([relay.full_address, other.full_address])
        await hidden.reserved(3)
        assert hidden.links[relay.peer_id] == [link]
        assert not hidden.circuits._own
        hidden.keeper.configure([other.full_address])
        await until(lambda: not link.alive)  # it is still ours to close
        for host in (hidden, relay, other):
            await host.close()


async def test_a_link_that_is_there_for_circuits_alone_is_taken_over() -> None:
    async with nothing_left():
        relay, other, hidden = Relay(), Hidden(name="other"), Hidden()
        other.keeper.configure([relay.full_address])
        await other.reserved()
        circuit = await hidden.dial(other.peer_id, other.circuit_addresses)
        (link,) = hidden.links[relay.peer_id]
        hidden.keeper.configure([relay.full_address])
        await hidden.reserved()
        circuit.close()
        assert not hidden.circuits._own
        hidden.keeper.configure([])
        await until(lambda: not link.alive)
        for host in (hidden, other, relay):
            await host.close()


async def test_chosen_relays_stand_beside_those_that_were_configured() -> None:
    async with nothing_left():
        relays = [Relay(f"relay {number}") for number in range(3)]
        hidden = Hidden(relays[0].full_address)
        changes: list[object] = []
        hidden.keeper.on_change = lambda: changes.append(hidden.circuit_addresses)
        hidden.keeper.choose({relay.peer_id: [relay.address] for relay in relays[:2]})
        await hidden.reserved(2)
        assert {each.relay and each.relay.peer_id for each in hidden.circuit_addresses} == {
            relay.peer_id for relay in relays[:2]
        }
        assert hidden.keeper.outcome(relays[1].peer_id) is Outcome.RESERVED
        assert hidden.keeper.outcome(relays[2].peer_id) is None
        hidden.keeper.choose({relays[2].peer_id: [relays[2].address]})
        await hidden.reserved(3)
        hidden.keeper.choose({})
        assert hidden.circuit_addresses == changes[-1] == [relays[0].full_address.circuit()]
        for host in (hidden, *relays):
            await host.close()


async def test_what_came_of_a_relay() -> None:
    async with nothing_left():
        member, relay, hidden = Member("member"), Relay(), Hidden()
        assert (
            STOP_PROTOCOL not in hidden.statement(await hidden.dial(relay.peer_id, [relay.address])).protocols
        )
        away = Relay("away")
        await away.close()
        hidden.keeper.choose({each.peer_id: [each.address] for each in (member, relay, away)})
        assert {hidden.keeper.outcome(each.peer_id) for each in (member, relay, away)} == {Outcome.TRYING}
        for host, outcome in ((member, Outcome.REFUSED), (relay, Outcome.RESERVED), (away, Outcome.AWAY)):
            await until(lambda peer=host.peer_id, wanted=outcome: hidden.keeper.outcome(peer) is wanted)
        assert all(link.path == DIRECT for links in hidden.links.values() for link in links)
        for each in (hidden, member, relay):
            await each.close()


async def test_a_node_that_drains_begins_with_no_relay() -> None:
    async with nothing_left():
        relay, hidden = Relay(), Hidden()
        hidden.keeper.drain()
        hidden.keeper.choose({relay.peer_id: [relay.address]})
        assert hidden.keeper.outcome(relay.peer_id) is None
        for host in (hidden, relay):
            await host.close()
