"""multistream-select 1.0: two sides agree on the protocol of a stream (spec: multiformats/multistream).

A message is uv(length incl. newline) || text || "\\n". Both sides send the header first. The dialer then
proposes one protocol after the other; the listener echoes the one it takes and answers `na` to the rest.

Both classes here are fed bytes in any chunking and never wait for the other side's header: the dialer's
header and first proposal leave in one piece, the listener's header leaves before anything has come. Bytes
behind the agreement belong to the next protocol and are kept in `surplus`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from bethrou.errors import NegotiationError, UnsupportedProtocol

MAX_LENGTH = 1024
"""Longest message in bytes, newline included: the limit of go and js, below that of rust."""

MAX_PROPOSALS = 32
"""Proposals that a listener answers before it gives up. Real dialers make two or three."""

_VERSION = "/multistream/1.0.0"
_NA = "na"


def frame(text: str) -> bytes:
    """Return one message. ValueError when it is longer than the other side reads."""
    raw = text.encode()
    length = len(raw) + 1
    if length < 0x80:
        return b"%c%b\n" % (length, raw)
    if length > MAX_LENGTH:
        raise ValueError(f"multistream message of {length} bytes exceeds {MAX_LENGTH}")
    return b"%c%c%b\n" % (length & 0x7F | 0x80, length >> 7, raw)


HEADER = frame(_VERSION)
"""What both sides send first."""

_NA_FRAME = frame(_NA)


@lru_cache(maxsize=256)
def opening(protocol: str) -> bytes:
    """Return header and one protocol in one piece: what a dialer proposes, and what a listener that agrees answers.

    Kept, because every stream of every link begins with one of a dozen of them.
    """
    return HEADER + frame(protocol)


class _Negotiation:
    """What both roles share: finding messages in chunks, and the bytes on either side of them."""

    __slots__ = ("_agreed", "_buffer", "_greeted", "_out")

    def __init__(self, opening: bytes) -> None:
        self._agreed: str | None = None
        self._buffer = b""
        self._greeted = False
        self._out = opening

    def receive(self, data: bytes | bytearray | memoryview) -> str | None:
        """Take bytes of the peer; return the agreed protocol as soon as there is one, else None.

        Raises NegotiationError when the peer does not speak multistream or breaks its rules.
        """
        self._buffer = self._buffer + bytes(data) if self._buffer else bytes(data)
        if self._agreed is not None:
            return self._agreed
        position = 0
        if not self._greeted:
            position = self._read_header()
        while self._greeted and self._agreed is None:
            end, text = _read_message(self._buffer, position)
            if text is None:
                break
            position = end
            self._handle(text)
        if position:
            self._buffer = self._buffer[position:]
        return self._agreed

    def data_to_send(self) -> bytes:
        """Return what must be written now, once; empty when there is nothing."""
        out, self._out = self._out, b""
        return out

    @property
    def greeted(self) -> bool:
        """Whether the peer's header has come: it speaks multistream."""
        return self._greeted

    @property
    def surplus(self) -> bytes:
        """Every byte received behind the agreement; empty before there is one."""
        return self._buffer if self._agreed is not None else b""

    def _read_header(self) -> int:
        # Compared byte by byte as it comes: with a wrong network key the bytes are random, and waiting for
        # the rest of a "message" would turn a clear error into a timeout.
        buffer = self._buffer
        if buffer.startswith(HEADER):
            self._greeted = True
            return len(HEADER)
        if not HEADER.startswith(buffer):
            raise NegotiationError(f"peer does not speak multistream: it began with {buffer[:20]!r}")
        return 0

    def _handle(self, text: str) -> None:
        raise NotImplementedError


class Dialer(_Negotiation):
    """The side that proposes `protocols`, the best first. At least one; ValueError otherwise."""

    __slots__ = ("_next", "_protocols")

    def __init__(self, protocols: Sequence[str]) -> None:
        if not protocols:
            raise ValueError("no protocol to propose")
        super().__init__(opening(protocols[0]))
        self._protocols = protocols
        self._next = 1

    def _handle(self, text: str) -> None:
        proposed = self._protocols[self._next - 1]
        if text == proposed:
            self._agreed = text
        elif text != _NA:
            raise NegotiationError(f"peer answered {text[:80]!r} to the proposal {proposed!r}")
        elif self._next == len(self._protocols):
            raise UnsupportedProtocol(f"peer supports none of {', '.join(self._protocols)}")
        else:
            self._out += frame(self._protocols[self._next])
            self._next += 1


class Listener(_Negotiation):
    """The side that answers; `supports` tells whether it takes a protocol."""

    __slots__ = ("_supports", "refused")

    def __init__(self, supports: Callable[[str], bool]) -> None:
        super().__init__(HEADER)
        self._supports = supports
        self.refused: list[str] = []
        """What the peer proposed in vain, at most `MAX_PROPOSALS`."""

    def receive(self, data: bytes | bytearray | memoryview) -> str | None:
        if self._greeted or self._buffer:
            return super().receive(data)
        # The usual dialer proposes, in one piece, one protocol that is known here.
        self._buffer = bytes(data)
        start = len(HEADER) + 1
        end = start + self._buffer[start - 1] if len(self._buffer) >= start else 0
        text = self._buffer[start : end - 1].decode("latin-1")
        if not self._takes(text) or self._buffer[:end] != opening(text):
            return super().receive(b"")
        self._greeted, self._agreed = True, text
        self._out += self._buffer[start - 1 : end]
        self._buffer = self._buffer[end:]
        return text

    def _takes(self, text: str) -> bool:
        # `ls` is no protocol any more (go answers `na` to it since 0.5), whatever `supports` thinks.
        return text != "ls" and self._supports(text)

    def _handle(self, text: str) -> None:
        if self._takes(text):
            self._agreed = text
            self._out += frame(text)
            return
        self.refused.append(text)
        if len(self.refused) >= MAX_PROPOSALS:
            raise NegotiationError(f"peer proposed {MAX_PROPOSALS} protocols that are not supported here")
        self._out += _NA_FRAME


def _read_message(buffer: bytes, position: int) -> tuple[int, str | None]:
    """Return the offset behind the message at `position` and its text; None while it is incomplete."""
    size = len(buffer)
    if position >= size:
        return position, None
    length = buffer[position]
    start = position + 1
    if length >= 0x80:
        if start >= size:
            return position, None
        length = length & 0x7F | buffer[start] << 7
        start += 1
        # A second byte with its high bit set makes this exceed the limit, too: no third one is needed.
        if not 0x80 <= length <= MAX_LENGTH:
            raise NegotiationError(f"peer announced a multistream message of more than {MAX_LENGTH} bytes")
    end = start + length
    if end > size:
        return position, None
    if length == 0 or buffer[end - 1] != 0x0A:
        raise NegotiationError("peer sent a multistream message without its newline")
    try:
        return end, buffer[start : end - 1].decode()
    except UnicodeDecodeError as error:
        raise NegotiationError("peer sent a multistream message that is no text") from error
