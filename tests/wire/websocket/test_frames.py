"""Frames, held against the package websockets (whose own frame layer we do not use) and RFC 6455."""

from __future__ import annotations

import contextlib
import random

import pytest
from websockets.frames import Frame
from websockets.frames import Opcode as Their
from websockets.protocol import Protocol, Side

from bethrou.errors import WebSocketError
from bethrou.wire.websocket.frames import (
    MAX_FRAME,
    CloseCode,
    FrameReader,
    Opcode,
    build,
    close_payload,
    read_close,
)

MASK = bytes.fromhex("37fa213d")
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 200_000]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def read(data: bytes, *, masked: bool, pieces: int = 1 << 30) -> list[tuple[Opcode, bytes]]:
    """What is found in `data` that comes in pieces; neighbouring data as one."""
    reader = FrameReader(masked)
    found: list[tuple[Opcode, bytes]] = []
    for start in range(0, len(data), pieces):
        view = memoryview(data)[start : start + pieces]
        while len(view):
            taken = reader.take(view)
            assert taken.size
            view = view[taken.size :]
            if taken.opcode is Opcode.BINARY and found and found[-1][0] is Opcode.BINARY:
                found[-1] = (Opcode.BINARY, found[-1][1] + bytes(taken.payload))
            elif taken.opcode is not None and (taken.payload or taken.opcode is not Opcode.BINARY):
                found.append((taken.opcode, bytes(taken.payload)))
    return found


def theirs(side: Side, data: bytes) -> list[Frame]:
    protocol = Protocol(side, max_size=None)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize(
    ("frame", "masked", "expected"),
    [  # RFC 6455, 5.7, with binary for text
        ("820548656c6c6f", False, b"Hello"),
        ("828537fa213d7f9f4d5158", True, b"Hello"),
        ("020348656c80026c6f", False, b"Hello"),
        ("890548656c6c6f", False, b"Hello"),
        ("8a8537fa213d7f9f4d5158", True, b"Hello"),
    ],
)
def test_examples_of_the_rfc(frame: str, masked: bool, expected: bytes) -> None:
    for pieces in range(1, 13):
        assert [payload for _, payload in read(bytes.fromhex(frame), masked=masked, pieces=pieces)] == [
            expected
        ]


@pytest.mark.parametrize("size", SIZES)
def test_they_read_what_we_build(size: int) -> None:
    data = noise(size)
    (client,) = theirs(Side.SERVER, build(Opcode.BINARY, data, MASK))
    (server,) = theirs(Side.CLIENT, build(Opcode.BINARY, memoryview(data)))
    assert (client.opcode, client.data, client.fin) == (server.opcode, server.data, server.fin)
    assert (server.opcode, bytes(server.data), server.fin) == (Their.BINARY, data, True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pieces", [1 << 30, 1000, 7])
def test_we_read_what_they_build(size: int, pieces: int) -> None:
    if size > 10_000 and pieces < 100:
        size = 5000
    data = noise(size)
    for masked in (True, False):
        first = Frame(Their.BINARY, data[: size // 2], fin=False).serialize(mask=masked)
        rest = Frame(Their.CONT, data[size // 2 :]).serialize(mask=masked)
        ping = Frame(Their.PING, b"in between").serialize(mask=masked)
        found = read(first + ping + rest, masked=masked, pieces=pieces)
        assert b"".join(payload for opcode, payload in found if opcode is Opcode.BINARY) == data
        assert (Opcode.PING, b"in between") in found


def test_a_close_frame_in_both_directions() -> None:
    (close,) = theirs(Side.CLIENT, build(Opcode.CLOSE, close_payload(CloseCode.TOO_BIG, "too big")))
    assert read_close(bytes(close.data)) == (1009, "too big")
    assert read_close(b"") == (CloseCode.NONE_GIVEN, "")
    assert len(close_payload(CloseCode.NORMAL, "é" * 100)) <= 125
    close_payload(CloseCode.NORMAL, "é" * 100)[2:].decode()


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        ("810548656c6c6f", 1003, "text message"),
        ("828537fa213d7f9f4d5158", 1002, "masked frame from a server"),
        ("c20548656c6c6f", 1002, "extension"),
        ("830548656c6c6f", 1002, "unknown meaning"),
        ("8b00", 1002, "unknown meaning"),
        ("8000", 1002, "never began"),
        ("02036162638203616263", 1002, "begins inside another"),
        ("0900", 1002, "control frame"),
        ("897e0080", 1002, "control frame"),
        ("827f0000000001000001", 1009, f"16777217 bytes; at most {MAX_FRAME}"),
        ("827fffffffffffffffff", 1009, "at most"),
    ],
)
def test_what_is_refused(frame: str, code: int, reason: str) -> None:
    for pieces in (100, 1):
        with pytest.raises(WebSocketError, match=reason) as caught:
            read(bytes.fromhex(frame), masked=False, pieces=pieces)
        assert caught.value.code == code


def test_what_is_refused_of_clients() -> None:
    with pytest.raises(WebSocketError, match="without a mask"):
        read(bytes.fromhex("820548656c6c6f"), masked=True)
    with pytest.raises(WebSocketError, match="half a close code"):
        read_close(b"\x03")


def test_random_bytes_raise_nothing_else() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        data = chance.randbytes(chance.randrange(1, 60))
        with contextlib.suppress(WebSocketError):
            read(data, masked=bool(data[0] & 1), pieces=chance.randrange(1, 20))
