"""Joining, and the member list enforced, between hosts: what gets in, what does not, and who is cut off."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from bethrou.atomic_file import replace_file
from bethrou.discovery import join_service, member_gate, membership
from bethrou.discovery.member_book import MemberBook
from bethrou.errors import BethrouError, DialError
from bethrou.events import InviteRefused, MemberCutOff, MemberJoined, TurnedAway
from bethrou.net.link import Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire.grant import seal_redemption
from bethrou.wire.join_message import JoinRequest, Refusal
from bethrou.wire.member_exchange import END, PROTOCOL, Header, Kind, Standing, encode_item
from bethrou.wire.member_list import Member, Removed
from live.operator import KEY, NOW, OPERATOR, OTHER_OPERATOR, SECRET, grant, identity
from live.waiting import until
from net.hosts import PIPE
from net.hosts import Member as Host

from .membership_network import EXIT, Device, Network, can_open, closed, operated_network


def refusal(answer: bytes | tuple[Refusal, str]) -> Refusal:
    assert not isinstance(answer, bytes)
    return answer[0]


async def test_a_device_joins_and_every_node_knows_it(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, two, laptop = network.node("one"), network.node("two"), network.device("laptop")
        await network.know(network.list(), one, two)
        await one.meets(two)
        admission = await laptop.redeems(one)
        assert isinstance(admission, bytes)
        assert one.heard.of(MemberJoined)
        # on disk before the device hears of it
        again = MemberBook(OPERATOR.peer_id, KEY.fingerprint, network.calendar.time)
        again.decode(one.file.read_bytes())
        assert again.holder(SECRET.peer_id) == laptop.peer_id
        await until(lambda: two.book.standing(laptop.peer_id) is Standing.MEMBER)
        # the device learns the list from its first link, and may do what members may
        for node in (one, two):
            assert await can_open(await laptop.meets(node))
        assert laptop.book.members == one.book.members


async def test_a_device_brings_its_admission_to_a_node_that_has_not_heard_of_it(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, two, laptop = network.node("one"), network.node("two"), network.device("laptop")
        await network.know(network.list())
        admission = await laptop.redeems(one)
        assert isinstance(admission, bytes)
        await laptop.membership.take([(Kind.ADMISSION, admission)])
        assert two.book.standing(laptop.peer_id) is Standing.UNKNOWN
        link = await laptop.meets(two)
        assert two.book.standing(laptop.peer_id) is Standing.MEMBER
        assert link.statement is not None
        assert PIPE in link.statement.protocols
        assert await can_open(link)


async def test_an_invite_is_good_once_and_again_for_its_own_device_only(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop, thief = network.node("one"), network.device("laptop"), network.device("thief")
        await network.know(network.list(), one)
        first = await laptop.redeems(one)
        assert isinstance(first, bytes)
        assert await laptop.redeems(one) == first
        assert refusal(await thief.redeems(one)) is Refusal.USED
        assert one.heard.of(InviteRefused)[0].peer == str(thief.peer_id)
        # a restarted node, which has its book from the disk, says the same
        one.book.decode(one.file.read_bytes())
        assert refusal(await thief.redeems(one)) is Refusal.USED
        # and so does one after the operator's next list, which has taken the device up
        entry = Member(laptop.peer_id, "laptop", "client", (), SECRET.peer_id)
        await network.know(network.list(entry), one)
        assert refusal(await thief.redeems(one)) is Refusal.USED
        assert isinstance(await laptop.redeems(one), bytes)


async def test_of_two_at_the_same_moment_one_gets_in(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one = network.node("one")
        await network.know(network.list())
        devices = [network.device(f"device {number}") for number in range(4)]
        answers = await asyncio.gather(*(device.redeems(one) for device in devices))
        assert sum(isinstance(answer, bytes) for answer in answers) == 1


@pytest.mark.parametrize(
    ("granted", "by", "expected"),
    [
        (grant(expires=NOW + 60), OPERATOR, Refusal.EXPIRED),
        (grant(issued=NOW + 1000), OPERATOR, Refusal.INVALID),
        (grant(), OTHER_OPERATOR, Refusal.FOREIGN),
        (grant(network="00" * 16), OPERATOR, Refusal.FOREIGN),
    ],
)
async def test_an_invite_that_is_no_good_lets_nobody_in(
    tmp_path: Path, granted: object, by: object, expected: Refusal
) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop = network.node("one"), network.device("laptop")
        await network.know(network.list(), one)
        assert refusal(await laptop.redeems(one, granted, by=by)) is expected  # type: ignore[arg-type]
        assert one.book.standing(laptop.peer_id) is Standing.UNKNOWN
        assert not one.book.admissions


async def test_what_was_overheard_or_altered_lets_nobody_in(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop, thief = network.node("one"), network.device("laptop"), network.device("thief")
        await network.know(network.list(), one)
        granted = grant().seal(OPERATOR)
        theirs = seal_redemption(SECRET, laptop.peer_id)
        own = seal_redemption(thief.identity, thief.peer_id)
        damaged = granted[:-1] + bytes([granted[-1] ^ 1])
        assert refusal(await thief.presents(one, granted, theirs)) is Refusal.INVALID
        assert refusal(await thief.presents(one, granted, own)) is Refusal.INVALID
        assert refusal(await laptop.presents(one, damaged, theirs)) is Refusal.FOREIGN
        assert not one.book.admissions


async def test_a_node_that_cannot_write_lets_nobody_in(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop = network.node("one"), network.device("laptop")
        await network.know(network.list(), one)
        await one.membership.close()
        one.membership._path = tmp_path / "nowhere" / "one.members"
        assert refusal(await laptop.redeems(one)) is Refusal.UNABLE
        assert one.book.holder(SECRET.peer_id) is None


async def test_a_removed_device_is_cut_off_everywhere_and_does_not_come_back(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, two, laptop = network.node("one"), network.node("two"), network.device("laptop")
        entry = Member(laptop.peer_id, "laptop", "client", (), SECRET.peer_id)
        await network.know(network.list(entry))
        await one.meets(two)
        links = [await laptop.meets(node) for node in (one, two)]
        stream = propose(await links[1].open_stream(), [PIPE])
        await stream.agreed()
        # the operator tells one of them
        await one.learns(network.list(removed=(Removed(laptop.peer_id, SECRET.peer_id),)))
        assert [await closed(link) for link in links] == ["the peer ended the session (code 0x0)"] * 2
        with pytest.raises(BethrouError):
            await stream.reader.read_some()
        assert two.heard.of(MemberCutOff)[0].peer == str(laptop.peer_id)
        # it is told why, and gets no further
        link = await Host.dial(laptop, two.peer_id, [two.address])
        assert not await can_open(link)
        assert "removed" in await closed(link)
        assert laptop.heard.of(TurnedAway)[0].standing == "removed"
        assert refusal(await laptop.redeems(one)) is Refusal.REMOVED
        with pytest.raises(DialError, match="this device was removed from the network"):
            await forgetful(network, laptop).meets(two)


def forgetful(network: Network, device: Device) -> Device:
    """The same device, with nothing of what it knew."""
    return network.device(device.name)


async def test_a_stranger_with_the_network_key_may_only_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_gate, "PROBATION", 0.3)
    async with operated_network(tmp_path) as network:
        one = network.node("one")
        await network.know(network.list())
        stranger = Host("stranger", KEY)
        try:
            link = await stranger.dial(one.peer_id, [one.address])
            statement = await stranger.statement_of(link)
            assert statement is not None
            assert PIPE not in statement.protocols
            assert not await can_open(link)
            # nor does it hear who belongs to the network
            negotiation = propose(await link.open_stream(), [PROTOCOL], Header(0, "").encode())
            await negotiation.agreed()
            said = await negotiation.reader.read_prefixed(8192)
            assert Header.decode(said).you is Standing.UNKNOWN
            assert await negotiation.reader.read_exactly(1) == b"\x00"
            assert await closed(link)
            assert one.heard.of(MemberCutOff)[0].reason == "did not become a member"
        finally:
            await stranger.close()


async def test_where_membership_is_not_required_everybody_gets_in_who_was_not_removed(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop = network.node("one", required=False), network.device("laptop", required=False)
        stranger = Host("stranger", KEY)
        try:
            await network.know(network.list(), one)
            link = await stranger.dial(one.peer_id, [one.address])
            assert await can_open(link)
            removed = await laptop.meets(one)
            assert await can_open(removed)
            await one.learns(network.list(removed=(Removed(laptop.peer_id),)))
            assert await closed(removed)
            assert link.alive
        finally:
            await stranger.close()


async def test_a_member_leaves_by_the_exits_that_it_may_use(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        eu, asia = network.node("eu", tags=("eu",)), network.node("asia", tags=("asia",))
        laptop = network.device("laptop")
        await network.know(network.list(Member(laptop.peer_id, "laptop", "client", ("eu",))))
        at_eu, at_asia = await laptop.meets(eu), await laptop.meets(asia)
        assert await can_open(at_eu, EXIT)
        assert not await can_open(at_asia, EXIT)
        assert await can_open(at_asia)  # what is no exit
        # when that changes, what was begun under other rights ends
        await network.know(network.list(Member(laptop.peer_id, "laptop", "client", ("asia",))), eu)
        assert await closed(at_eu)


async def test_nobody_is_served_by_who_is_no_node(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop, other = network.node("one"), network.device("laptop"), network.device("other")
        stranger = Host("stranger", KEY)
        try:
            members = [Member(each.peer_id) for each in (laptop, other)]
            await network.know(network.list(*members))
            await laptop.meets(one)
            for imposter in (stranger, other):
                with pytest.raises(DialError, match="node"):
                    await laptop.meets(imposter)
                await until(lambda peer=imposter.peer_id: peer not in laptop.links)
        finally:
            await stranger.close()


async def test_a_device_that_asks_again_while_the_disk_is_slow_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node has admitted is on disk before the device hears of it, also when it has lost patience once."""
    go_on = threading.Event()
    written: list[bytes] = []

    def slow(path: Path, data: bytes) -> None:
        go_on.wait(30)
        written.append(data)
        replace_file(path, data)

    monkeypatch.setattr(membership, "replace_file", slow)
    async with operated_network(tmp_path) as network:
        one, laptop, phone = network.node("one"), network.device("laptop"), network.device("phone")
        one.book.apply([found for found in [one.book.open(Kind.LIST, network.list())] if found is not None])
        try:
            monkeypatch.setattr(join_service, "TIMEOUT", 0.1)
            with pytest.raises((BethrouError, TimeoutError)):
                await laptop.redeems(one)
            with pytest.raises((BethrouError, TimeoutError)):
                await laptop.redeems(one)
            monkeypatch.setattr(join_service, "TIMEOUT", 10)
            other = identity("another secret")
            later = asyncio.create_task(phone.redeems(one, secret=other))
            await until(lambda: one.book.holder(other.peer_id) is not None)
            go_on.set()
            assert isinstance(await laptop.redeems(one), bytes)
            assert isinstance(await later, bytes)
        finally:
            go_on.set()
        assert len(one.heard.of(MemberJoined)) == 2
        again = MemberBook(OPERATOR.peer_id, KEY.fingerprint, network.calendar.time)
        again.decode(one.file.read_bytes())
        assert again.holder(SECRET.peer_id) == laptop.peer_id
        assert again.holder(other.peer_id) == phone.peer_id
        assert written == sorted(written, key=len)  # an older book never replaces a newer one


