"""From a raw transport to the keys of a link: pnet, multistream, Noise, and the choice of muxer.

Either role has one deadline for the whole. Until the peer's multistream header has come, anything that makes no sense
(random bytes, a close, silence) most likely means that the two sides hold different network keys, and is reported so:
pnet itself has no way to tell.

The dialer sends nonce, multistream header, proposal and Noise message 1 in one piece. There is only one proposal, so
nothing is lost when the peer refuses it, and a round trip is saved (rust's V1Lazy does the same).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bethrou.errors import (
    BethrouError,
    HandshakeError,
    LinkLost,
    NegotiationError,
    NetworkKeyMismatch,
    UnsupportedProtocol,
)
from bethrou.net.link import Upgraded
from bethrou.net.reader import ByteReader
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.multistream import Dialer, Listener
from bethrou.wire.noise.records import RecordOpener, RecordSealer
from bethrou.wire.noise.secure_channel import PROTOCOL_ID as NOISE
from bethrou.wire.noise.secure_channel import NoiseChannel, SecureSession
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import NONCE_SIZE, Keystream
from bethrou.wire.psk import NetworkKey

YAMUX = "/yamux/1.0.0"

UPGRADE_TIMEOUT = 10.0
"""Seconds for the whole upgrade, in either role (go has 15 for accepted, 5 to 15 for dialled connections)."""

_KEY_HINT = "most likely the two sides hold different network keys"


@dataclass(frozen=True)
class Upgrader:
    """What every upgrade of a host needs. `randbytes` gives pnet nonces, `clock` seconds."""

    network_key: NetworkKey
    identity: Identity
    randbytes: Callable[[int], bytes]
    clock: Callable[[], float]
    make_channel: type[NoiseChannel] = NoiseChannel
    muxers: tuple[str, ...] = (YAMUX,)

    async def dial(self, transport: asyncio.Transport, expected: PeerId | None) -> Upgraded:
        """Upgrade a connection that we opened.

        Raises `NetworkKeyMismatch`, `IdentityMismatch`, `HandshakeError`, `UnsupportedProtocol` or `LinkLost`; the
        transport is then aborted.
        """
        return await self._bounded(_Dialling(self, transport, expected), transport)

    async def accept(self, transport: asyncio.Transport) -> Upgraded:
        """Upgrade a connection that the peer opened. Raises as `dial` does."""
        return await self._bounded(_Accepting(self, transport, None), transport)

    async def _bounded(self, upgrade: _Upgrade, transport: asyncio.Transport) -> Upgraded:
        done = False
        try:
            async with asyncio.timeout(UPGRADE_TIMEOUT):
                upgraded = await upgrade.run()
            done = True
            return upgraded
        except TimeoutError:
            raise upgrade.timed_out() from None
        finally:
            if not done:
                transport.abort()


class _Upgrade:
    """One upgrade under way."""

    initiator: bool

    def __init__(self, upgrader: Upgrader, transport: asyncio.Transport, expected: PeerId | None) -> None:
        self._upgrader = upgrader
        self._reader = _reader_of(transport)
        self._nonce = upgrader.randbytes(NONCE_SIZE)
        self._out = Keystream(upgrader.network_key.raw, self._nonce)
        self._in: Keystream | None = None
        self._channel = upgrader.make_channel(
            upgrader.identity, initiator=self.initiator, expected=expected, muxers=upgrader.muxers
        )
        self._round_trip = 0.0
        self._security: Dialer | Listener | None = None

    def timed_out(self) -> HandshakeError:
        """What to say when the deadline passed."""
        late = f"the handshake did not end within {UPGRADE_TIMEOUT:.0f} s"
        return HandshakeError(late) if self._greeted else NetworkKeyMismatch(f"{late}; {_KEY_HINT}")

    async def run(self) -> Upgraded:
        try:
            try:
                await self._agree_on_noise()
            except (NegotiationError, LinkLost, OSError) as error:
                raise self._explain(error) from None
            session = await self._handshake()
            return await self._finish(session)
        except OSError as error:
            raise LinkLost(f"connection lost during the handshake: {error}") from None

    @property
    def _greeted(self) -> bool:
        """Whether the peer's first message made sense, which proves that it holds our network key."""
        return self._security is not None and self._security.greeted

    def _explain(self, error: Exception) -> BethrouError:
        """What it means that Noise was not agreed on."""
        if not self._greeted:
            if isinstance(error, NegotiationError):
                return NetworkKeyMismatch(f"{_KEY_HINT} (what the peer sends makes no sense with ours)")
            return NetworkKeyMismatch(f"{_KEY_HINT}, or the peer is just stopping ({error})")
        offered = ", ".join(self._security.refused) if isinstance(self._security, Listener) else ""
        if offered or isinstance(error, UnsupportedProtocol):
            instead = f", only {printable(offered, 200)}" if offered else ""
            return UnsupportedProtocol(f"the peer does not offer Noise (/noise){instead}")
        return HandshakeError(f"the peer ended the handshake before it began ({error})")

    async def _agree_on_noise(self) -> None:
        raise NotImplementedError

    async def _handshake(self) -> SecureSession:
        raise NotImplementedError

    def _write(self, data: bytes) -> None:
        self._reader.write(self._out.xor(data))

    async def _read_nonce(self) -> None:
        nonce = await self._reader.read_exactly(NONCE_SIZE)
        self._in = Keystream(self._upgrader.network_key.raw, nonce)
        self._reader.set_decoder(self._in.xor)

    def _write_message(self, message: bytes) -> None:
        self._write(len(message).to_bytes(2, "big") + message)

    async def _read_message(self) -> bytes:
        size = int.from_bytes(await self._reader.read_exactly(2), "big")
        return await self._reader.read_exactly(size)

    async def _negotiate(self, negotiation: Dialer | Listener) -> None:
        """Run multistream-select, whose first bytes are already written."""
        while True:
            data = await self._reader.read_some()
            if not data:
                raise LinkLost("the peer closed the connection")
            agreed = negotiation.receive(data)
            answer = negotiation.data_to_send()
            if answer:
                self._write(answer)
            if agreed is not None:
                self._reader.push_back(negotiation.surplus)
                return

    async def _finish(self, session: SecureSession) -> Upgraded:
        assert self._in is not None
        sealer = RecordSealer(session.keys.send, self._out)
        opener = RecordOpener(session.keys.receive)
        surplus = b""
        if session.muxer != YAMUX:
            surplus = await self._negotiate_muxer(sealer, opener)
        upgraded = Upgraded(
            session=session,
            initiator=self.initiator,
            send_keystream=self._out,
            receive_keystream=self._in,
            sealer=sealer,
            opener=opener,
            surplus=self._reader.detach(),
            plaintext_surplus=surplus,
            round_trip=self._round_trip,
        )
        if self._reader.ended:
            raise LinkLost("the peer closed the connection right after the handshake")
        return upgraded

    async def _negotiate_muxer(self, sealer: RecordSealer, opener: RecordOpener) -> bytes:
        """multistream-select inside the channel, for peers that know no early choice; the bytes behind it."""
        negotiation = Dialer([YAMUX]) if self.initiator else Listener(lambda name: name == YAMUX)
        agreed = None
        while True:
            answer = negotiation.data_to_send()
            if answer:
                self._reader.write(bytes(sealer.seal(answer)))
            if agreed is not None:
                return negotiation.surplus
            agreed = negotiation.receive(opener.open(await self._read_message()))


