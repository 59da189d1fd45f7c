"""AutoNAT v2 between real hosts on loopback, and with askers and servers that lie, flood and stall."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import StreamReset
from bethrou.net import autonat, autonat_server, dialer
from bethrou.net.autonat import Answer, Autonat, verdict
from bethrou.net.autonat_server import AutonatServer, MinuteLimit
from bethrou.net.link import CIRCUIT, Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.snapshots import AddressReachability
from bethrou.wire.autonat import (
    DIAL_BACK,
    DIAL_REQUEST,
    MAX_DATA,
    MAX_MESSAGE,
    MIN_DATA,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    Message,
    Status,
    decode,
    encode_dial_back,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed
from live.namespaces import Internet, Nat, an_internet_for_a_test
from live.waiting import until

from .clock import Clock
from .hosts import ANYWHERE, Member, identity
from .leftovers import nothing_left

internet = pytest.fixture(an_internet_for_a_test)

ELSEWHERE = Multiaddr.parse("/ip4/127.0.0.2/tcp/0")
"""Where a member listens that is seen at 127.0.0.1: the server cannot know that it is the same."""
UNUSED = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")


class Stand:
    """A client, and what it is connected to; everything is public."""

    def __init__(self, stack: AsyncExitStack, at: Multiaddr) -> None:
        self._stack = stack
        self.client = self.member("client", at)
        self.autonat = Autonat(self.client, os.urandom, random.Random(1), self.public)
        stack.push_async_callback(self.autonat.close)
        self.own = [self.client.address]

    def member(self, name: str, at: Multiaddr = ANYWHERE) -> Member:
        member = Member(name, at=at)
        self._stack.push_async_callback(member.close)
        return member

    def public(self, address: Multiaddr) -> bool:
        return address in self.own

    async def connect(self, member: Member) -> Link:
        link = await self.client.dial(member.peer_id, [member.address])
        await self.client.statement_of(link)
        return link

    async def server(
        self, name: str = "server", public: Callable[[Multiaddr], bool] = lambda address: True
    ) -> tuple[Member, Link]:
        member = self.member(name)
        server = AutonatServer(member, random.Random(2), time.perf_counter, public)
        self._stack.push_async_callback(server.close)
        return member, await self.connect(member)

    async def liar(self, name: str, behave: Callable[[Request], Coroutine[Any, Any, object]]) -> Member:
        """A server that does what the test wants with each request."""
        member = self.member(name)
        tasks = Tasks(member.loop)  # an assertion that fails in there is a complaint of the loop
        self._stack.push_async_callback(tasks.close)

        def take(link: Link, stream: YamuxStream, surplus: bytes) -> None:
            talk = Request(member, link, stream, ByteReader(stream, surplus))
            stream.set_protocol(talk.reader)
            tasks.start(behave(talk), "lie")

        member.handle(DIAL_REQUEST, take)
        await self.connect(member)
        return member


class Talk:
    """A conversation about a request, from either side."""

    def __init__(self, stream: YamuxStream, reader: ByteReader) -> None:
        self.stream = stream
        self.reader = reader

    def say(self, message: Message) -> None:
        self.stream.write(length_prefixed(message.encode()))

    async def hear(self) -> Message:
        return decode(await self.reader.read_prefixed(MAX_MESSAGE))


class Request(Talk):
    """A conversation as the server sees it."""

    def __init__(self, server: Member, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        super().__init__(stream, reader)
        self.server = server
        self.link = link

    async def request(self) -> DialRequest:
        message = await self.hear()
        assert isinstance(message, DialRequest)
        return message


async def begin(link: Link) -> Talk:
    negotiation = propose(await link.open_stream(), [DIAL_REQUEST])
    await negotiation.agreed()
    return Talk(negotiation.stream, negotiation.reader)


async def ask(link: Link, *addresses: Multiaddr) -> Message:
    """A request by hand, and the first answer."""
    talk = await begin(link)
    talk.say(DialRequest(addresses, 7))
    return await talk.hear()


async def show(link: Link, nonce: int) -> bytes:
    """A dial-back on `link`, and the answer."""
    negotiation = propose(await link.open_stream(), [DIAL_BACK])
    await negotiation.agreed()
    negotiation.stream.write(length_prefixed(encode_dial_back(nonce)))
    return await negotiation.reader.read_some()


@asynccontextmanager
async def a_stand(at: Multiaddr = ANYWHERE) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        yield Stand(stack, at)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with a_stand() as stand:
        yield stand


def result(stand: Stand, word: str, confirmed: int, denied: int, asked: int) -> tuple[AddressReachability]:
    return (AddressReachability(str(stand.own[0]), word, confirmed, denied, asked),)


# -- the two together -----------------------------------------------------------------------------------------------


async def test_a_peer_comes_in_at_our_address(stand: Stand) -> None:
    server, _ = await stand.server()
    found = await stand.autonat.check()
    assert found == stand.autonat.found == result(stand, "reachable", 1, 0, 1)
    strangers = [link for link in stand.client.happenings.up if not link.initiator]
    assert len(strangers) == 1
    assert strangers[0].peer_id not in (server.peer_id, stand.client.peer_id)
    await until(lambda: len(stand.client.happenings.down) == 1)


async def test_each_dial_has_an_identity_of_its_own(stand: Stand) -> None:
    await stand.server()
    await stand.autonat.check()
    await stand.autonat.check()
    strangers = {link.peer_id for link in stand.client.happenings.up if not link.initiator}
    assert len(strangers) == 2


async def test_nobody_answers_at_our_address(stand: Stand) -> None:
    server, _ = await stand.server()
    stand.client.mapped.note(server.peer_id, UNUSED)
    stand.own[:] = [UNUSED]
    assert await stand.autonat.check() == result(stand, "unreachable", 0, 1, 1)


async def test_who_names_an_address_that_is_not_its_own_has_to_send_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autonat_server, "MAX_DELAY", 0.0)
    async with a_stand(ELSEWHERE) as stand:
        _, link = await stand.server()
        before = link.bytes_sent
        assert await stand.autonat.check() == result(stand, "reachable", 1, 0, 1)
        assert MIN_DATA <= link.bytes_sent - before < 1.2 * MAX_DATA


async def test_three_peers_are_asked(stand: Stand) -> None:
    for number in range(5):
        await stand.server(f"server {number}")
    assert await stand.autonat.check() == result(stand, "reachable", 3, 0, 3)


async def test_only_peers_that_list_it_and_are_direct_are_asked(stand: Stand) -> None:
    await stand.connect(stand.member("plain"))
    _, link = await stand.server()
    link.path = CIRCUIT
    assert await stand.autonat.check() == result(stand, "unknown", 0, 0, 0)


async def test_only_public_addresses_are_asked_about(stand: Stand) -> None:
    await stand.server()
    stand.own.clear()
    assert await stand.autonat.check() == ()


async def test_protocols_are_listed_while_they_are_served(stand: Stand) -> None:
    member = stand.member("other")
    link = await stand.connect(member)
    assert DIAL_BACK in stand.client.statement(link).protocols
    await stand.autonat.close()
    assert DIAL_BACK not in stand.client.statement(link).protocols
    server = AutonatServer(member, random.Random(2), time.perf_counter)
    assert DIAL_REQUEST in member.statement(link).protocols
    await server.close()
    assert DIAL_REQUEST not in member.statement(link).protocols


async def test_nothing_is_left() -> None:
    async with nothing_left(), a_stand() as stand:
        await stand.server()
        await stand.autonat.check()


# -- servers that lie -----------------------------------------------------------------------------------------------


async def claim_success(talk: Request) -> None:
    await talk.request()
    talk.say(DialResponse(Status.OK, 0, DialStatus.OK))


async def deny(talk: Request) -> None:
    await talk.request()
    talk.say(DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR))


async def deny_another(talk: Request) -> None:
    await talk.request()
    talk.say(DialResponse(Status.OK, 1, DialStatus.E_DIAL_ERROR))


async def reject(talk: Request) -> None:
    await talk.request()
    talk.say(DialResponse(Status.E_REQUEST_REJECTED))


async def use_the_same_link(talk: Request) -> None:
    request = await talk.request()
    with pytest.raises(StreamReset):
        await show(talk.link, request.nonce)
    talk.say(DialResponse(Status.OK, 0, DialStatus.OK))


async def guess(talk: Request) -> None:
    request = await talk.request()
    link = await talk.server.dial(talk.link.peer_id, [address for address in request.addresses if address])
    for nonce in (0, request.nonce ^ 1, request.nonce + 1 & 2**64 - 1):
        with pytest.raises(StreamReset):
            await show(link, nonce)
    talk.say(DialResponse(Status.OK, 0, DialStatus.OK))


async def want_too_much(talk: Request) -> None:
    await talk.request()
    talk.say(DialDataRequest(0, MAX_DATA + 1))


async def want_it_twice(talk: Request) -> None:
    await talk.request()
    talk.say(DialDataRequest(0, 200))
    await talk.hear()
    talk.say(DialDataRequest(0, 200))


async def send_garbage(talk: Request) -> None:
    talk.stream.write(length_prefixed(b"\xff\xff"))


async def hang_up(talk: Request) -> None:
    talk.stream.abort()


@pytest.mark.parametrize(
    "behave",
    [
        claim_success,
        deny_another,
        reject,
        use_the_same_link,
        guess,
        want_too_much,
        want_it_twice,
        send_garbage,
        hang_up,
    ],
)
async def test_a_server_that_proves_nothing_counts_for_nothing(
    stand: Stand, behave: Callable[[Request], Coroutine[Any, Any, object]]
) -> None:
    await stand.liar("liar", behave)
    assert await stand.autonat.check() == result(stand, "unknown", 0, 0, 1)


async def test_a_liar_alone_among_three_does_not_decide(stand: Stand) -> None:
    await stand.server("server 1")
    await stand.server("server 2")
    await stand.liar("liar", deny)
    assert await stand.autonat.check() == result(stand, "reachable", 2, 1, 3)


async def test_a_silent_server_is_waited_for_15_seconds(stand: Stand, clock: Clock) -> None:
    await stand.liar("silent", Request.request)
    checking = asyncio.ensure_future(stand.autonat.check())
    await clock.forward(autonat.ASK_TIMEOUT - 1)
    assert not checking.done()
    await clock.forward(1.25)
    assert await checking == result(stand, "unknown", 0, 0, 1)


async def test_a_number_is_good_for_its_question_only(stand: Stand) -> None:
    """Asked for later it proves nothing, though it was given out."""
    numbers = []

    async def remember(talk: Request) -> None:
        numbers.append((await talk.request()).nonce)
        talk.say(DialResponse(Status.E_INTERNAL))

    liar = await stand.liar("liar", remember)
    await stand.autonat.check()
    link = await liar.dial(stand.client.peer_id, stand.own)
    with pytest.raises(StreamReset):
        await show(link, numbers[0])


async def test_a_flood_of_dial_backs(stand: Stand) -> None:
    flooder = stand.member("flooder")
    link = await flooder.dial(stand.client.peer_id, stand.own)
    idle = [propose(await link.open_stream(), [DIAL_BACK]) for _ in range(autonat.MAX_DIAL_BACKS)]
    for negotiation in idle:
        await negotiation.agreed()
    with pytest.raises(StreamReset) as refusal:
        await show(link, 1)
    assert refusal.value.code == RESOURCE_LIMIT
    for negotiation in idle:
        negotiation.stream.abort()
    await until(lambda: not len(stand.autonat._tasks))


async def test_an_idle_dial_back_ends(stand: Stand, clock: Clock) -> None:
    link = await stand.member("idler").dial(stand.client.peer_id, stand.own)
    negotiation = propose(await link.open_stream(), [DIAL_BACK])
    await negotiation.agreed()
    reading = asyncio.ensure_future(negotiation.reader.read_some())
    await clock.forward(autonat.DIAL_BACK_TIMEOUT + 0.5)
    with pytest.raises(StreamReset):
        await reading


@given(st.lists(st.sampled_from(Answer), max_size=5))
def test_the_majority_of_those_who_know_decides(answers: list[Answer]) -> None:
    known = [answer for answer in answers if answer is not Answer.NOTHING]
    word = verdict(answers)
    assert word == verdict(known)
    assert word == verdict(answers[::-1])
    if known and len(set(known)) == 1:
        assert word == {Answer.YES: "reachable", Answer.NO: "unreachable"}[known[0]]
    if not known:
        assert word == "unknown"


# -- askers that lie ------------------------------------------------------------------------------------------------


async def test_only_public_addresses_are_dialled(stand: Stand) -> None:
    _, link = await stand.server(public=lambda address: address != UNUSED)
    assert await ask(link) == DialResponse(Status.E_DIAL_REFUSED)
    assert await ask(link, UNUSED) == DialResponse(Status.E_DIAL_REFUSED)
    name = Multiaddr.parse(f"/dns4/localhost/tcp/{stand.client.port}")
    circuit = Multiaddr.parse(f"{stand.client.address}/p2p/{stand.client.peer_id}/p2p-circuit")
    answer = await ask(link, UNUSED, name, circuit, stand.client.address)
    assert isinstance(answer, DialResponse)
    assert (answer.status, answer.index) == (Status.OK, 3)


async def test_by_the_usual_rule_nothing_on_this_machine_is_dialled(stand: Stand) -> None:
    member = stand.member("server")
    server = AutonatServer(member, random.Random(2), time.perf_counter)
    link = await stand.connect(member)
    assert await ask(link, *stand.own) == DialResponse(Status.E_DIAL_REFUSED)
    await server.close()


async def test_what_became_of_the_dial(stand: Stand) -> None:
    _, link = await stand.server()
    assert await ask(link, UNUSED) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)
    somebody = stand.member("somebody")
    assert await ask(link, somebody.address) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)
    # nobody asked for this number at the client
    assert await ask(link, *stand.own) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_BACK_ERROR)
    await stand.autonat.close()  # `na`
    assert await ask(link, *stand.own) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_BACK_ERROR)


async def test_two_requests_at_a_time(stand: Stand) -> None:
    _, link = await stand.server()
    open_ones = [await begin(link) for _ in range(autonat_server.MAX_AT_A_TIME)]
    assert await ask(link, UNUSED) == DialResponse(Status.E_REQUEST_REJECTED)
    other = stand.member("other")
    others_link = await other.dial(link.peer_id, [link.remote])
    assert await ask(others_link, UNUSED) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)
    for talk in open_ones:
        talk.stream.abort()
    await until_accepted(link)


async def until_accepted(link: Link) -> None:
    for _ in range(autonat_server.MAX_PER_PEER_AND_MINUTE):
        if await ask(link, UNUSED) != DialResponse(Status.E_REQUEST_REJECTED):
            return
    raise AssertionError("no request is taken any more")


async def test_twelve_requests_a_minute(stand: Stand, clock: Clock) -> None:
    _, link = await stand.server()
    most = autonat_server.MAX_PER_PEER_AND_MINUTE
    for _ in range(most):
        assert await ask(link, UNUSED) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)
    assert await ask(link, UNUSED) == DialResponse(Status.E_REQUEST_REJECTED)
    await clock.forward(60.0)
    assert await ask(link, UNUSED) == DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)


async def foreign_request(link: Link, address: Multiaddr) -> Message:
    """A request about an address at which the server does not see us, with the data that it wants for that."""
    talk = await begin(link)
    talk.say(DialRequest((address,), 7))
    message = await talk.hear()
    if isinstance(message, DialDataRequest):
        for _ in range(-(-message.size // 4000)):
            talk.say(DialDataResponse(bytes(4000)))
        message = await talk.hear()
    return message


async def test_data_is_taken_twelve_times_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all peers together: the dials that follow hit addresses that may be anybody's."""
    monkeypatch.setattr(autonat_server, "MAX_DELAY", 0.0)
    nobody = Multiaddr.parse("/ip4/127.0.0.2/tcp/1")
    async with a_stand() as stand:
        _, link = await stand.server()
        for _ in range(autonat_server.MAX_DATA_PER_MINUTE):
            answer = await foreign_request(link, nobody)
            assert answer == DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)
        other = await stand.member("other").dial(link.peer_id, [link.remote])
        assert await foreign_request(other, nobody) == DialResponse(Status.E_REQUEST_REJECTED)


