"""What of the records that members tell is news, and where a node may be dialled by them."""

from __future__ import annotations

import pytest

from bethrou.discovery import member_records
from bethrou.discovery.member_records import MAX_LIFETIME, MemberRecords, is_near
from bethrou.errors import DecodeError
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import RecordCache
from net.hosts import identity, two_hosts

from .network import LOOPBACK, NOW, PUBLIC, Calendar, Notebook, sealed

LINK_LOCAL = Multiaddr.parse("/ip4/169.254.1.1/tcp/4000")
NOWHERE = Multiaddr.parse("/ip4/0.0.0.0/tcp/4000")
X = identity("x").peer_id


class Scene:
    """A judge of records, and what it has told."""

    def __init__(self) -> None:
        self.calendar = Calendar()
        self.notebook = Notebook()
        self.records = MemberRecords(identity("we").peer_id, self.notebook, RecordCache(), self.calendar.time)

    def take(self, envelope: bytes, near: bool = False) -> int:
        """Have a record judged; how many have been told until now."""
        self.records.take(envelope, near)
        return len(self.notebook.all)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_has_been_told_is_not_told_again(scene: Scene) -> None:
    assert scene.take(sealed("x")) == 1
    assert scene.take(sealed("x")) == 1
    assert scene.take(sealed("x", seq=2)) == 2
    assert scene.take(sealed("x")) == 2
    assert (scene.records.heard, scene.records.skipped, scene.records.known) == (4, 0, 1)


def test_addresses_of_a_machine_or_segment_are_used_only_when_told_on_this_machine(scene: Scene) -> None:
    envelope = sealed("x", addrs=(LOOPBACK, LINK_LOCAL, PUBLIC, NOWHERE))
    scene.take(envelope)
    assert scene.notebook.latest[X].addresses == (PUBLIC,)
    scene.take(envelope, near=True)
    assert scene.notebook.latest[X].addresses == (PUBLIC, LINK_LOCAL, LOOPBACK)
    assert scene.take(envelope) == scene.take(envelope, near=True) == 2


def test_a_record_without_an_address_that_can_be_used_is_no_news(scene: Scene) -> None:
    envelope = sealed("x", addrs=(LOOPBACK,))
    assert scene.take(envelope) == 0
    assert scene.take(sealed("x", addrs=())) == 0
    assert scene.take(envelope, near=True) == 1


async def test_whose_link_does_not_leave_this_machine() -> None:
    async with two_hosts() as (_dialer, _listener, link, _other):
        assert is_near(link)
        link.path = "circuit"
        assert not is_near(link)
        link.path, link.remote = "direct", PUBLIC
        assert not is_near(link)


def test_what_is_of_somebody_else_than_its_author_is_not_taken(scene: Scene) -> None:
    with pytest.raises(DecodeError):
        scene.records.take(sealed("x"), near=True, author=identity("y").peer_id)
    scene.records.take(sealed("x"), near=True, author=X)
    assert (scene.records.heard, scene.records.skipped, len(scene.notebook.all)) == (1, 1, 1)


def test_a_record_may_be_good_for_a_day_and_no_longer(scene: Scene) -> None:
    assert scene.take(sealed("x", expires=NOW + MAX_LIFETIME + 1)) == 0
    assert scene.take(sealed("x", expires=NOW + MAX_LIFETIME)) == 1
    assert scene.records.skipped == 1


def test_after_one_has_expired_a_lower_number_will_do(scene: Scene) -> None:
    """As when a node's clock was ahead and has been set right."""
    scene.take(sealed("x", seq=1000, expires=NOW + 60))
    assert scene.take(sealed("x", seq=1)) == 1
    scene.calendar.seconds += 60
    assert scene.take(sealed("x", seq=1)) == 2


def test_newcomers_wait_until_others_have_expired(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_records, "MAX_RECORDS", 3)
    for number in range(3):
        scene.take(sealed(f"node {number}", expires=NOW + 60 + number))
    assert scene.take(sealed("x")) == 3
    assert scene.take(sealed("node 1", seq=2)) == 4  # who is known already is no newcomer
    scene.calendar.seconds += 60
    assert scene.take(sealed("x")) == 5
    assert scene.take(sealed("y")) == 5
    assert scene.records.known == 3
    scene.calendar.seconds += 2
    assert scene.take(sealed("y")) == 6


def test_how_long_nothing_has_been_heard(scene: Scene) -> None:
    assert scene.records.silent_for is None
    scene.take(sealed("x"))
    scene.calendar.seconds += 7
    assert scene.records.silent_for == 7