def _reader_of(transport: asyncio.Transport) -> ByteReader:
    """The reader that has listened since the connection was made, or a new one.

    Go writes its first bytes as soon as it is connected: they may be here before whoever waited for the connection.
    """
    reader = transport.get_protocol()
    if not isinstance(reader, ByteReader):
        reader = ByteReader(transport)
        transport.set_protocol(reader)
    return reader


class _Dialling(_Upgrade):
    initiator = True

    async def _agree_on_noise(self) -> None:
        started = self._upgrader.clock()
        negotiation = self._security = Dialer([NOISE])
        first = self._channel.start()
        hello = negotiation.data_to_send() + len(first).to_bytes(2, "big") + first
        self._reader.write(self._nonce + self._out.xor(hello))
        await self._read_nonce()
        await self._negotiate(negotiation)
        self._round_trip = self._upgrader.clock() - started

    async def _handshake(self) -> SecureSession:
        answer = self._channel.receive(await self._read_message())
        assert answer is not None and self._channel.session is not None
        self._write_message(answer)
        return self._channel.session


class _Accepting(_Upgrade):
    initiator = False

    async def _agree_on_noise(self) -> None:
        negotiation = self._security = Listener(lambda name: name == NOISE)
        self._reader.write(self._nonce + self._out.xor(negotiation.data_to_send()))
        await self._read_nonce()
        await self._negotiate(negotiation)

    async def _handshake(self) -> SecureSession:
        answer = self._channel.receive(await self._read_message())
        assert answer is not None
        started = self._upgrader.clock()
        self._write_message(answer)
        self._channel.receive(await self._read_message())
        self._round_trip = self._upgrader.clock() - started
        assert self._channel.session is not None
        return self._channel.session
