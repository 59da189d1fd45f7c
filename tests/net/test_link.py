"""What a link does as time goes by: the peer in the test's hands, and the clock too."""

import asyncio

import pytest

from bethrou.errors import LinkLost, StreamReset
from bethrou.wire.yamux.frame import ACK, FIN, GO_AWAY, INITIAL_WINDOW, PING, SYN
from wire.yamux.frames import credit, data, fin, pong, reset

from .clock import Clock, turns
from .collector import noise
from .raw_link import raw_link

MIB = 1 << 20


# -- is the peer alive? ----------------------------------------------------------------------------------------------


async def test_an_idle_link_stays_up(clock: Clock) -> None:
    async with raw_link() as scene:
        await clock.forward(120)
        assert scene.link.alive
        pings = [each for each in scene.peer.frames if each[:2] == (PING, SYN)]
        assert len({value for *_, value, _ in pings}) == len(pings)
        assert 20 <= len(pings) <= 30


@pytest.mark.parametrize("moment", [0.0, 0.1, 1.3, 2.5, 4.9, 5.0, 5.1])
async def test_a_frozen_peer_is_noticed_within_15_seconds(clock: Clock, moment: float) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_us()
        end.write(b"x")
        await clock.forward(20 + moment)
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        frozen = clock.now
        while scene.link.alive:
            await clock.forward(0.25)
        assert 5 <= clock.now - frozen <= 15
        assert "silent for" in str(scene.link.closed.result())
        assert isinstance(await end.protocol.lost, LinkLost)


