"""`/bethrou/join/1.0.0`, the node's side: a device with an invite becomes a member, while the operator is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.discovery.membership import Membership
from bethrou.discovery.rate_limit import RateLimit
from bethrou.errors import BethrouError, DecodeError
from bethrou.events import Emit, InviteRefused
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.wire.grant import CLOCK_SKEW, Admission, Grant, open_redemption
from bethrou.wire.join_message import (
    MAX_MESSAGE,
    PROTOCOL,
    JoinRequest,
    Refusal,
    decode_answer,
    encode_admission,
    encode_refusal,
)
from bethrou.wire.json_reader import decode_object
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId

TIMEOUT = 10.0
"""Seconds for the device's message, and for ours."""

MAX_CONVERSATIONS = 32
"""Devices that may be joining at once."""

RATE, BURST = 10.0, 50
"""Invites a second that are looked at, in the long run and at once: two signatures each, for whoever has the key."""

_UNWRITTEN = "this node cannot write down that the invite is used"


class _Refused(Exception):
    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class JoinService:
    """Redeems invites at `host`, which is the node `identity`. `time` gives Unix time in seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        identity: Identity,
        membership: Membership,
        emit: Emit,
        time: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._identity = identity
        self._membership = membership
        self._book = membership.book
        self._emit = emit
        self._time = time
        self._rate = RateLimit(RATE, BURST)
        self._tasks = Tasks(loop)
        host.handle(PROTOCOL, self.serve)

    async def close(self) -> None:
        """End the conversations under way."""
        await self._tasks.close()

    def serve(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        """Handler of inbound streams."""
        if len(self._tasks) >= MAX_CONVERSATIONS or not self._rate.take(self._loop.time()):
            stream.reset(RESOURCE_LIMIT)
            return
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self._tasks.start(self._converse(link.peer_id, stream, reader), f"join of {link.peer_id.short}")

    async def _converse(self, peer: PeerId, stream: YamuxStream, reader: ByteReader) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                message = await reader.read_prefixed(MAX_MESSAGE)
                stream.write(await self._answer(peer, message))
            stream.close()
        except (BethrouError, TimeoutError):
            return
        finally:
            stream.abort()

    async def _answer(self, peer: PeerId, message: bytes) -> bytes:
        try:
            return encode_admission(await self._admit(peer, message))
        except _Refused as error:
            self._emit(InviteRefused(str(peer), str(error)))
            return encode_refusal(error.refusal, str(error))

    async def _admit(self, peer: PeerId, message: bytes) -> bytes:
        """Let `peer` in; the admission. Nothing is awaited between the look at who has used the invite and the note."""
        try:
            request = JoinRequest.decode(decode_object(message, MAX_MESSAGE))
            grant = Grant.open(request.grant, self._book.operator)
        except DecodeError as error:
            raise _Refused(
                Refusal.FOREIGN, f"the invite is none of this network's operator ({error})"
            ) from None
        try:
            redeemer = open_redemption(request.redemption, grant)
        except DecodeError as error:
            raise _Refused(Refusal.INVALID, str(error)) from None
        if redeemer != peer:
            raise _Refused(
                Refusal.INVALID, "the invite is redeemed for another device than the one that asks"
            )
        self._check(peer, grant)
        holder = self._book.holder(grant.key)
        known = self._book.admissions.get(grant.key)
        if known is not None and holder == peer:
            await self._write_down()
            return known[1]
        envelope = Admission.seal(self._identity, request.grant, request.redemption, int(self._time()))
        if holder == peer:
            return envelope  # the list has it already
        try:
            await self._membership.admit(Admission.open(envelope, self._book.operator), envelope)
        except OSError:
            raise _Refused(Refusal.UNABLE, _UNWRITTEN) from None
        if self._book.holder(grant.key) != peer:
            raise _Refused(Refusal.UNABLE, "this node is no node of the network, or has no room for more")
        return envelope

    async def _write_down(self) -> None:
        """Have on disk what was admitted by another conversation, which may not have got so far."""
        try:
            await self._membership.store()
        except OSError:
            raise _Refused(Refusal.UNABLE, _UNWRITTEN) from None

    def _check(self, peer: PeerId, grant: Grant) -> None:
        if grant.network != self._book.network:
            raise _Refused(Refusal.FOREIGN, "the invite is to another network")
        if peer in self._book.removed:
            raise _Refused(Refusal.REMOVED, "this device was removed from the network")
        if grant.key in self._book.removed:
            raise _Refused(Refusal.REMOVED, "the invite was withdrawn, or its device was removed")
        holder = self._book.holder(grant.key)
        if holder is not None and holder != peer:
            raise _Refused(Refusal.USED, "the invite is used: another device has joined with it")
        now = self._time()
        if holder is None and now >= grant.expires:
            raise _Refused(Refusal.EXPIRED, "the invite has expired")
        if now < grant.issued - CLOCK_SKEW:
            raise _Refused(
                Refusal.INVALID, "the invite is from the future: compare the clocks of both machines"
            )


async def redeem(host: Host, link: Link, request: JoinRequest) -> bytes | tuple[Refusal, str]:
    """Ask the node at the other end of `link` to let us in; its admission, or why not.

    Raises `BethrouError` and `TimeoutError` when it gives no answer.
    """
    async with asyncio.timeout(TIMEOUT):
        negotiation = await host.open(link, [PROTOCOL], request.encode())
        try:
            await negotiation.agreed()
            answer = await negotiation.reader.read_prefixed(MAX_MESSAGE)
            negotiation.stream.close()
        finally:
            negotiation.stream.abort()
    return decode_answer(decode_object(answer, MAX_MESSAGE))
