"""What is believed of announcements, and until when."""

from __future__ import annotations

import pytest

from bethrou.discovery import announced_exits
from bethrou.discovery.announced_exits import ANSWER_TTL, MAX_TTL, MAX_UNPROVED, AnnouncedExits
from bethrou.errors import DecodeError
from bethrou.wire.announcement import Answer, Gone, Presence
from bethrou.wire.node_record import RecordCache
from discovery.members import ALICE, BOB, NOW, UnixClock, at, crowd, record
from discovery.redis_network import Notebook

A, B = ALICE.peer_id, BOB.peer_id


class Hall:
    """Exits, the clock they are judged by, and what is told of them."""

    def __init__(self, from_loopback: bool = False) -> None:
        self.clock = UnixClock()
        self.notes = Notebook()
        self.exits = AnnouncedExits(self.notes, None, self.clock, from_loopback, RecordCache())

    def believed(self, message: Presence | Gone | Answer) -> bool:
        try:
            return self.exits.take(message)
        except DecodeError:
            return False


@pytest.fixture
def hall() -> Hall:
    return Hall()


def test_a_presence_holds_for_its_ttl_and_another_one_for_as_long_again(hall: Hall) -> None:
    assert hall.believed(Presence(A, 1, 45, record(1, 4000)))
    hall.clock.now += 30
    assert hall.believed(Presence(A, 2, 45, record(1, 4000)))
    assert [sighting.expires for sighting in hall.notes.seen_all] == [NOW + 45, NOW + 75]
    hall.clock.now += 44
    assert hall.exits.known == 1
    hall.clock.now += 1
    assert hall.exits.known == 0


def test_no_presence_is_believed_for_longer_than_an_hour_or_than_its_record(hall: Hall) -> None:
    assert hall.believed(Presence(A, 1, 86400, record(1, 4000, expires=NOW + 86400)))
    assert hall.believed(Presence(B, 1, 3000, record(1, 4000, expires=NOW + 60, identity=BOB)))
    assert not hall.believed(Presence(B, 2, 3000, record(2, 4000, expires=NOW, identity=BOB)))
    assert [sighting.expires for sighting in hall.notes.seen_all] == [NOW + MAX_TTL, NOW + 60]


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_the_same_message_or_an_older_one_is_not_believed(hall: Hall, seq: int) -> None:
    assert hall.believed(Presence(A, 3, 45, record(1, 4000)))
    assert not hall.believed(Presence(A, seq, 45, record(1, 4000)))
    assert not hall.believed(Gone(A, seq, 0, record(1, 4000)))
    assert hall.exits.known == 1


def test_a_record_older_than_the_last_is_not_believed_in_a_new_message(hall: Hall) -> None:
    assert hall.believed(Presence(A, 3, 45, record(7, 4000)))
    assert not hall.believed(Presence(A, 4, 45, record(6, 666)))
    assert not hall.believed(Gone(A, 4, 45, record(6, 666)))
    assert not hall.believed(Answer(A, at(666), record(6, 666)))
    assert hall.believed(Presence(A, 5, 45, record(8, 5000)))
    assert hall.notes.seen_all[-1].addresses == at(5000)


def test_what_somebody_else_signed_is_not_believed(hall: Hall) -> None:
    stolen = record(9, 666, identity=BOB)
    assert hall.believed(Presence(A, 1, 45, record(1, 4000)))
    for message in (Presence(A, 2, 45, stolen), Gone(A, 2, 45, stolen), Answer(A, at(666), stolen)):
        assert not hall.believed(message)
    assert hall.exits.known == 1


def test_after_a_goodbye_only_a_newer_presence_counts(hall: Hall) -> None:
    assert hall.believed(Presence(A, 1, 45, record(1, 4000)))
    assert hall.believed(Gone(A, 2, 0, record(1, 4000)))
    assert hall.notes.gone_all == [A]
    assert not hall.believed(Presence(A, 1, 45, record(1, 4000)))
    assert not hall.believed(Answer(A, at(4000), record(1, 4000)))
    assert hall.exits.known == 0
    assert hall.believed(Gone(A, 3, 0, record(1, 4000)))
    assert hall.notes.gone_all == [A]
    assert hall.believed(Presence(A, 4, 45, record(2, 4000)))
    assert hall.exits.known == 1


