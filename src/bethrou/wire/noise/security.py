"""Noise as one of the securities that an upgrade may agree on (wire/secure_channel.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bethrou.wire.keys import Identity
from bethrou.wire.noise.records import LENGTH_SIZE, RecordOpener, RecordSealer
from bethrou.wire.noise.secure_channel import PROTOCOL_ID, NoiseChannel
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import Keystream
from bethrou.wire.secure_channel import SecureSession


class Noise:
    """Noise for all links of `identity`. `make_channel` makes each handshake."""

    protocol_id = PROTOCOL_ID
    name = "noise"
    title = "Noise"

    def __init__(self, identity: Identity, make_channel: Callable[..., NoiseChannel] = NoiseChannel) -> None:
        self._identity = identity
        self._make_channel = make_channel

    def handshake(self, *, initiator: bool, expected: PeerId | None, muxers: Sequence[str]) -> NoiseHandshake:
        """Begin a handshake."""
        return NoiseHandshake(
            self._make_channel(self._identity, initiator=initiator, expected=expected, muxers=muxers)
        )

    def under(self, identity: Identity) -> Noise:
        """Noise for another identity."""
        return Noise(identity, self._make_channel)


class NoiseHandshake:
    """Noise's messages with their length in front (specs/noise, Wire Format)."""

    header_size = LENGTH_SIZE

    def __init__(self, channel: NoiseChannel) -> None:
        self._channel = channel

    @property
    def session(self) -> SecureSession | None:
        """There when the handshake is over."""
        return self._channel.session

    def start(self) -> bytes:
        """The initiator's first message."""
        return _framed(self._channel.start())

    def body_size(self, header: bytes) -> int:
        """Bytes of a message: any 16-bit number."""
        return int.from_bytes(header, "big")

    def receive(self, message: bytes) -> bytes:
        """Take the peer's message; return what to send back, or b""."""
        answer = self._channel.receive(message[LENGTH_SIZE:])
        return b"" if answer is None else _framed(answer)

    def last_words(self) -> bytes:
        """None: Noise does not say why."""
        return b""

    def records(self, keystream: Keystream) -> tuple[RecordSealer, RecordOpener]:
        """What encrypts and decrypts from now on."""
        keys = self._channel.keys
        assert keys is not None
        return RecordSealer(keys.send, keystream), RecordOpener(keys.receive)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(LENGTH_SIZE, "big") + message
