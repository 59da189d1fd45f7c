"""Members that break the rules behind the handshake, on real sockets: each ends its own link, or less, and no other."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator

import pytest

from bethrou.errors import LinkLost, MuxerError, PeerError
from bethrou.net import host as host_module
from bethrou.net import muxer as muxer_module
from bethrou.net.link import Link
from bethrou.net.negotiation import NEGOTIATION_FAILED
from bethrou.net.ping import PROTOCOL_ID as PING_PROTOCOL
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.yamux.frame import ACK, FIN, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE, header
from wire.yamux.frames import credit, data, fin, go_away, opening, ping, reset

from .collector import End, noise
from .hosts import PIPE, Member, stream_pair, two_hosts
from .leftovers import nothing_left
from .raw_peer import RawPeer

MIB = 1 << 20
ROOM = INITIAL_WINDOW - len(HEADER + frame(PIPE))
"""What is left of a stream's window behind the proposal."""


class Scene:
    """A host with a link that works, and another to a peer that is up to something."""

    def __init__(self, host: Member, other: Link, peer: RawPeer) -> None:
        self.host = host
        self.peer = peer
        self._other = other

    @property
    def link(self) -> Link:
        """The host's end of the link to the peer."""
        return next(link for link in self.host.happenings.up if link.peer_id != self._other_peer)

    @property
    def _other_peer(self) -> object:
        return self.host.happenings.up[0].peer_id

    async def ended(self, kind: type[Exception], reason: str) -> None:
        """The link to the peer ended, for this reason."""
        await self.peer.lost
        while not self.host.happenings.down:
            await asyncio.sleep(0)
        [(link, error)] = self.host.happenings.down
        assert link is self.link
        assert not link.alive
        assert type(error) is kind
        assert reason in str(error)
        assert link.stream_count == 0

    async def the_other_link_works(self) -> None:
        """A new stream of the other link, and bytes both ways."""
        near, far = map(End, await stream_pair(self._other, self.host))
        for end in (near, far):
            end.switch(end.protocol)
        await near.send(noise(200_000, 1))
        await far.send(noise(200_000, 2))
        await far.protocol.have(200_000)
        await near.protocol.have(200_000)
        assert (far.protocol.data, near.protocol.data) == (noise(200_000, 1), noise(200_000, 2))
        near.close()
        far.close()
        await near.protocol.lost
        await far.protocol.lost

    async def pipe(self, stream: int, payload: bytes = b"") -> End:
        """A stream that the peer opens, and the host's end of it."""
        self.peer.open_pipe(stream)
        end = End(await self.host.pipes.get())
        end.switch(end.protocol)
        if payload:
            self.peer.send(data(stream, payload))
        return end


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with nothing_left(), two_hosts() as (_, listener, link, _other):
        peer = await RawPeer.dial(listener.port)
        await peer.round_trip()
        scene = Scene(listener, link, peer)
        yield scene
        await scene.the_other_link_works()
        peer.transport.abort()


# -- rules whose breach ends the link ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([opening(2)], "not its to open"),
        ([data(2, b"x", SYN)], "not its to open"),
        ([opening(0)], "not its to open"),
        ([opening(1), opening(1)], "stream 1 twice"),
        ([opening(1), credit(1, 2**32 - 1)], "32 bits"),
        ([b"\x01" + bytes(11)], "not Yamux"),
        ([b"\x00\x09" + bytes(10)], "not Yamux"),
        ([opening(1), b"HTTP/1.1 400 Bad Request\r\n"], "not Yamux"),
    ],
)
async def test_broken_rules_of_yamux(scene: Scene, frames: list[bytes], reason: str) -> None:
    scene.peer.send(*frames)
    await scene.ended(MuxerError, reason)


async def test_an_altered_record(scene: Scene) -> None:
    before = scene.peer._seal(ping(1))
    altered = bytearray(before)
    altered[-1] ^= 1
    scene.peer.send_raw(altered)
    await scene.ended(PeerError, "altered")


