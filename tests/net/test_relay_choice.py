"""Which relays a node uses that has heard of some, by plain numbers."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bethrou.net.relay_choice import WANTED, Candidate, Chosen, draw, revise
from bethrou.net.relay_keeper import Outcome
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from net.hosts import identity

TRYING, RESERVED, AWAY, REFUSED = Outcome
NOW = 1000.0


def relay(number: int, host: str = "") -> Candidate:
    address = Multiaddr.tcp(host or f"5.5.0.{number}", 4001)
    return Candidate(identity(f"relay {number}").peer_id, (address,))


RELAYS = [relay(number) for number in range(6)]
IDS = [each.peer for each in RELAYS]
OUTCOMES = st.tuples(st.sampled_from(Outcome), st.booleans())


def chosen(*outcomes: tuple[Outcome, bool]) -> dict[PeerId, Chosen]:
    """The first relays, with what has come of them and whether patience is left."""
    return {
        peer: Chosen(outcome, NOW + (5.0 if patient else -5.0))
        for peer, (outcome, patient) in zip(IDS, outcomes, strict=False)
    }


def revised(
    *outcomes: tuple[Outcome, bool], elsewhere: int = 0, of: list[Candidate] = RELAYS, seed: int = 1
) -> set[PeerId]:
    found = revise(chosen(*outcomes), elsewhere, of, NOW, random.Random(seed))
    assert len(found) == len(set(found))
    return set(found)


def test_two_are_used() -> None:
    assert len(revised()) == WANTED
    assert len(revised(of=RELAYS[:1])) == 1
    assert revised(of=[]) == set()


def test_those_that_were_configured_count() -> None:
    assert len(revised(elsewhere=1)) == 1
    assert revised(elsewhere=2) == revised(elsewhere=5) == set()
    assert len(revised((RESERVED, True), (RESERVED, True), elsewhere=1)) == 1


def test_relays_that_serve_are_kept() -> None:
    assert revised((RESERVED, False), (RESERVED, False)) == set(IDS[:2])


def test_first_answers_are_waited_for() -> None:
    assert revised((TRYING, True), (TRYING, True)) == set(IDS[:2])
    later = revised((TRYING, True), (TRYING, False))
    assert IDS[0] in later
    assert IDS[1] not in later
    assert len(later) == 2


def test_one_that_is_away_is_waited_for_while_another_serves() -> None:
    assert revised((RESERVED, True), (AWAY, True)) == set(IDS[:2])
    later = revised((RESERVED, True), (AWAY, False))
    assert IDS[0] in later
    assert IDS[1] not in later
    assert len(later) == 2


def test_when_none_serves_others_are_tried_at_once() -> None:
    found = revised((AWAY, True), (AWAY, True))
    assert found > set(IDS[:2])
    assert len(found) == 4


def test_one_that_comes_back_too_late_is_given_up_again() -> None:
    assert revised((AWAY, True), (RESERVED, True), (RESERVED, True)) == {IDS[1], IDS[2]}


def test_one_that_refuses_is_replaced_at_once() -> None:
    found = revised((REFUSED, True), (RESERVED, True))
    assert IDS[0] not in found
    assert len(found) == 2


def test_one_that_is_lost_stays_where_there_is_no_other() -> None:
    assert revised((REFUSED, True), (AWAY, False), of=RELAYS[:2]) == set(IDS[:2])
    assert revised((RESERVED, True), (AWAY, False), of=[]) == set(IDS[:2])


def test_nodes_spread_over_relays() -> None:
    counted = Counter(peer for seed in range(3000) for peer in revised(seed=seed))
    assert counted.keys() == set(IDS)
    assert all(900 < count < 1100 for count in counted.values())


def test_two_on_one_machine_are_seldom_used_together() -> None:
    relays = [relay(1, "5.5.0.1"), relay(2, "5.5.0.1"), relay(3, "5.5.0.3")]
    together = sum({relays[0].peer, relays[1].peer} == revised(of=relays, seed=seed) for seed in range(1000))
    assert 20 < together < 120


def test_private_relays_are_the_last_resort() -> None:
    relays = [relay(1, "10.0.0.1"), relay(2), relay(3)]
    private = sum(relays[0].peer in revised(of=relays, seed=seed) for seed in range(1000))
    assert 100 < private < 300
    assert revised(of=relays[:1]) == {relays[0].peer}


def test_private_addresses_are_not_the_same_machine() -> None:
    relays = [relay(number, "10.0.0.1") for number in range(2)]
    assert len(draw(relays, 2, (), (), random.Random(1))) == 2


@given(st.lists(OUTCOMES, max_size=4), st.integers(0, 3), st.integers(0, 6), st.integers())
def test_whatever_has_come_of_them(
    outcomes: list[tuple[Outcome, bool]], elsewhere: int, known: int, seed: int
) -> None:
    before = chosen(*outcomes)
    found = revised(*outcomes, elsewhere=elsewhere, of=RELAYS[:known], seed=seed)
    wanted = max(0, WANTED - elsewhere)
    assert len(found) <= 2 * WANTED
    assert found <= {*before, *IDS[:known]}
    serving = [peer for peer, each in before.items() if each.is_good()]
    assert len(found & set(serving)) == min(wanted, len(serving))
    if wanted and before.keys() | set(IDS[:known]):
        assert found
    again = revise(
        {peer: before.get(peer, Chosen(TRYING, NOW + 5.0)) for peer in found},
        elsewhere,
        [],
        NOW,
        random.Random(seed),
    )
    assert set(again) == found, "deciding twice changes nothing"
