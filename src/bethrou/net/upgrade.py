"""From a raw transport to the keys of a link: pnet, multistream, the secure channel, and the choice of muxer.

Either role has one deadline for the whole. Until the peer's multistream header has come, anything that makes no sense
(random bytes, a close, silence) most likely means that the two sides hold different network keys, and is reported so:
pnet itself has no way to tell.

A dialer that proposes one security sends nonce, multistream header, proposal and its first message in one piece: a
round trip is saved (rust's V1Lazy does the same). A peer that refuses it cannot make sense of what follows, so the next
security is proposed on a connection of its own (`connect`). Where there is only one connection to be had, all are
proposed on it, and the answer is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bethrou.errors import (
    BethrouError,
    HandshakeError,
    LinkLost,
    NegotiationError,
    NetworkKeyMismatch,
    UnsupportedProtocol,
)
from bethrou.net.link import Upgraded
from bethrou.net.reader import reader_of
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.multistream import Dialer, Listener
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import NONCE_SIZE, Keystream
from bethrou.wire.psk import NetworkKey
from bethrou.wire.secure_channel import Handshake, Opener, Sealer, SecureSession, Security

YAMUX = "/yamux/1.0.0"

UPGRADE_TIMEOUT = 10.0
"""Seconds for the whole upgrade, in either role (go has 15 for accepted, 5 to 15 for dialled connections)."""

KEY_HINT = "most likely the two sides hold different network keys"


@dataclass(frozen=True)
class Upgrader:
    """What every upgrade of a host needs. `randbytes` gives pnet nonces, `clock` seconds.

    `securities` are those that are spoken, the one to propose first in front.
    """

    network_key: NetworkKey
    securities: tuple[Security, ...]
    randbytes: Callable[[int], bytes]
    clock: Callable[[], float]
    muxers: tuple[str, ...] = (YAMUX,)

    def under(self, identity: Identity) -> Upgrader:
        """The same for another identity."""
        return replace(self, securities=tuple(each.under(identity) for each in self.securities))

    async def connect(
        self, connect: Callable[[], Awaitable[asyncio.Transport]], expected: PeerId | None
    ) -> tuple[asyncio.Transport, Upgraded]:
        """Open a connection and upgrade it; another one for each security that the peer does not have.

        Raises what `dial` and `connect` raise.
        """
        reasons = []
        for security in self.securities:
            transport = await connect()
            try:
                return transport, await self._dial(transport, expected, (security,))
            except UnsupportedProtocol as refusal:
                reasons.append(str(refusal))
        raise UnsupportedProtocol("; ".join(dict.fromkeys(reasons)))

    async def dial(self, transport: asyncio.Transport, expected: PeerId | None) -> Upgraded:
        """Upgrade a connection that we opened.

        Raises `NetworkKeyMismatch`, `IdentityMismatch`, `HandshakeError`, `UnsupportedProtocol` or `LinkLost`; the
        transport is then closed.
        """
        return await self._dial(transport, expected, self.securities)

    async def accept(self, transport: asyncio.Transport) -> Upgraded:
        """Upgrade a connection that the peer opened. Raises as `dial` does."""
        return await self._bounded(_Accepting(self, transport, None, self.securities))

    async def _dial(
        self, transport: asyncio.Transport, expected: PeerId | None, securities: Sequence[Security]
    ) -> Upgraded:
        return await self._bounded(_Dialling(self, transport, expected, securities))

    async def _bounded(self, upgrade: _Upgrade) -> Upgraded:
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
                upgrade.give_up()


class _Upgrade:
    """One upgrade under way."""

    initiator: bool

    def __init__(
        self,
        upgrader: Upgrader,
        transport: asyncio.Transport,
        expected: PeerId | None,
        securities: Sequence[Security],
    ) -> None:
        self._upgrader = upgrader
        self._transport = transport
        self._expected = expected
        self._securities = {each.protocol_id: each for each in securities}
        self._reader = reader_of(transport)
        self._nonce = upgrader.randbytes(NONCE_SIZE)
        self._out = Keystream(upgrader.network_key.raw, self._nonce)
        self._in: Keystream | None = None
        self._handshake: Handshake | None = None
        self._round_trip = 0.0
        self._negotiation: Dialer | Listener | None = None

    def timed_out(self) -> HandshakeError:
        """What to say when the deadline passed."""
        late = f"the handshake did not end within {UPGRADE_TIMEOUT:.0f} s"
        return HandshakeError(late) if self._greeted else NetworkKeyMismatch(f"{late}; {KEY_HINT}")

    def give_up(self) -> None:
        """End the connection, with a word to the peer where the security has one."""
        words = self._handshake.last_words() if self._handshake is not None else b""
        if words and not self._transport.is_closing():
            self._write(words)
            self._transport.close()
        else:
            self._transport.abort()

    async def run(self) -> Upgraded:
        try:
            try:
                security, handshake = await self._agree()
            except (NegotiationError, LinkLost, OSError) as error:
                raise self._explain(error) from None
            session = await self._shake_hands(handshake)
            return await self._finish(security, handshake, session)
        except OSError as error:
            raise LinkLost(f"connection lost during the handshake: {error}") from None

    @property
    def _greeted(self) -> bool:
        """Whether the peer's first message made sense, which proves that it holds our network key."""
        return self._negotiation is not None and self._negotiation.greeted

    def _explain(self, error: Exception) -> BethrouError:
        """What it means that no security was agreed on."""
        if not self._greeted:
            if isinstance(error, NegotiationError):
                return NetworkKeyMismatch(f"{KEY_HINT} (what the peer sends makes no sense with ours)")
            return NetworkKeyMismatch(f"{KEY_HINT}, or the peer is just stopping ({error})")
        offered = ", ".join(self._negotiation.refused) if isinstance(self._negotiation, Listener) else ""
        if offered or isinstance(error, UnsupportedProtocol):
            instead = f", only {printable(offered, 200)}" if offered else ""
            ours = " or ".join(f"{each.title} ({each.protocol_id})" for each in self._securities.values())
            return UnsupportedProtocol(f"the peer does not offer {ours}{instead}")
        ended = f"the peer ended the handshake before it began ({error})"
        if self.initiator and isinstance(error, LinkLost | OSError):
            # It may have refused our proposal, and then found no sense in the message behind it: its `na` is lost.
            return UnsupportedProtocol(ended)
        return HandshakeError(ended)

    async def _agree(self) -> tuple[Security, Handshake]:
        """Agree on a security, and begin its handshake."""
        raise NotImplementedError

    def _begin(self, security: Security) -> Handshake:
        self._handshake = security.handshake(
            initiator=self.initiator, expected=self._expected, muxers=self._upgrader.muxers
        )
        return self._handshake

    async def _shake_hands(self, handshake: Handshake) -> SecureSession:
        answered: float | None = None
        while (session := handshake.session) is None:
            message = await self._read_message(handshake)
            if answered is not None and not self.initiator and not self._round_trip:
                self._round_trip = self._upgrader.clock() - answered
            answer = handshake.receive(message)
            if answer:
                self._write(answer)
                answered = self._upgrader.clock()
        return session

    def _write(self, data: bytes) -> None:
        self._reader.write(self._out.xor(data))

    async def _read_nonce(self) -> None:
        nonce = await self._reader.read_exactly(NONCE_SIZE)
        self._in = Keystream(self._upgrader.network_key.raw, nonce)
        self._reader.set_decoder(self._in.xor)

    async def _read_message(self, handshake: Handshake) -> bytes:
        header = await self._reader.read_exactly(handshake.header_size)
        return header + await self._reader.read_exactly(handshake.body_size(header))

    async def _negotiate(self, negotiation: Dialer | Listener) -> str:
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
                return agreed

    async def _finish(self, security: Security, handshake: Handshake, session: SecureSession) -> Upgraded:
        assert self._in is not None
        sealer, opener = handshake.records(self._out)
        surplus = b""
        if session.muxer != YAMUX:
            surplus = await self._negotiate_muxer(handshake, sealer, opener)
        upgraded = Upgraded(
            session=session,
            security=security.name,
            initiator=self.initiator,
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

    async def _negotiate_muxer(self, handshake: Handshake, sealer: Sealer, opener: Opener) -> bytes:
        """multistream-select inside the channel, for peers that know no early choice; the bytes behind it."""
        negotiation = Dialer([YAMUX]) if self.initiator else Listener(lambda name: name == YAMUX)
        agreed = None
        while True:
            answer = negotiation.data_to_send()
            if answer:
                self._reader.write(bytes(sealer.seal(answer)))
            if agreed is not None:
                return negotiation.surplus
            message = memoryview(await self._read_message(handshake))
            plaintext, _ = opener.read(message, 0, len(message))
            if plaintext is not None:
                agreed = negotiation.receive(plaintext)


class _Dialling(_Upgrade):
    initiator = True

    async def _agree(self) -> tuple[Security, Handshake]:
        started = self._upgrader.clock()
        negotiation = self._negotiation = Dialer(list(self._securities))
        hello = negotiation.data_to_send()
        handshake: Handshake | None = None
        if len(self._securities) == 1:
            [only] = self._securities.values()
            handshake = self._begin(only)
            hello += handshake.start()
        self._reader.write(self._nonce + self._out.xor(hello))
        await self._read_nonce()
        security = self._securities[await self._negotiate(negotiation)]
        self._round_trip = self._upgrader.clock() - started
        if handshake is None:
            handshake = self._begin(security)
            self._write(handshake.start())
        return security, handshake


class _Accepting(_Upgrade):
    initiator = False

    async def _agree(self) -> tuple[Security, Handshake]:
        negotiation = self._negotiation = Listener(self._securities.__contains__)
        self._reader.write(self._nonce + self._out.xor(negotiation.data_to_send()))
        await self._read_nonce()
        security = self._securities[await self._negotiate(negotiation)]
        return security, self._begin(security)