async def test_an_address_that_may_be_anybodys_is_not_dialled_at_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random.Random, "uniform", lambda self, low, high: high)
    async with a_stand(ELSEWHERE) as stand:
        await stand.server()
        checking = asyncio.ensure_future(stand.autonat.check())
        await clock.forward(autonat_server.MAX_DELAY - 0.5)
        assert not [link for link in stand.client.happenings.up if not link.initiator]
        await clock.forward(0.75)
        assert await checking == result(stand, "reachable", 1, 0, 1)


async def test_no_help_for_peers_behind_a_relay(stand: Stand) -> None:
    """The address at which they are seen is the relay's."""
    server, link = await stand.server()
    server.links[stand.client.peer_id][0].path = CIRCUIT
    assert await ask(link, UNUSED) == DialResponse(Status.E_REQUEST_REJECTED)


@pytest.mark.parametrize(
    "says", ["wrong first", "garbage", "nothing", "silence", "crumbs", "no data", "stall"]
)
async def test_an_asker_that_breaks_the_rules_is_cut_off(clock: Clock, says: str) -> None:
    async with a_stand(ELSEWHERE) as stand:
        _, link = await stand.server()
        talk = await begin(link)
        if says == "wrong first":
            talk.say(DialDataResponse(b"x"))
        elif says == "garbage":
            talk.stream.write(length_prefixed(b"\xff\xff"))
        elif says == "nothing":
            talk.stream.write_eof()
        elif says != "silence":
            talk.say(DialRequest((stand.client.address,), 7))
            message = await talk.hear()
            assert isinstance(message, DialDataRequest)
            assert MIN_DATA <= message.size <= MAX_DATA
        if says == "crumbs":
            talk.say(DialDataResponse(bytes(99)))
        elif says == "no data":
            talk.say(DialRequest((stand.client.address,), 7))
        elif says == "stall":
            talk.say(DialDataResponse(bytes(4000)))
        reading = asyncio.ensure_future(talk.reader.read_some())
        patient = says in ("silence", "stall")
        await clock.forward(autonat_server.REQUEST_TIMEOUT + 0.5 if patient else 0.25)
        assert reading.done()
        with pytest.raises(StreamReset):
            await reading
        assert not [link for link in stand.client.happenings.up if not link.initiator]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 2)), max_size=60),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_never_more_than_the_limit_within_any_minute(
    steps: list[tuple[float, int]], total: int, per_peer: int
) -> None:
    limit = MinuteLimit(total, per_peer)
    peers = [identity(name).peer_id for name in "abc"]
    now, taken = 0.0, []
    for step, who in steps:
        now += step
        recent = [peer for then, peer in taken if then > now - 60.0]
        fits = len(recent) < total and recent.count(who) < per_peer
        assert limit.take(now, peers[who]) is fits
        if fits:
            taken.append((now, who))