async def test_a_record_too_short_to_be_one(scene: Scene) -> None:
    keystream = scene.peer._seal.__self__._keystream
    scene.peer.send_raw(keystream.xor(b"\x00\x0f" + bytes(15)))
    await scene.ended(PeerError, "too short")


async def test_bytes_that_are_no_records(scene: Scene) -> None:
    scene.peer.send_raw(noise(200_000))
    await scene.ended(PeerError, "altered")


async def test_a_repeated_record(scene: Scene) -> None:
    keystream = scene.peer._seal.__self__._keystream
    wire = bytes(scene.peer._seal(ping(5)))
    position = keystream.position
    scene.peer.send_raw(wire)
    keystream._position = position - len(wire)
    plain = keystream.xor(wire)  # the record as it is below pnet
    scene.peer.send_raw(keystream.xor(plain))
    await scene.ended(PeerError, "altered")


@pytest.mark.parametrize("code", [0, 1, 2, 0x1005])
async def test_a_goodbye_ends_the_link(scene: Scene, code: int) -> None:
    end = await scene.pipe(1)
    scene.peer.send(go_away(code))
    await scene.ended(LinkLost, f"code {code:#x}")
    assert isinstance(await end.protocol.lost, LinkLost)


async def test_nothing_behind_a_goodbye_counts(scene: Scene) -> None:
    end = await scene.pipe(1)
    scene.peer.send(go_away(0), data(1, b"late"), data(3, HEADER + frame(PIPE), SYN), data(3, b"later"))
    await scene.ended(LinkLost, "code 0x0")
    await end.protocol.lost
    assert end.protocol.calls == ["connection_lost"]
    assert scene.host.pipes.empty()


async def test_a_connection_that_breaks_in_the_middle_of_a_record(scene: Scene) -> None:
    end = await scene.pipe(1, b"whole")
    await end.protocol.have(5)
    scene.peer.send_raw(bytes(scene.peer._seal(data(1, b"broken")))[:-3])
    scene.peer.transport.close()
    await scene.ended(LinkLost, "closed the connection")
    assert isinstance(await end.protocol.lost, LinkLost)
    assert end.protocol.data == b"whole"


async def test_a_connection_that_is_reset(scene: Scene) -> None:
    end = await scene.pipe(1)
    sock = scene.peer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    scene.peer.transport.abort()
    await scene.ended(LinkLost, "connection")
    assert isinstance(await end.protocol.lost, LinkLost)


# -- what is ignored --------------------------------------------------------------------------------------------------


async def test_frames_of_unknown_streams_and_odd_flags(scene: Scene) -> None:
    scene.peer.send(
        data(99, bytes(3 * MIB)),
        credit(77, 2**32 - 1),
        fin(55),
        reset(33, 7),
        header(WINDOW_UPDATE, 0xFFF0, 11, 5),
        header(PING, ACK, 0, 12345),
        data(0, b"x"),
    )
    await scene.peer.round_trip()
    assert scene.link.alive
    assert not any(each[1] & RST for each in scene.peer.frames)


async def test_empty_records(scene: Scene) -> None:
    for _ in range(1000):
        scene.peer.send_raw(scene.peer._seal(b""))
    await scene.peer.round_trip()
    assert scene.link.alive


async def test_a_stream_that_makes_no_sense_is_reset_alone(scene: Scene) -> None:
    end = await scene.pipe(1)
    for number, nonsense in enumerate((b"GET / HTTP/1.1\r\n", b"\xff\xff\xff\xff", HEADER + b"\x05nonsense")):
        scene.peer.send(data(3 + 2 * number, nonsense, SYN))
    await scene.peer.round_trip()
    resets = {each[2]: each[3] for each in scene.peer.frames if each[1] & RST}
    assert resets == {3: NEGOTIATION_FAILED, 5: NEGOTIATION_FAILED, 7: NEGOTIATION_FAILED}
    scene.peer.send(data(1, b"still here"))
    await end.protocol.have(10)