def test_a_goodbye_of_somebody_unknown_says_nothing(hall: Hall) -> None:
    assert hall.believed(Gone(A, 2, 0, record(1, 4000)))
    assert hall.notes.gone_all == []


def test_an_answer_holds_for_a_while_and_makes_no_presence_longer_or_shorter(hall: Hall) -> None:
    assert hall.believed(Answer(A, at(4000), record(1, 4000)))
    assert hall.believed(Presence(A, 1, 45, record(1, 4000)))
    assert hall.believed(Answer(A, at(4000), record(1, 4000)))
    assert [sighting.expires for sighting in hall.notes.seen_all] == [NOW + ANSWER_TTL, NOW + 45]
    assert hall.exits.unproved == 0


def test_an_answer_with_a_newer_record_is_news(hall: Hall) -> None:
    assert hall.believed(Presence(A, 5, 45, record(1, 4000)))
    assert hall.believed(Answer(A, at(4000), record(2, 5000)))
    assert hall.notes.seen_all[-1].addresses == at(5000)
    assert not hall.believed(Presence(A, 5, 45, record(1, 4000)))


def test_what_a_go_program_answers_is_a_claim_that_a_record_overrules(hall: Hall) -> None:
    assert hall.believed(Answer(A, at(4000), None))
    assert (hall.exits.known, hall.exits.unproved) == (1, 1)
    assert hall.believed(Presence(A, 1, 45, record(1, 5000)))
    assert (hall.exits.known, hall.exits.unproved) == (1, 0)
    assert hall.believed(Answer(A, at(666), None))
    assert [sighting.addresses for sighting in hall.notes.seen_all] == [at(4000), at(5000)]


def test_claims_are_bounded_and_leave_room_for_what_is_proved(hall: Hall) -> None:
    taken = [hall.believed(Answer(peer, at(4000), None)) for peer in crowd(MAX_UNPROVED + 10)]
    assert taken == [True] * MAX_UNPROVED + [False] * 10
    assert hall.believed(Answer(crowd(1)[0], at(5000), None))
    assert hall.believed(Presence(A, 1, 45, record(1, 4000)))
    hall.clock.now += ANSWER_TTL
    assert hall.exits.unproved == 0
    assert hall.believed(Answer(crowd(MAX_UNPROVED + 1)[-1], at(4000), None))


def test_exits_are_bounded(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announced_exits, "MAX_KNOWN", 1)
    assert hall.believed(Presence(A, 1, 45, record(1, 4000)))
    assert not hall.believed(Presence(B, 1, 45, record(1, 4000, identity=BOB)))
    hall.clock.now += 45
    assert hall.believed(Presence(B, 1, 45, record(1, 4000, identity=BOB)))


@pytest.mark.parametrize(("from_loopback", "kept"), [(True, 2), (False, 1)])
def test_addresses_of_this_machine_count_where_redis_is_on_it(from_loopback: bool, kept: int) -> None:
    hall = Hall(from_loopback)
    addresses = at(4000) + at(4000, host="127.0.0.1")
    assert hall.believed(Answer(A, addresses, None))
    assert hall.notes.seen_all[0].addresses == addresses[:kept]


def test_only_a_record_whose_bytes_are_new_is_costly(hall: Hall) -> None:
    presence = Presence(A, 1, 45, record(1, 4000))
    assert hall.exits.is_costly(presence)
    hall.believed(presence)
    assert not hall.exits.is_costly(presence)
    assert not hall.exits.is_costly(Answer(A, at(4000), None))


def test_what_we_said_ourselves_is_no_news() -> None:
    notes = Notebook()
    exits = AnnouncedExits(notes, A, UnixClock(), False, RecordCache())
    assert not exits.take(Presence(A, 1, 45, record(1, 4000)))
    assert exits.known == 0
    assert notes.seen_all == []
