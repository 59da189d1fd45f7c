"""Recorded sessions with Go peers, through our whole stack, bytes in to streams out."""

import asyncio
import itertools

import pytest

from bethrou.errors import BethrouError, HandshakeError, LinkLost, PeerError
from bethrou.net.reader import ByteReader
from bethrou.wire.multistream import HEADER
from wire.noise.recordings import RECORDINGS

from .clock import turns
from .collector import Collector, End
from .memory import MemoryTransport, memory_pipe
from .replay import Player, Script, Sent

SCRIPTS = [Script(recording) for recording in RECORDINGS]
EVERY_SCRIPT = pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
CIRCUITS = [script for script in SCRIPTS if script.circuit_stream is not None]


class Stage:
    """A pipe: our side on the left, on the right somebody who reads the peer's lines from a sheet."""

    def __init__(self, script: Script, chunk: int, left_alone: int | None = None) -> None:
        ours, theirs = memory_pipe(asyncio.get_running_loop())
        ours.chunk = chunk
        ours.set_protocol(ByteReader(ours))
        self.ours: MemoryTransport = ours
        self.theirs = End(theirs)
        self.theirs.switch(Collector())
        self.player = Player(script, ours, left_alone)

    async def arrived(self) -> None:
        """Wait until everything that was handed out is there."""
        while self.theirs.transport.get_write_buffer_size() and not self.ours.is_closing():
            await asyncio.sleep(0)
        await turns()

    async def close(self) -> None:
        if self.player.link is not None:
            self.player.link.abort(LinkLost("the curtain falls"))
        await turns()


@pytest.mark.parametrize("chunk", [1, 3, 61, 1021, 1_000_000])
@EVERY_SCRIPT
async def test_everything_that_the_peer_sent_appears(script: Script, chunk: int) -> None:
    stage = Stage(script, chunk)
    player = stage.player
    stage.theirs.transport.write(script.raw("<"))
    link = await player.play()
    await stage.arrived()
    player.check_received()
    theirs = [entry["stream"] for entry in script.entries if entry["opened_by"] == "peer"]
    assert sorted(player.opened) == sorted(theirs)
    player.finish()
    await turns()
    assert link.alive
    Sent(script, stage.theirs.protocol.data).check(script)
    await stage.close()
    player.check_window_budget()


@EVERY_SCRIPT
async def test_the_streams_end_as_they_did(script: Script) -> None:
    stage = Stage(script, 1_000_000)
    stage.theirs.transport.write(script.raw("<"))
    link = await stage.player.play()
    await stage.arrived()
    stage.player.finish()
    await turns()
    open_ended = [
        entry for entry in script.entries if entry["end_sent"] is None and entry["end_received"] is None
    ]
    assert link.stream_count == len(open_ended)
    await stage.close()
    for end in stage.player.ends.values():
        if end.transport.is_closing():
            assert end.protocol.lost.done()


@pytest.mark.parametrize("chunk", [1, 61, 1_000_000])
@pytest.mark.parametrize("script", CIRCUITS, ids=[script.name for script in CIRCUITS])
async def test_a_session_inside_a_stream_of_another(script: Script, chunk: int) -> None:
    number = script.circuit_stream
    assert number is not None
    stage = Stage(script, chunk, left_alone=number)
    stage.theirs.transport.write(script.raw("<"))
    await stage.player.play()
    inner = Script(
        next(each.recording for each in SCRIPTS if each.name == script.name.replace("outer", "inner"))
    )
    while number not in stage.player.ends:
        await asyncio.sleep(0)
    circuit = stage.player.ends[number].transport
    # the collector may have some bytes already: they go with the transport
    reader = ByteReader(circuit, stage.player.ends[number].protocol.data)
    circuit.set_protocol(reader)
    assert await reader.read_exactly(len(HEADER)) == HEADER
    await reader.read_prefixed(1024)  # the protocol
    await reader.read_prefixed(4096)  # CONNECT of STOP, or STATUS of HOP
    player = Player(inner, circuit)
    link = await player.play()
    await stage.arrived()
    player.check_received()
    player.finish()
    await turns()
    assert link.alive
    await stage.close()
    assert not link.alive
    player.check_window_budget()


# -- one altered bit -------------------------------------------------------------------------------------------------


async def play_altered(script: Script, place: int, bit: int) -> tuple[Player, BaseException | None]:
    """Play `script` with one bit of the peer's changed, and much behind it; how the upgrade failed, if it did."""
    altered = bytearray(script.raw("<"))
    altered[place] ^= 1 << bit
    stage = Stage(script, 1_000_000)
    stage.theirs.transport.write(altered)
    stage.theirs.transport.write(bytes(70_000))  # a record whose length grew must end somewhere
    error = None
    try:
        await stage.player.play()
    except BethrouError as raised:
        error = raised
    await stage.arrived()
    for entry in script.entries:
        end = stage.player.ends.get(entry["stream"])
        if end is not None:
            assert bytes.fromhex(entry["received"]).startswith(end.protocol.data)
    return stage.player, error


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("name", ["dial_go_exit", "accept_go_client", "dial_go_exit_muxer_by_mss"])
async def test_one_altered_bit_behind_the_handshake_ends_the_link(name: str) -> None:
    script = next(each for each in SCRIPTS if each.name == name)
    bits = itertools.cycle(range(8))
    places = range(script.handshake_size, len(script.raw("<")), 11)
    for place in places:
        player, error = await play_altered(script, place, next(bits))
        if player.link is None:
            assert not script.recording.early  # only what chose the muxer is read before there is a link
            assert isinstance(error, PeerError)
            continue
        assert error is None
        assert not player.link.alive
        assert isinstance(player.link.closed.result(), PeerError)
        for end in player.ends.values():
            assert end.protocol.lost.done()
        player.check_window_budget()


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("name", ["dial_go_exit", "accept_go_client"])
async def test_one_altered_bit_in_the_handshake_leaves_no_link(name: str) -> None:
    script = next(each for each in SCRIPTS if each.name == name)
    bits = itertools.cycle(range(8))
    for place in range(0, script.handshake_size, 5):
        player, error = await play_altered(script, place, next(bits))
        if player.link is not None:
            # another name than /tls/1.0.0 is refused as that is: nothing authenticates what is in front of Noise
            assert name == "accept_go_client" and 45 <= place < 55
            continue
        assert isinstance(error, HandshakeError | PeerError | LinkLost)
