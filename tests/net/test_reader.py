"""Short conversations on a transport: what is read, what is handed on, and how an end shows."""

import asyncio

import pytest

from bethrou.errors import DecodeError, LinkLost
from bethrou.net.reader import ByteReader

from .clock import turns
from .collector import Collector, End, noise
from .memory import MemoryTransport, memory_pipe

KIB = 1 << 10


def scene(chunk: int = 1 << 20, surplus: bytes = b"") -> tuple[ByteReader, MemoryTransport, End]:
    """A reader, its transport, and the end that talks to it."""
    ours, theirs = memory_pipe(asyncio.get_running_loop())
    ours.chunk = chunk
    reader = ByteReader(ours, surplus)
    ours.set_protocol(reader)
    end = End(theirs)
    end.switch(Collector())
    return reader, ours, end


@pytest.mark.parametrize("chunk", [1, 3, 1000])
async def test_exactly_what_is_asked_for_in_any_cut(chunk: int) -> None:
    reader, _, peer = scene(chunk)
    peer.write(b"one" + b"\x05three" + b"rest")
    assert await reader.read_exactly(3) == b"one"
    assert await reader.read_prefixed(10) == b"three"
    assert await reader.read_exactly(0) == b""
    await turns()
    assert reader.detach() == b"rest"


async def test_what_was_there_before_is_read_first() -> None:
    reader, _, peer = scene(surplus=b"before ")
    peer.write(b"after")
    assert await reader.read_exactly(12) == b"before after"
    reader.push_back(b"again ")
    peer.write(b"and more")
    assert await reader.read_exactly(14) == b"again and more"


async def test_long_prefixes_and_limits() -> None:
    reader, _, peer = scene(chunk=1)
    peer.write(b"\x80\x02" + bytes(256) + b"\x81\x02" + bytes(257))
    assert await reader.read_prefixed(256) == bytes(256)
    with pytest.raises(DecodeError, match="257 bytes; at most 256"):
        await reader.read_prefixed(256)
    with pytest.raises(ValueError, match="65536"):
        await reader.read_exactly(65537)


async def test_a_prefix_that_is_none() -> None:
    reader, _, peer = scene()
    peer.write(b"\xff" * 12)
    with pytest.raises(DecodeError):
        await reader.read_prefixed(100)


@pytest.mark.parametrize("sent", [b"", b"ab"])
async def test_an_end_in_the_middle(sent: bytes) -> None:
    reader, ours, peer = scene()
    peer.write(sent)
    peer.write_eof()
    with pytest.raises(LinkLost, match=f"{len(sent)} of 3 bytes"):
        await reader.read_exactly(3)
    assert reader.ended
    assert not reader.lost
    assert await reader.read_some() == sent
    assert await reader.read_some() == b""
    reader.write(b"still writable")
    await peer.protocol.have(14)
    assert not ours.is_closing()


async def test_an_end_before_a_message() -> None:
    for sent in (b"", b"\x80"):
        reader, _, peer = scene()
        peer.write(sent)
        peer.write_eof()
        with pytest.raises(LinkLost, match="before a message"):
            await reader.read_prefixed(10)


async def test_an_error_is_raised_when_the_bytes_before_it_are_used_up() -> None:
    reader, _, peer = scene()
    told = []
    reader.on_lost = lambda: told.append(True)
    peer.write(b"last words")
    await turns()
    peer.abort()
    await turns()
    assert reader.lost and reader.ended and told == [True]
    assert await reader.read_exactly(4) == b"last"
    with pytest.raises(ConnectionResetError):
        await reader.read_exactly(10)
    assert await reader.read_some() == b" words"
    with pytest.raises(ConnectionResetError):
        await reader.read_some()


async def test_who_waits_is_woken_by_the_end() -> None:
    reader, _, peer = scene()
    waiting = asyncio.ensure_future(reader.read_exactly(1))
    await turns()
    peer.abort()
    with pytest.raises(ConnectionResetError):
        await waiting


async def test_a_cancelled_read_loses_nothing() -> None:
    reader, _, peer = scene()
    waiting = asyncio.ensure_future(reader.read_exactly(10))
    peer.write(b"half ")
    await turns()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    peer.write(b"whole")
    assert await reader.read_exactly(10) == b"half whole"


async def test_a_peer_that_sends_much_is_stopped_until_it_is_read() -> None:
    reader, ours, peer = scene(chunk=10 * KIB)
    data = noise(400 * KIB)
    sending = asyncio.ensure_future(peer.send(data, 20 * KIB))
    await turns(200)
    assert not ours.is_reading()
    assert reader.buffered <= 64 * KIB + ours.chunk
    received = b""
    while len(received) < 300 * KIB:
        received += await reader.read_exactly(60 * KIB)
    await turns(200)
    rest = reader.detach()
    assert ours.is_reading()
    following = Collector()
    End(ours, following).switch(following)
    await sending
    await following.have(len(data) - len(received) - len(rest))
    assert received + rest + following.data == data


async def test_a_pause_holds_until_the_transport_is_handed_on() -> None:
    reader, ours, peer = scene()
    reader.pause()
    peer.write(b"for the next one")
    await turns()
    assert reader.buffered == 0
    assert reader.detach() == b""
    following = Collector()
    End(ours, following).switch(following)
    await following.have(16)
    assert following.data == b"for the next one"


async def test_a_decoder_sees_every_byte_once() -> None:
    reader, _, peer = scene(chunk=2)
    peer.write(b"plain" + b"\x01\x02\x03")
    assert await reader.read_exactly(5) == b"plain"
    reader.set_decoder(lambda data: bytes(byte + 1 for byte in data))
    peer.write(b"\x04\x05")
    assert await reader.read_exactly(5) == b"\x02\x03\x04\x05\x06"
    reader.push_back(b"as it is")
    assert await reader.read_exactly(8) == b"as it is"