async def test_who_is_no_member_is_told_of_none_whoever_has_dialled(tmp_path: Path) -> None:
    """Whoever has the network key can have itself dialled as a node; its peers' names are not for it."""
    async with operated_network(tmp_path) as network:
        laptop = network.device("laptop")
        await network.know(network.list(Member(laptop.peer_id), Member(identity("phone").peer_id, "phone")))
        imposter = Host("imposter", KEY)
        said: list[bytes] = []
        tasks = Tasks(imposter.loop)

        async def converse(stream: YamuxStream, surplus: bytes) -> None:
            reader = ByteReader(stream, surplus)
            stream.set_protocol(reader)
            stream.write(Header(0, "").encode() + END)
            heard = b""
            while data := await reader.read_some():
                heard += data
            said.append(heard)
            stream.write(Header(0, "").encode())
            stream.close()

        def serve(_link: Link, stream: YamuxStream, surplus: bytes) -> None:
            tasks.start(converse(stream, surplus), "imposter")

        imposter.handle(PROTOCOL, serve)
        try:
            with pytest.raises(DialError, match="is no node"):
                await laptop.meets(imposter)
        finally:
            await tasks.close()
            await imposter.close()
        header = Header(laptop.book.serial, laptop.book.digest).encode()
        assert said
        assert set(said) == {header + END}


