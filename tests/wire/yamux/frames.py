"""Frames as a peer would write them, for tests."""

from __future__ import annotations

from bethrou.wire.yamux.frame import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    FrameReader,
    header,
)


def data(stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return header(DATA, flags, stream, len(payload)) + payload


def credit(stream: int, size: int = 0, flags: int = 0) -> bytes:
    return header(WINDOW_UPDATE, flags, stream, size)


def opening(stream: int) -> bytes:
    """As go and js open a stream."""
    return credit(stream, 0, SYN)


def fin(stream: int) -> bytes:
    return credit(stream, 0, FIN)


def reset(stream: int, code: int = 0) -> bytes:
    return credit(stream, code, RST)


def ping(value: int) -> bytes:
    return header(PING, SYN, 0, value)


def pong(value: int) -> bytes:
    return header(PING, ACK, 0, value)


def go_away(code: int) -> bytes:
    return header(GO_AWAY, 0, 0, code)


Read = tuple[int, int, int, int, bytes]


def read(*chunks: bytes, reader: FrameReader | None = None) -> list[Read]:
    """All frames and pieces of frames in `chunks`."""
    reader = reader or FrameReader()
    return [
        (kind, flags, stream, length, bytes(payload))
        for chunk in chunks
        for kind, flags, stream, length, payload in reader.read(memoryview(chunk))
    ]


def joined(frames: list[Read]) -> list[tuple[int, int, int, bytes]]:
    """The frames with the pieces of each DATA frame put together, neighbours of one stream joined."""
    result: list[tuple[int, int, int, bytes]] = []
    for kind, flags, stream, length, payload in frames:
        if kind == DATA and not flags & SYN and result and result[-1][0] == DATA and result[-1][2] == stream:
            _, before, _, start = result.pop()
            result.append((DATA, before | flags, stream, start + payload))
        else:
            value = payload if kind == DATA else length.to_bytes(4, "big")
            result.append((kind, flags, stream, value))
    return result
