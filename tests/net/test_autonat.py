"""AutoNAT v2 between real hosts, and servers that lie and stall."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import StreamReset
from bethrou.net import autonat, autonat_server, dialer
from bethrou.net.autonat import Answer, Autonat, verdict
from bethrou.net.autonat_server import AutonatServer
from bethrou.net.link import CIRCUIT
from bethrou.net.negotiation import propose
from bethrou.net.stream import RESOURCE_LIMIT
from bethrou.snapshots import AddressReachability
from bethrou.wire.autonat import (
    DIAL_BACK,
    DIAL_REQUEST,
    MAX_DATA,
    MIN_DATA,
    DialDataRequest,
    DialResponse,
    DialStatus,
    Status,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed
from live.namespaces import Internet, Nat, an_internet_for_a_test
from live.waiting import until
from net.autonat_stand import ELSEWHERE, UNUSED, Request, Stand, a_stand, nameless, result, show

from .clock import Clock
from .hosts import Member, identity
from .leftovers import nothing_left

internet = pytest.fixture(an_internet_for_a_test)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with a_stand() as stand:
        yield stand


# -- the two together -----------------------------------------------------------------------------------------------


async def test_a_peer_comes_in_at_our_address(stand: Stand) -> None:
    server, _ = await stand.server()
    found = await stand.autonat.check()
    assert nameless(found) == result(stand, "reachable", 1, 0, 1)
    assert found == stand.autonat.found
    assert (found[0].confirmed_by, found[0].denied_by) == ((str(server.peer_id),), ())
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
    assert nameless(await stand.autonat.check()) == result(stand, "unreachable", 0, 1, 1)


async def test_who_names_an_address_that_is_not_its_own_has_to_send_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autonat_server, "MAX_DELAY", 0.0)
    async with a_stand(ELSEWHERE) as stand:
        _, link = await stand.server()
        before = link.bytes_sent
        assert nameless(await stand.autonat.check()) == result(stand, "reachable", 1, 0, 1)
        assert MIN_DATA <= link.bytes_sent - before < 1.2 * MAX_DATA


async def test_three_peers_are_asked(stand: Stand) -> None:
    for number in range(5):
        await stand.server(f"server {number}")
    assert nameless(await stand.autonat.check()) == result(stand, "reachable", 3, 0, 3)


async def test_only_peers_that_list_it_and_are_direct_are_asked(stand: Stand) -> None:
    await stand.connect(stand.member("plain"))
    _, link = await stand.server()
    link.path = CIRCUIT
    assert nameless(await stand.autonat.check()) == result(stand, "unknown", 0, 0, 0)


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
    assert nameless(await stand.autonat.check()) == result(stand, "unknown", 0, 0, 1)


async def test_a_liar_alone_among_three_does_not_decide(stand: Stand) -> None:
    await stand.server("server 1")
    await stand.server("server 2")
    await stand.liar("liar", deny)
    assert nameless(await stand.autonat.check()) == result(stand, "reachable", 2, 1, 3)


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
    assert nameless(found) == (
        AddressReachability("/ip4/5.5.1.1/tcp/4001", word, confirmed, 1 - confirmed, 1),
    )
