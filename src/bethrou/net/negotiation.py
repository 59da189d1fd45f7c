"""Agreeing on a stream's protocol, in both roles (multistream-select 1.0; wire/multistream.py).

Opening costs no round trip when the peer is known to speak the protocol: header, proposal and the protocol's first
message leave in one frame, and the answer is read when the protocol's own answer is. Accepting costs no task: the
usual stream is agreed on inside the call that delivered its first frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bethrou.errors import LinkLost, NegotiationError
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.net.timeouts import TimeoutQueue
from bethrou.wire.multistream import Dialer, Listener

NEGOTIATION_FAILED = 0x1001
"""RST code (go-libp2p core/network, stream error codes)."""


def propose(stream: YamuxStream, protocols: Sequence[str], first: bytes = b"") -> OutboundNegotiation:
    """Propose `protocols`, the best first, and send `first` right behind the proposal.

    `first` is for a single protocol that the peer is known to speak: it is lost when the peer refuses.
    """
    return OutboundNegotiation(stream, protocols, first)


class OutboundNegotiation:
    """A proposal under way. `reader` becomes the stream's protocol at once."""

    def __init__(self, stream: YamuxStream, protocols: Sequence[str], first: bytes) -> None:
        self.reader = ByteReader(stream)
        stream.set_protocol(self.reader)
        self.stream = stream
        self._dialer = Dialer(protocols)
        stream.write(self._dialer.data_to_send() + first)

    async def agreed(self) -> str:
        """Wait for the peer's answer. What follows is then read from `reader`.

        Raises `UnsupportedProtocol`, `NegotiationError`, `StreamReset` or `LinkLost`.
        """
        while True:
            data = await self.reader.read_some()
            if not data:
                raise LinkLost("the peer ended the stream instead of agreeing on a protocol")
            protocol = self._dialer.receive(data)
            answer = self._dialer.data_to_send()
            if answer:
                self.stream.write(answer)
            if protocol is not None:
                self.reader.push_back(self._dialer.surplus)
                return protocol


class InboundNegotiation(asyncio.Protocol):
    """The protocol of a stream that the peer opened, until both agree on what it is for.

    `accept(protocol, surplus)` is called once, with the bytes that came behind the proposal; it sets the stream's
    next protocol. A peer that takes longer than `deadlines` allows, or makes no sense, gets its stream reset.
    """

    __slots__ = ("_accept", "_deadlines", "_listener", "_stream")

    def __init__(
        self,
        stream: YamuxStream,
        supports: Callable[[str], bool],
        accept: Callable[[str, bytes], None],
        deadlines: TimeoutQueue,
    ) -> None:
        self._stream = stream
        self._listener = Listener(supports)
        self._accept = accept
        self._deadlines = deadlines
        deadlines.start(self, self._give_up)

    def data_received(self, data: bytes) -> None:
        try:
            protocol = self._listener.receive(data)
        except NegotiationError:
            self._give_up()
            return
        if protocol is None:
            self._stream.write(self._listener.data_to_send())
            return
        self._deadlines.stop(self)
        self._stream.hold(self._listener.data_to_send())  # the handler's first words go in the same frame
        self._accept(protocol, self._listener.surplus)
        self._stream.release()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.stop(self)

    def _give_up(self) -> None:
        self._deadlines.stop(self)
        self._stream.reset(NEGOTIATION_FAILED)
