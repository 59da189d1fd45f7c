"""AutoNAT v2: what a server dials, how often, and askers that lie, flood and stall."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import StreamReset
from bethrou.net import autonat_server
from bethrou.net.autonat_server import AutonatServer, MinuteLimit
from bethrou.net.link import CIRCUIT, Link
from bethrou.wire.autonat import (
    MAX_DATA,
    MIN_DATA,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    Message,
    Status,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed
from net.autonat_stand import ELSEWHERE, UNUSED, Stand, a_stand, ask, begin, nameless, result

from .clock import Clock
from .hosts import identity


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with a_stand() as stand:
        yield stand


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
        assert nameless(await checking) == result(stand, "reachable", 1, 0, 1)


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