# -- floods -----------------------------------------------------------------------------------------------------------


async def test_every_ping_of_a_flood_is_answered_once_and_in_order(scene: Scene) -> None:
    count = 20_000
    scene.peer.send(*(ping(value) for value in range(count)))
    await scene.peer.round_trip()
    answers = [each[3] for each in scene.peer.frames if each[:2] == (PING, ACK) and each[3] < count]
    assert answers == list(range(count))


async def test_a_peer_that_floods_and_never_reads_is_cut(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muxer_module, "_MAX_UNSENT", 256 * 1024)
    scene.peer.transport.pause_reading()
    highest = 0
    while scene.link.alive:
        scene.peer.send(*[ping(1)] * 5000)
        await asyncio.sleep(0)
        highest = max(highest, scene.link._transport.get_write_buffer_size())
    assert highest < 256 * 1024 + 2 * 65536
    scene.peer.transport.resume_reading()
    await scene.ended(MuxerError, "does not read")


async def test_other_links_flow_while_one_floods(scene: Scene) -> None:
    flooding = True

    async def flood() -> None:
        while flooding:
            scene.peer.send(*[ping(1)] * 500)
            await asyncio.sleep(0)

    task = asyncio.create_task(flood())
    await scene.the_other_link_works()
    flooding = False
    await task
    await scene.peer.round_trip()
    assert scene.link.alive


async def test_streams_beyond_the_hosts_bound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "MAX_NEGOTIATIONS", 50)
    scene.peer.send(*(opening(number) for number in range(1, 2001, 2)))
    await scene.peer.round_trip()
    refused = [each[2] for each in scene.peer.frames if each[1] & RST]
    assert refused == list(range(1, 1901, 2))  # those that have been silent longest make room
    assert len(scene.host._negotiations) == 50
    await scene.the_other_link_works()  # one that speaks gets through, while the peer holds all there are


async def test_streams_beyond_the_links_bound(scene: Scene) -> None:
    scene.link._muxer._session._max_inbound = 10
    scene.peer.send(*(opening(number) for number in range(1, 101, 2)))
    await scene.peer.round_trip()
    assert sum(bool(each[1] & RST) for each in scene.peer.frames) == 40
    assert scene.link.stream_count <= 10 + 1


async def test_streams_opened_and_reset_at_once_by_the_thousand(scene: Scene) -> None:
    for first in range(1, 10_001, 1000):
        scene.peer.send(
            *itertools.chain.from_iterable(
                (data(number, HEADER + frame(PIPE), SYN), reset(number))
                for number in range(first, first + 1000, 2)
            )
        )
    await scene.peer.round_trip()
    assert scene.link._muxer._session.inbound == 0
    assert len(scene.host._negotiations) == 0
    assert scene.host.pipes.qsize() == 5000
    assert scene.host.budget._left == 256 * MIB
    while not scene.host.pipes.empty():
        scene.host.pipes.get_nowait()


async def test_a_reset_flood_of_streams_that_never_said_what_they_are_for(scene: Scene) -> None:
    for _ in range(5):
        scene.peer.send(*(opening(number) + reset(number) for number in range(1, 4001, 2)))
        await scene.peer.round_trip()
    assert scene.link._muxer._session.inbound == 0
    assert len(scene.host._negotiations) == 0


async def test_each_stream_stalls_for_itself(scene: Scene) -> None:
    """The peer fills the windows of streams whose readers are paused: more would be a breach, this is none."""
    ends = [await scene.pipe(number) for number in (1, 3, 5)]
    for end, number in zip(ends, (1, 3, 5), strict=True):
        end.pause_reading()
        scene.peer.send(data(number, noise(ROOM, number)))
    free = await scene.pipe(7, b"free")
    await free.protocol.have(4)
    assert scene.link.alive
    assert not any(end.protocol.size for end in ends)
    for end, number in zip(ends, (1, 3, 5), strict=True):
        end.resume_reading()
        await end.protocol.have(ROOM)
        assert end.protocol.data == noise(ROOM, number)