async def test_a_peer_that_freezes_in_the_middle_of_a_transfer(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        sending = asyncio.ensure_future(end.send(noise(8 * MIB)))
        await turns()
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        await clock.forward(15)
        assert not scene.link.alive
        sending.cancel()
        assert isinstance(await end.protocol.lost, LinkLost)


async def test_any_byte_is_life(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        scene.peer.answers_pings = False
        for _ in range(30):
            await scene.peer_sends(data(2, b"x"))
            await clock.forward(4)
        assert scene.link.alive
        assert end.protocol.size == 30
        await clock.forward(15)
        assert not scene.link.alive


async def test_a_pong_of_something_else_is_no_pong(clock: Clock) -> None:
    async with raw_link() as scene:
        scene.peer.answers_pings = False
        before = scene.link.round_trip
        for value in range(8):
            await scene.peer_sends(pong(1000 + value))
            await clock.forward(1)
        assert scene.link.round_trip == before
        assert scene.link.alive
        assert sum(each[:2] == (PING, SYN) for each in scene.peer.frames) <= 4


async def test_the_round_trip_is_measured(clock: Clock) -> None:
    async with raw_link() as scene:
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        for _ in range(10):
            await clock.forward(5)  # a ping is sent
            await clock.forward(0.5)
            scene.peer.transport.thaw()  # type: ignore[attr-defined]
            await turns()
            scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        assert 0.4 < scene.link.round_trip < 6
        assert scene.link._muxer.round_trip < 0.5  # the smallest: from the first pings


# -- the peer is gone, but its streams are not -----------------------------------------------------------------------


async def test_bytes_that_wait_for_a_peer_that_has_finished_are_given_up(clock: Clock) -> None:
    """go closes a stream this way when its application is gone: FIN, and never any credit."""
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        await scene.peer_sends(fin(2))
        assert end.protocol.eof.done()
        await clock.forward(29)
        assert not scene.resets()
        await clock.forward(12)
        assert scene.resets() == {2: 0}
        assert end.protocol.lost.done()
        assert scene.link.alive
        assert len(scene.peer.data_of(2)) == INITIAL_WINDOW


async def test_a_slow_reader_may_be_as_slow_as_it_likes(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        await clock.forward(600)
        await scene.peer_sends(credit(2, MIB))
        assert scene.peer.data_of(2) == noise(MIB)
        assert not end.protocol.lost.done()


async def test_a_slow_reader_that_has_finished_may_be_slow_too(clock: Clock) -> None:
    """Half-closed and reading a little every 20 s: credit comes, so nobody is gone."""
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        size = INITIAL_WINDOW + 10 * 10_000
        end.write(noise(size))
        await scene.peer_sends(fin(2))
        for _ in range(10):
            await clock.forward(20)
            await scene.peer_sends(credit(2, 10_000))
        assert not scene.resets()
        assert scene.peer.data_of(2) == noise(size)


async def test_a_peer_that_has_finished_and_read_everything_is_not_given_up(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(INITIAL_WINDOW))  # the window exactly: nothing waits
        await scene.peer_sends(fin(2))
        await clock.forward(90)
        assert not scene.resets()
        await scene.peer_sends(credit(2, 5))
        end.write(b"later")
        end.close()
        await turns()
        assert scene.peer.data_of(2) == noise(INITIAL_WINDOW) + b"later"
        assert scene.peer.flags_of(2) & FIN


# -- close -----------------------------------------------------------------------------------------------------------


async def test_a_closed_stream_has_half_a_minute_for_the_peers_fin(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(b"farewell")
        end.close()
        assert await end.protocol.lost is None
        await clock.forward(29)
        assert scene.peer.data_of(2) == b"farewell"
        assert scene.peer.flags_of(2) == ACK | FIN
        assert scene.link.stream_count == 1
        await clock.forward(2)
        assert scene.resets() == {2: 0}
        assert scene.link.stream_count == 0


async def test_a_fin_in_time_ends_the_stream(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.close()
        await clock.forward(25)
        await scene.peer_sends(fin(2))
        assert scene.link.stream_count == 0
        await clock.forward(30)
        assert not scene.resets()


async def test_bytes_behind_close_are_answered_with_rst(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.close()
        await turns()
        await scene.peer_sends(data(2, b"too late"))
        assert scene.resets() == {2: 0}
        assert scene.link.stream_count == 0
        assert end.protocol.calls == ["connection_lost"]


async def test_what_waits_at_close_has_half_a_minute_without_credit(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        end.close()
        await clock.forward(29)
        assert not end.protocol.lost.done()
        await clock.forward(2)
        assert scene.resets() == {2: 0}
        assert await end.protocol.lost is None


async def test_what_waits_at_close_is_sent_however_slowly_the_peer_reads(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        size = INITIAL_WINDOW + 5 * 10_000
        end.write(noise(size))
        end.close()
        for _ in range(5):
            await clock.forward(20)
            assert not end.protocol.lost.done()
            await scene.peer_sends(credit(2, 10_000))
        assert scene.peer.data_of(2) == noise(size)
        assert scene.peer.flags_of(2) & FIN
        assert not scene.resets()
        assert await end.protocol.lost is None


async def test_bytes_that_cross_with_close_do_not_harm_what_waits(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        size = INITIAL_WINDOW + 100_000
        end.write(noise(size))
        end.close()
        await scene.peer_sends(data(2, b"crossing"), data(2, b"again"))
        await scene.peer_sends(credit(2, 100_000))
        assert scene.peer.data_of(2) == noise(size)
        assert scene.peer.flags_of(2) & FIN
        assert await end.protocol.lost is None
        assert end.protocol.size == 0


async def test_a_link_that_dies_while_closed_streams_wait(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        end.close()
        await scene.peer_sends(data(2, b"crossing"))
        scene.peer.transport.abort()
        await turns()
        assert isinstance(await end.protocol.lost, LinkLost)


async def test_a_closed_stream_that_the_peer_resets(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        end.write(noise(MIB))
        end.close()
        await scene.peer_sends(reset(2, 7))
        error = await end.protocol.lost
        assert isinstance(error, StreamReset)
        assert error.code == 7
        await clock.forward(60)
        assert not scene.resets()


async def test_a_stream_that_was_never_used_leaves_nothing(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_us()
        end.abort()
        await end.protocol.lost
        assert scene.link.stream_count == 0
        assert not any(each[2] == 1 for each in scene.peer.frames)


async def test_go_away_is_said_and_the_connection_ends_in_two_seconds(clock: Clock) -> None:
    async with raw_link() as scene:
        end = await scene.opened_by_peer()
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        scene.link.close("enough")
        assert str(scene.link.closed.result()) == "enough"
        assert isinstance(await end.protocol.lost, LinkLost)
        await clock.forward(1)
        assert not scene.link.flushed.done()
        scene.peer.transport.thaw()  # type: ignore[attr-defined]
        await turns()
        assert any(each[0] == GO_AWAY for each in scene.peer.frames)
        assert scene.link.flushed.done()
        await clock.forward(5)


async def test_a_peer_that_does_not_end_is_cut_off(clock: Clock) -> None:
    async with raw_link() as scene:
        scene.peer.transport.frozen = True  # type: ignore[attr-defined]
        scene.link.close()
        await clock.forward(2.5)
        assert scene.link.flushed.done()
