"""The host as a whole: links come and go, and closing it leaves nothing."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from bethrou.errors import DialError, LinkLost
from bethrou.net.link import Link
from bethrou.net.negotiation import NEGOTIATION_FAILED, propose
from bethrou.net.reader import ByteReader
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.yamux.frame import RST, SYN
from wire.yamux.frames import data, opening

from .clock import Clock, turns
from .collector import Collector, End, noise
from .hosts import ANYWHERE, PIPE, Member, identity, stream_pair, two_hosts
from .leftovers import nothing_left
from .raw_peer import RawPeer
from .wire_client import Wire, serving

PUSH = frame("/ipfs/id/push/1.0.0")


async def reached(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


# -- links -----------------------------------------------------------------------------------------------------------


async def test_both_ends_of_a_link_agree() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, other):
        assert (link.initiator, other.initiator) == (True, False)
        assert (link.peer_id, other.peer_id) == (listener.peer_id, dialer.peer_id)
        assert link.remote == listener.address
        assert dialer.links == {listener.peer_id: [link]}
        assert listener.links == {dialer.peer_id: [other]}
        assert dialer.happenings.up == [link]
        link.close()
        await other.closed
        await reached(lambda: dialer.happenings.down and listener.happenings.down)
        assert not dialer.links and not listener.links
        assert len(dialer.happenings.down) == len(listener.happenings.down) == 1


async def test_whoever_observes_links_is_told_of_those_that_are_up_already_and_of_all_that_come_and_go() -> (
    None
):
    async with nothing_left(), two_hosts() as (dialer, listener, link, _other):
        up: list[Link] = []
        down: list[tuple[Link, bool]] = []
        end = dialer.observe_links(up.append, lambda each, reason: down.append((each, bool(dialer.links))))
        assert up == [link]
        second = await dialer.dial(listener.peer_id, [listener.address])
        assert up == [link, second]
        link.close()
        await reached(lambda: down)
        second.close()
        await reached(lambda: len(down) == 2)
        assert down == [(link, True), (second, False)]
        end()
        end()
        third = await dialer.dial(listener.peer_id, [listener.address])
        third.close()
        await reached(lambda: len(dialer.happenings.down) == 3)
        assert (len(up), len(down)) == (2, 2)
        assert dialer.happenings.up == [link, second, third]


async def test_where_a_host_is_bound_is_not_where_it_can_be_reached() -> None:
    member = Member("member")
    everywhere = member.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/0"))
    assert member.bound_addresses == [member.address, everywhere]
    assert everywhere not in member.listen_addresses
    member.stop_listening()
    assert member.bound_addresses == member.listen_addresses == []
    await member.close()


async def test_each_side_learns_what_the_other_is() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, other):
        theirs, ours = await dialer.statement_of(link), await listener.statement_of(other)
        assert theirs is not None and ours is not None
        assert (theirs.agent_version, ours.agent_version) == ("test/listener", "test/dialer")
        assert PIPE in theirs.protocols
        assert theirs.listen_addrs == (listener.address,)
        assert theirs.public_key == listener.identity.public_key


async def test_new_protocols_are_pushed() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, _):
        await dialer.statement_of(link)
        listener.handle("/new/1", lambda link, stream, surplus: stream.abort())

        async def told() -> bool:
            statement = await dialer.statement_of(link)
            return statement is not None and "/new/1" in statement.protocols

        async with asyncio.timeout(10):
            while not await told():
                await asyncio.sleep(0)


async def test_several_links_to_one_peer() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, first, _):
        second = await dialer.dial(listener.peer_id, [listener.address])
        assert dialer.links[listener.peer_id] == [first, second]
        second.close()
        await reached(lambda: dialer.happenings.down)
        assert dialer.links[listener.peer_id] == [first]
        near, far = map(End, await stream_pair(first, listener))
        near.switch(near.protocol)
        far.switch(far.protocol)
        near.write(b"still here")
        await far.protocol.have(10)


async def test_links_outlive_the_listening() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, _):
        listener.stop_listening()
        await stream_pair(link, listener)
        with pytest.raises(DialError, match="Connection refused"):
            await dialer.dial(listener.peer_id, [listener.address])
        assert listener.listen_addresses == []


# -- dialling --------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_dialled() -> None:
    async with nothing_left():
        host = Member("dialer")
        with pytest.raises(DialError, match="own peer ID"):
            await host.dial(host.peer_id, [host.address])
        with pytest.raises(DialError, match="no address"):
            await host.dial(identity("other").peer_id, [])
        with pytest.raises(DialError, match=r"quic.*Connection refused"):
            await host.dial(
                identity("other").peer_id,
                [Multiaddr.parse("/ip4/127.0.0.1/udp/1/quic-v1"), Multiaddr.parse("/ip4/127.0.0.1/tcp/1")],
            )
        await host.close()


async def test_a_silent_address_does_not_hold_up_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bethrou.net.dialer.STAGGER", 0.02)

    async def silent(wire: Wire) -> None:
        await wire.end()

    async with nothing_left(), serving(silent) as port:
        dialer, listener = Member("dialer"), Member("listener")
        bad = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}")
        link = await dialer.dial(listener.peer_id, [bad, listener.address])
        assert link.remote == listener.address
        assert dialer.links == {listener.peer_id: [link]}
        await dialer.close()
        await listener.close()


async def test_of_two_good_addresses_one_link_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bethrou.net.dialer.STAGGER", 0.0)
    async with nothing_left():
        dialer, listener = Member("dialer"), Member("listener")
        addresses = [listener.address, listener.listen(ANYWHERE), listener.listen(ANYWHERE)]
        link = await dialer.dial(listener.peer_id, addresses)
        await reached(lambda: sum(map(len, listener.links.values())) == 1)
        await reached(lambda: dialer.links == {listener.peer_id: [link]})
        assert link.alive
        await stream_pair(link, listener)
        await dialer.close()
        await listener.close()


async def test_a_dial_that_is_given_up() -> None:
    async with nothing_left():
        dialer, listener = Member("dialer"), Member("listener")
        for steps in range(12):
            task = asyncio.create_task(dialer.dial(listener.peer_id, [listener.address]))
            await turns(steps)
            task.cancel()
            outcome = await asyncio.gather(task, return_exceptions=True)
            for link in list(dialer.links.get(listener.peer_id, [])):
                assert outcome == [link]
                link.close()
            await reached(lambda: not dialer.links and not listener.links)
        await dialer.close()
        await listener.close()


# -- what takes too long ---------------------------------------------------------------------------------------------


async def test_streams_that_do_not_say_what_they_are_for(clock: Clock) -> None:
    async with nothing_left():
        host = Member("host")
        peer = await RawPeer.dial(host.port)
        peer.send(opening(1), data(3, HEADER, SYN), data(5, HEADER + frame("/unknown/1"), SYN))
        peer.open_pipe(7)
        await peer.round_trip()
        await clock.forward(9)
        assert not any(each[1] & RST and each[2] % 2 for each in peer.frames)
        await clock.forward(2)
        resets = {each[2]: each[3] for each in peer.frames if each[1] & RST and each[2] % 2}
        assert resets == dict.fromkeys((1, 3, 5), NEGOTIATION_FAILED)
        assert host.happenings.up[0].alive
        peer.transport.abort()
        await host.close()


async def test_a_peer_that_does_not_say_what_it_is(clock: Clock) -> None:
    async with nothing_left():
        host = Member("host")
        peer = await RawPeer.dial(host.port)
        await peer.round_trip()
        link = host.happenings.up[0]
        waiting = asyncio.create_task(host.statement_of(link))
        await clock.forward(4)
        assert not waiting.done()
        await clock.forward(2)
        assert await waiting is None
        assert peer.flags_of(2) & RST
        assert link.alive
        peer.transport.abort()
        await host.close()


async def test_a_pushed_statement_that_does_not_end(clock: Clock) -> None:
    async with nothing_left():
        host = Member("host")
        peer = await RawPeer.dial(host.port)
        peer.send(data(1, HEADER + PUSH + b"\x80", SYN))
        await peer.round_trip()
        await clock.forward(6)
        assert peer.flags_of(1) & RST
        assert host.happenings.up[0].alive
        peer.transport.abort()
        await host.close()


# -- closing ---------------------------------------------------------------------------------------------------------


async def test_closing_says_goodbye_and_leaves_nothing() -> None:
    async with nothing_left():
        dialer, listener = Member("dialer"), Member("listener")
        link = await dialer.dial(listener.peer_id, [listener.address])
        ends = [End(stream) for _ in range(5) for stream in await stream_pair(link, listener)]
        for end in ends:
            end.switch(Collector())
            end.write(noise(300_000))
        await listener.close()
        assert "ended the session" in str(await link.closed)
        for end in ends:
            assert isinstance(await end.protocol.lost, LinkLost)
        await reached(lambda: dialer.happenings.down)
        await dialer.close()


async def test_closing_twice_and_closing_what_never_worked() -> None:
    async with nothing_left():
        host = Member("host")
        await host.close()
        await host.close()


async def test_closing_while_others_shake_hands_and_dial() -> None:
    async def silent(wire: Wire) -> None:
        await wire.end()

    async with nothing_left(), serving(silent) as port:
        host = Member("host")
        callers = [await asyncio.open_connection("127.0.0.1", host.port) for _ in range(5)]
        address = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}")
        dialling = asyncio.create_task(host.dial(identity("other").peer_id, [address]))
        for reader, _ in callers:
            await reader.readexactly(44)
        dialling.cancel()
        await host.close()
        for reader, writer in callers:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        await asyncio.gather(dialling, return_exceptions=True)


@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_closing_at_any_moment_of_a_dial(steps: int) -> None:
    """Whatever comes of the dial, no link is left of a host that is closed."""
    async with nothing_left():
        dialer, listener = Member("dialer"), Member("listener")
        dialling = asyncio.create_task(dialer.dial(listener.peer_id, [listener.address]))
        await turns(steps)
        await dialer.close()
        [outcome] = await asyncio.gather(dialling, return_exceptions=True)
        if not isinstance(outcome, Exception):
            assert not outcome.alive
        assert not dialer.links
        await listener.close()


@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_closing_at_any_moment_of_an_accept(steps: int) -> None:
    async with nothing_left():
        dialer, listener = Member("dialer"), Member("listener")
        dialling = asyncio.create_task(dialer.dial(listener.peer_id, [listener.address]))
        await turns(steps)
        await listener.close()
        [outcome] = await asyncio.gather(dialling, return_exceptions=True)
        assert not listener.links
        if not isinstance(outcome, Exception):
            await outcome.closed
        await dialer.close()


async def test_a_peer_that_does_not_end_its_side_holds_nothing_up(clock: Clock) -> None:
    async with nothing_left():
        host = Member("host")
        peer = await RawPeer.dial(host.port)
        await peer.round_trip()
        peer.transport.pause_reading()
        closing = asyncio.create_task(host.close())
        await clock.forward(3)
        assert closing.done()
        await closing
        peer.transport.abort()


async def test_bytes_read_too_far_reach_the_handler() -> None:
    async with nothing_left(), two_hosts() as (_, listener, link, _other):
        seen: asyncio.Queue[ByteReader] = asyncio.Queue()

        def handler(_link: object, stream: object, surplus: bytes) -> None:
            reader = ByteReader(stream, surplus)  # type: ignore[arg-type]
            stream.set_protocol(reader)  # type: ignore[attr-defined]
            seen.put_nowait(reader)

        listener.handle("/eager/1", handler)
        for size in (1, 5000, 100_000):
            negotiation = propose(await link.open_stream(), ["/eager/1"], noise(size))
            reader = await seen.get()
            received = b""
            while len(received) < size:
                received += await reader.read_some()
            assert received == noise(size)
            assert await negotiation.agreed() == "/eager/1"
            negotiation.stream.abort()
            reader.transport.abort()


async def test_a_proposal_that_is_refused_and_another() -> None:
    async with nothing_left(), two_hosts() as (dialer, listener, link, _):
        negotiation = await dialer.open(link, ["/unknown/1", "/unknown/2", PIPE])
        assert await negotiation.agreed() == PIPE
        near, far = End(negotiation.stream), End(await listener.pipes.get())
        near.switch(Collector())
        far.switch(Collector())
        near.write(b"agreed")
        await far.protocol.have(6)