# -- real addresses -------------------------------------------------------------------------------------------------


async def _listen_and_check() -> tuple[AddressReachability, ...]:
    """A member that knows only what its server tells it: where its listening port is seen."""
    member = Member("client", at=Multiaddr.parse("/ip4/0.0.0.0/tcp/4001"), from_listening_port=True)
    autonat = Autonat(member, os.urandom, random.Random(1))
    try:
        link = await member.dial(identity("server").peer_id, [Multiaddr.parse("/ip4/5.5.0.1/tcp/4001")])
        await member.statement_of(link)
        return await autonat.check()
    finally:
        await autonat.close()
        await member.close()


async def _serve() -> tuple[Member, AutonatServer]:
    member = Member("server", at=Multiaddr.parse("/ip4/0.0.0.0/tcp/4001"))
    return member, AutonatServer(member, random.Random(2), time.perf_counter)


async def _close(member: Member, server: AutonatServer) -> None:
    await server.close()
    await member.close()


@pytest.mark.parametrize("forwarded", [True, False])
async def test_behind_nat(internet: Internet, monkeypatch: pytest.MonkeyPatch, forwarded: bool) -> None:
    monkeypatch.setattr(dialer, "CONNECT_TIMEOUT", 1.0)
    home = internet.home("5.5.1.1", Nat.PRESERVING)
    member = home.member()
    if forwarded:
        home.forward(4001, member)
    kind = type(asyncio.get_running_loop())
    with internet.host("5.5.0.1").loop(kind) as there, member.loop(kind) as here:
        server = await there(_serve())
        found = await here(_listen_and_check())
        await there(_close(*server))
    word, confirmed = ("reachable", 1) if forwarded else ("unreachable", 0)
    assert found == (AddressReachability("/ip4/5.5.1.1/tcp/4001", word, confirmed, 1 - confirmed, 1),)
