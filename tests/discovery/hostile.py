"""Members that do what they must not, on either side of a conversation, and records that are no good."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from bethrou.discovery.member_records import MAX_LIFETIME
from bethrou.net.link import Link
from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire import varint
from bethrou.wire.envelope import seal
from bethrou.wire.members_message import PROTOCOL
from bethrou.wire.node_record import DOMAIN, MAX_RECORD, PAYLOAD_TYPE
from net.hosts import Member, identity

from .network import NOW, Node, link_between, sealed

Script = Callable[[YamuxStream], Coroutine[None, None, None]]


def padded(envelope: bytes, size: int) -> bytes:
    """The envelope with a field more, of so many bytes, that no signature covers."""
    return envelope + b"\x32" + varint.encode(size) + bytes(size)


FORGED = {
    "altered": sealed("x").replace(b"5.5.5.5", b"5.5.5.6"),
    "signed by another": seal(
        identity("liar"), DOMAIN, PAYLOAD_TYPE, b'{"id":"%s","seq":1,"expires":%d,"addrs":["/ip4/5.5.5.5/tcp/1"]}'
        % (str(identity("x").peer_id).encode(), NOW + 60),
    ),
    "of another purpose": seal(identity("x"), "libp2p-peer-record", PAYLOAD_TYPE, b"{}"),
    "of another type": seal(identity("x"), DOMAIN, b"\x03\x01", b"{}"),
    "no JSON": seal(identity("x"), DOMAIN, PAYLOAD_TYPE, b"hello"),
    "no envelope": bytes(100),
    "longer than a record": padded(sealed("x"), MAX_RECORD),
}  # fmt: skip
VOID = {
    "expired": sealed("x", expires=NOW),
    "good for too long": sealed("x", expires=NOW + MAX_LIFETIME + 1),
    "good for ever": sealed("x", expires=(1 << 63) - 1),
}


class HostileAnswerer(Member):
    """A member that answers questions as a test says."""

    def __init__(self, name: str, script: Script) -> None:
        super().__init__(name)
        self.streams: list[YamuxStream] = []
        self._script = script
        self._told = Tasks(self.loop)
        self.handle(PROTOCOL, self._serve)

    def _serve(self, _link: Link, stream: YamuxStream, surplus: bytes) -> None:
        stream.set_protocol(ByteReader(stream, surplus))
        self.streams.append(stream)
        self._told.start(self._script(stream), "answering")

    async def close(self) -> None:
        await self._told.close()
        await super().close()


class HostileAsker(Member):
    """A member that opens streams to a node by hand."""

    async def ask(self, node: Node, message: bytes) -> OutboundNegotiation:
        return propose(await link_between(self, node).open_stream(), [PROTOCOL], message)