async def test_forged_lists_cost_the_link_and_change_nothing(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop = network.node("one"), network.device("laptop")
        await network.know(network.list(Member(laptop.peer_id)))
        real = one.book.list
        assert real is not None
        forged = real.seal(identity("laptop"))
        link = await laptop.meets(one)
        await until(lambda: not link.stream_count)
        negotiation = propose(await link.open_stream(), [PROTOCOL], Header(0, "").encode())
        negotiation.stream.write(encode_item(Kind.LIST, forged) + b"\x00")
        assert await closed(link)
        assert one.book.list == real


async def test_a_dial_that_is_given_up_leaves_no_link(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        laptop, silent = network.device("laptop"), Host("silent", KEY)
        asked = asyncio.Event()

        def never_answers(_link: Link, stream: YamuxStream, surplus: bytes) -> None:
            stream.set_protocol(ByteReader(stream, surplus))
            asked.set()

        silent.handle(PROTOCOL, never_answers)
        try:
            await network.know(network.list(), laptop)
            dial = asyncio.ensure_future(laptop.meets(silent))
            await asked.wait()
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
            await until(lambda: not laptop.links)
        finally:
            await silent.close()


async def test_garbage_as_a_request_to_join_is_answered_or_reset(tmp_path: Path) -> None:
    async with operated_network(tmp_path) as network:
        one, laptop = network.node("one"), network.device("laptop")
        await network.know(network.list(), one)
        assert refusal(await laptop.presents(one, b"x", b"y")) is Refusal.FOREIGN
        visitor = Host("laptop", KEY)
        link = await visitor.dial(one.peer_id, [one.address])
        for garbage in (b"\xff" * 9, b"\x02{}", JoinRequest(b"x", b"y").encode()[:-1] + b"!"):
            negotiation = propose(await link.open_stream(), ["/bethrou/join/1.0.0"], garbage)
            with pytest.raises(BethrouError):
                await negotiation.agreed()
                while await negotiation.reader.read_some():
                    pass
                raise BethrouError("answered")
        await visitor.close()
        assert isinstance(await laptop.redeems(one), bytes)