async def test_a_peer_that_ignores_its_windows_while_a_reader_is_paused(scene: Scene) -> None:
    end = await scene.pipe(1)
    end.pause_reading()
    scene.peer.send(data(1, bytes(ROOM)))
    await scene.peer.round_trip()
    assert scene.link.alive
    scene.peer.send(data(1, b"x"))
    await scene.ended(MuxerError, "sent 1 bytes with a window of 0")
    assert end.protocol.size == 0


async def test_a_peer_that_gives_no_credit(scene: Scene) -> None:
    end = await scene.pipe(1)
    sending = asyncio.create_task(end.send(noise(2 * MIB)))
    await scene.peer.until(lambda: len(scene.peer.data_of(1)) >= INITIAL_WINDOW)
    await scene.peer.round_trip()
    received = scene.peer.data_of(1).split(frame(PIPE), 1)[1]
    assert len(scene.peer.data_of(1)) == INITIAL_WINDOW
    assert noise(2 * MIB).startswith(received)
    assert not sending.done()
    free = await scene.pipe(3)
    free.write(b"others go on")
    await scene.peer.until(lambda: scene.peer.data_of(3).endswith(b"others go on"))
    scene.peer.send(credit(1, 2 * MIB))
    await scene.peer.until(lambda: len(scene.peer.data_of(1)) == 2 * MIB + INITIAL_WINDOW - len(received))
    await sending


async def test_a_ping_stream_whose_answers_nobody_reads_is_reset_alone(scene: Scene) -> None:
    scene.peer.send(data(1, HEADER + frame(PING_PROTOCOL), SYN))
    sent = 0
    while not scene.peer.flags_of(1) & RST and sent < 2 * MIB:
        scene.peer.send(data(1, bytes(32 * 256)))  # the answers use up a window that nobody refills
        sent += 32 * 256
        await scene.peer.round_trip()
    assert scene.peer.flags_of(1) & RST
    assert scene.link.alive


# -- identify ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\x80\x04" + bytes(70_000),
        b"\x05\x12\xff\xff\xff\x0f",
    ],
    ids=["nothing", "no varint", "too long", "malformed"],
)
async def test_answers_to_identify_that_make_no_sense(scene: Scene, answer: bytes) -> None:
    await scene.peer.until(lambda: scene.peer.data_of(2).endswith(frame("/ipfs/id/1.0.0")))
    scene.peer.send(data(2, HEADER + frame("/ipfs/id/1.0.0") + answer, ACK | FIN))
    assert await scene.host.statement_of(scene.link) is None
    await scene.peer.round_trip()
    assert scene.link.alive


async def test_the_wait_for_a_statement_ends_with_the_link(scene: Scene) -> None:
    waiting = asyncio.create_task(scene.host.statement_of(scene.link))
    await scene.peer.round_trip()
    assert not waiting.done()
    scene.peer.transport.abort()
    assert await waiting is None


async def test_a_pushed_statement_serves_those_who_wait_for_the_asked_one(scene: Scene) -> None:
    waiting = asyncio.create_task(scene.host.statement_of(scene.link))
    await scene.peer.round_trip()
    assert not waiting.done()
    message = b"\x1a\x06/one/1" + b"\x1a\x06/two/2"
    push = HEADER + frame("/ipfs/id/push/1.0.0") + bytes([len(message)]) + message
    scene.peer.send(data(1, push, SYN | FIN))
    statement = await waiting
    assert statement is not None
    assert list(statement.protocols) == ["/one/1", "/two/2"]
    assert await scene.host.statement_of(scene.link) == statement
