"""What several sources say, merged: arithmetic, with a clock that the tests set."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.discovery.directory import (
    FAIR_SHARE,
    MAX_ADDRESSES,
    MAX_ENTRIES,
    MAX_LIFETIME,
    SOURCES,
    Directory,
    Entry,
    dialable,
)
from bethrou.discovery.source import Sighting
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

from .members import ALICE, BOB, NOW, UnixClock, at, crowd, seen

PEER, OTHER = ALICE.peer_id, BOB.peer_id
STATIC, REDIS, MEMBERS, CACHE = SOURCES


class Told:
    """A directory, its clock, and whose entries have changed."""

    def __init__(self) -> None:
        self.clock = UnixClock()
        self.peers: list[PeerId] = []
        self.directory = Directory(self.clock, self.peers.append)

    def hear(self, *sightings: Sighting) -> Entry | None:
        for sighting in sightings:
            self.directory.seen(sighting)
        return self.directory.entries.get(PEER)

    def changes(self) -> int:
        """How many since it was last asked for."""
        count = len(self.peers)
        self.peers.clear()
        return count


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_member_that_one_source_sees(told: Told) -> None:
    sighting = seen(REDIS, PEER, 1, 2, name="berlin", tags=("eu",), roles=("exit", "relay"), agent="a", seq=5)
    entry = told.hear(replace(sighting, record=b"r", expires=NOW + 60))
    assert entry == Entry(PEER, at(1, 2), (REDIS,), "berlin", ("eu",), ("exit", "relay"), "a", 5, b"r")
    assert entry.expires == NOW + 60
    assert entry.is_exit
    assert told.peers == [PEER]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_addresses_are_in_the_order_of_their_sources(told: Told, order: tuple[int, ...]) -> None:
    sightings = [
        seen(STATIC, PEER, 1, 2),
        seen(REDIS, PEER, 3, 1),
        seen(MEMBERS, PEER, 4),
        seen(CACHE, PEER, 2, 5),
    ]
    entry = told.hear(*(sightings[index] for index in order))
    assert entry is not None
    assert entry.addresses == at(1, 2, 3, 4, 5)
    assert entry.sources == SOURCES


def test_what_is_signed_comes_before_what_is_only_said(told: Told) -> None:
    entry = told.hear(seen(REDIS, PEER, 1), seen(MEMBERS, PEER, 2, record=b"r"), seen(STATIC, PEER, 3))
    assert entry is not None
    assert entry.addresses == at(3, 2, 1)
    assert entry.sources == (STATIC, REDIS, MEMBERS)


def test_addresses_lose_their_peer_and_those_of_others_are_dropped(told: Told) -> None:
    circuit = Multiaddr.parse(f"/ip4/8.8.4.4/tcp/1/p2p/{OTHER}/p2p-circuit")
    plain = at(1)[0]
    addresses = (plain.with_peer(PEER), plain, plain.with_peer(OTHER), circuit.with_peer(PEER), circuit)
    entry = told.hear(Sighting(STATIC, PEER, addresses))
    assert entry is not None
    assert entry.addresses == (plain, circuit)


PORTS = st.lists(st.integers(1, 99), max_size=40)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(SOURCES), PORTS, min_size=1), st.sets(st.sampled_from(SOURCES)))
def test_no_source_can_crowd_out_another(ports: dict[str, list[int]], signed: set[str]) -> None:
    sightings = [
        seen(source, PEER, *some, record=b"r" if source in signed else None) for source, some in ports.items()
    ]
    entry = Told().hear(*sightings)
    assert entry is not None
    found = set(entry.addresses)
    assert len(entry.addresses) == len(found)
    everything = {address for some in ports.values() for address in at(*some)}
    assert found <= everything
    assert len(found) == len(everything) or FAIR_SHARE <= len(found) <= MAX_ADDRESSES
    for some in ports.values():
        assert set(list(dict.fromkeys(at(*some)))[:FAIR_SHARE]) <= found


def test_the_newest_number_says_the_name(told: Told) -> None:
    entry = told.hear(
        seen(STATIC, PEER, 1),
        seen(MEMBERS, PEER, 1, name="new", tags=("new",), agent="2", seq=9, record=b"new"),
        seen(CACHE, PEER, 1, name="old", tags=("old",), agent="1", seq=8, record=b"old"),
    )
    assert entry is not None
    assert (entry.name, entry.tags, entry.agent, entry.seq, entry.record) == ("new", ("new",), "2", 9, b"new")


def test_an_unsigned_sighting_does_not_take_the_record_away(told: Told) -> None:
    entry = told.hear(seen(REDIS, PEER, 1, seq=9), seen(CACHE, PEER, 1, seq=8, record=b"old"))
    assert entry is not None
    assert entry.record == b"old"


def test_an_older_number_of_the_same_source_does_not_count(told: Told) -> None:
    new = seen(REDIS, PEER, 1, seq=9, expires=NOW + 60)
    for older in (seen(REDIS, PEER, 2, seq=8), seen(REDIS, PEER, 3)):
        entry = told.hear(new, older)
        assert entry is not None
        assert entry.addresses == at(1)
    told.clock.now += 60
    entry = told.hear(seen(REDIS, PEER, 2, seq=8))
    assert entry is not None
    assert entry.addresses == at(2)


def test_what_the_user_calls_an_exit_is_one(told: Told) -> None:
    relay = told.hear(seen(MEMBERS, PEER, 1, roles=("relay",), seq=1))
    assert relay is not None
    assert not relay.is_exit
    both = told.hear(seen(STATIC, PEER, 1))
    assert both is not None
    assert both.roles == ("relay", "exit")
    assert both.is_exit


def test_only_changes_are_told(told: Told) -> None:
    told.hear(seen(REDIS, PEER, 1, expires=NOW + 60))
    assert told.changes() == 1
    entry = told.hear(seen(REDIS, PEER, 1, expires=NOW + 90), seen(REDIS, PEER, 1, expires=NOW + 120))
    assert told.changes() == 0
    assert entry is not None
    assert entry.expires == NOW + 120
    told.hear(seen(REDIS, PEER, 2))
    told.hear(seen(MEMBERS, PEER, 2))
    told.hear(seen(MEMBERS, PEER, 2, seq=1, record=b"r"))
    assert told.changes() == 3


def test_a_member_stays_until_the_last_source_says_that_it_has_gone(told: Told) -> None:
    told.hear(seen(REDIS, PEER, 1), seen(MEMBERS, PEER, 2))
    told.changes()
    told.directory.gone(CACHE, PEER)
    told.directory.gone(REDIS, OTHER)
    assert told.changes() == 0
    told.directory.gone(REDIS, PEER)
    assert told.directory.entries[PEER].addresses == at(2)
    told.directory.gone(MEMBERS, PEER)
    told.directory.gone(MEMBERS, PEER)
    assert told.changes() == 2
    assert not told.directory.entries


def test_what_is_past_its_time_is_dropped(told: Told) -> None:
    assert told.directory.next_expiry() is None
    told.hear(
        seen(STATIC, PEER, 1), seen(REDIS, PEER, 2, expires=NOW + 60), seen(REDIS, OTHER, 1, expires=NOW + 30)
    )
    told.changes()
    assert told.directory.next_expiry() == NOW + 30
    told.directory.expire()
    assert told.changes() == 0
    told.clock.now = NOW + 30
    told.directory.expire()
    assert told.peers == [OTHER]
    assert set(told.directory.entries) == {PEER}
    assert told.directory.next_expiry() == NOW + 60
    told.clock.now = NOW + 61
    told.directory.expire()
    assert told.peers == [OTHER, PEER]
    assert told.directory.entries[PEER].sources == (STATIC,)
    assert told.directory.next_expiry() is None


def test_what_is_past_its_time_already_is_not_taken(told: Told) -> None:
    assert told.hear(seen(REDIS, PEER, 1, expires=NOW)) is None
    assert told.changes() == 0


@pytest.mark.parametrize("expires", [NOW + 1e9, 1e300, float("inf"), float(2**63)])
def test_no_sighting_holds_for_ever(told: Told, expires: float) -> None:
    entry = told.hear(seen(MEMBERS, PEER, 1, expires=expires))
    assert entry is not None
    assert entry.expires == told.directory.next_expiry() == NOW + MAX_LIFETIME


def test_the_number_of_members_is_bounded(told: Told) -> None:
    peers = crowd(MAX_ENTRIES + 2)
    for peer in peers[:MAX_ENTRIES]:
        told.directory.seen(seen(MEMBERS, peer, 1, expires=NOW + 60))
    told.changes()
    for source in (REDIS, MEMBERS, CACHE):
        told.directory.seen(seen(source, PEER, 1))
    assert told.directory.refused == 3
    assert told.changes() == 0
    told.directory.seen(seen(CACHE, peers[0], 1))
    told.directory.seen(seen(STATIC, peers[-1], 1))
    assert told.directory.refused == 3
    assert len(told.directory.entries) == MAX_ENTRIES + 1
    told.clock.now += 60
    assert told.hear(seen(REDIS, PEER, 1)) is not None
    assert set(told.directory.entries) == {peers[0], peers[-1], PEER}


def test_entries_can_be_looked_at_but_not_changed(told: Told) -> None:
    entries = told.directory.entries
    told.hear(seen(STATIC, PEER, 1))
    assert list(entries) == [PEER]
    with pytest.raises(TypeError):
        entries[OTHER] = entries[PEER]  # type: ignore[index]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["seen", "gone", "expire"]),
        st.sampled_from(SOURCES),
        st.sampled_from([PEER, OTHER]),
        st.integers(1, 3),
        st.none() | st.integers(0, 50),
        st.integers(0, 20),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS)
def test_any_order_of_events(steps: list[tuple[str, str, PeerId, int, int | None, int]]) -> None:
    told = Told()
    said: dict[tuple[PeerId, str], Sighting] = {}
    for what, source, peer, port, lasts, later in steps:
        told.clock.now += later
        now = told.clock.now
        before = dict(told.directory.entries)
        if what == "seen":
            sighting = seen(source, peer, port, expires=None if lasts is None else now + lasts)
            told.directory.seen(sighting)
            if lasts != 0:
                said[peer, source] = sighting
        elif what == "gone":
            told.directory.gone(source, peer)
            said.pop((peer, source), None)
        else:
            told.directory.expire()
            said = {key: old for key, old in said.items() if old.expires is None or old.expires > now}
        entries = told.directory.entries
        assert {(peer, source) for peer, entry in entries.items() for source in entry.sources} == set(said)
        assert set(told.peers) == {peer for peer in (PEER, OTHER) if before.get(peer) != entries.get(peer)}
        told.changes()
        ends = [old.expires for old in said.values() if old.expires is not None]
        next_expiry = told.directory.next_expiry()
        assert not ends or (next_expiry is not None and next_expiry <= min(ends))


def test_where_a_member_may_be_dialled() -> None:
    public, private = at(1)[0], at(1, host="10.0.0.1")[0]
    loopback, link_local = at(1, host="127.0.0.1")[0], at(1, host="169.254.0.1")[0]
    name = Multiaddr.parse("/dns4/exit.example/tcp/1")
    circuit = Multiaddr.parse(f"/dns4/relay.example/tcp/1/p2p/{OTHER}/p2p-circuit")
    nowhere = at(1, host="0.0.0.0") + at(1, host="::") + at(0)
    everything = [loopback, *nowhere, link_local, private, circuit, name, public, public]
    assert dialable(everything, from_loopback=False) == (public, name, circuit, private)
    assert dialable(everything, from_loopback=True) == (public, name, circuit, private, link_local, loopback)
