"""The client's side of a proxied request: ask one exit, and tell apart whose fault a failure is.

With 1.1.0 the exit says `dialing` at once; RST, `na` or 3 s of silence before that are the exit's fault, and another
may be asked. After it, silence is the destination's. With 1.0.0 (Go) there is no such sign: silence says nothing about
the exit, so it is never held against it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from bethrou.errors import BethrouError, Failure, LinkLost, NoAnswer, PeerError, RequestError, StreamReset
from bethrou.net.link import Link
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy.plans import MAX_ATTEMPTS
from bethrou.wire.proxy_request import (
    PROTOCOL_V1_0,
    PROTOCOL_V1_1,
    Answer,
    Connected,
    Dialing,
    ProxyRequest,
    Refused,
)
from bethrou.wire.request_dialog import AnyRequestDialog, GoRequestDialog, RequestDialog

TAKE_TIMEOUT = 3.0
"""Seconds that an exit has to say `dialing`. The time to wait for a stream counts: it may have too many unanswered.

It is less where a request has so little time altogether that other exits could not be asked in it."""


class ExitFault(Exception):
    """The exit did not take the request: another may be asked. `counts`: it is held against this exit."""

    def __init__(self, reason: str, failure: Failure = Failure.INTERNAL, counts: bool = True) -> None:
        super().__init__(reason)
        self.failure = failure
        self.counts = counts


class Accepted(NamedTuple):
    """A request that an exit carries out: raw bytes from here on."""

    stream: YamuxStream
    reader: ByteReader
    bound: tuple[str, int] | None
    """The exit's own address towards the destination."""
    half_close: bool
    """Whether the exit passes FIN on in both directions (1.1.0), or ends the stream at the first (1.0.0, Go)."""


@dataclass(slots=True)
class Attempt:
    """One request to one exit, and what its asking tells of the exit."""

    began: float
    """When it was sent, in the loop's seconds."""
    took: float | None = None
    """Seconds until the exit said that it has it (`dialing`); None: it has not, or gives no such sign (1.0.0)."""


class Limits:
    """The two timeouts, shared by all requests: for the exit's first sign, and for its final answer, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: float) -> None:
        self.take = TimeoutQueue(loop, min(TAKE_TIMEOUT, answer / MAX_ATTEMPTS))
        self.answer = TimeoutQueue(loop, answer)

    def close(self) -> None:
        """Forget all."""
        self.take.close()
        self.answer.close()


async def ask(link: Link, request: ProxyRequest, limits: Limits, attempt: Attempt) -> Accepted:
    """Have the exit at the other end of `link` carry `request` out. Notes in `attempt` when the exit has taken it.

    Raises `ExitFault` when another exit may be asked, and `RequestError` when the answer is final: `NoAnswer` when
    there was none in time, which says nothing about the exit.
    """
    statement = link.statement
    protocols = statement.protocols if statement is not None else ()
    dialog: AnyRequestDialog
    if PROTOCOL_V1_1 in protocols:
        dialog, first_limit = RequestDialog(request), limits.take
    else:
        dialog, first_limit = GoRequestDialog(request, known=PROTOCOL_V1_0 in protocols), limits.answer
    conversation = _Conversation(dialog, limits, first_limit, attempt)
    carried_out = False
    try:
        conversation.begin(link.try_open_stream() or await conversation.wait_for_stream(link))
        accepted = await conversation.outcome
        carried_out = True
        return accepted
    except BethrouError as error:
        raise (error if isinstance(error, RequestError) else ExitFault(str(error))) from None
    finally:
        conversation.finish(carried_out)


class _Conversation(ByteReader):
    """The protocol of a request's stream until the exit has answered, and then its reader until the splice takes over.

    `outcome` is an `Accepted`, or raises what `ask` raises. There is no task in it: a thousand requests a second pass
    here.
    """

    __slots__ = (
        "_answered",
        "_attempt",
        "_dialog",
        "_limit",
        "_limits",
        "_loop",
        "_room",
        "_stream",
        "outcome",
    )

    def __init__(
        self, dialog: AnyRequestDialog, limits: Limits, first: TimeoutQueue, attempt: Attempt
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Accepted] = self._loop.create_future()
        self._attempt = attempt
        self._dialog = dialog
        self._limits = limits
        self._limit = first
        """The one that runs."""
        self._stream: YamuxStream | None = None
        self._answered = False
        self._room: asyncio.Future[None] | None = None
        """Awaited while the link has no room for another stream."""
        first.start(self, self._not_taken if first is limits.take else self._no_answer)

    async def wait_for_stream(self, link: Link) -> YamuxStream:
        """A stream as soon as there is one. Raises `LinkLost`, and what ends the conversation meanwhile.

        There is no task for it: thousands may wait here at a time.
        """
        while (stream := link.try_open_stream()) is None:
            if not link.alive:
                raise LinkLost("the link went away")
            self._room = link.room()
            goes_on = False
            try:
                await self._room
                if self.outcome.done():
                    await self.outcome  # the time is up
                goes_on = True
            finally:
                self._room = None
                if not goes_on:
                    link.pass_room_on()
        return stream

    def begin(self, stream: YamuxStream) -> None:
        """Send the request."""
        self.transport = self._stream = stream
        stream.set_protocol(self)
        stream.write(self._dialog.data_to_send())

    def finish(self, carried_out: bool) -> None:
        """Stop the clock; end the stream unless the request is carried out."""
        self._limit.stop(self)
        if not carried_out:
            if not self.outcome.cancel() and not self.outcome.cancelled():
                self.outcome.exception()  # seen, or given up together with the request: nobody else asks for it
            if self._stream is not None:
                self._stream.abort()

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._answered:
            super().data_received(data)
            return
        try:
            answer = self._dialog.receive(data)
            if isinstance(answer, Dialing):
                self._attempt.took = self._loop.time() - self._attempt.began
                self._limit.stop(self)
                self._limit = self._limits.answer
                self._limit.start(self, self._no_answer)
                answer = self._dialog.receive(b"")
        except PeerError as error:
            self._fail(ExitFault(str(error)))
            return
        if answer is not None:
            self._take(answer)
        elif (more := self._dialog.data_to_send()) != b"":
            self.transport.write(more)

    def eof_received(self) -> bool:
        self._fail(ExitFault("the exit ended the stream instead of answering"))
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(_fault_of(exc, self._dialog))
        super().connection_lost(exc)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _take(self, answer: Answer) -> None:
        self._answered = True
        if isinstance(answer, Refused):
            self._fail(_verdict(answer))
            return
        assert isinstance(answer, Connected) and self._stream is not None
        self.push_back(self._dialog.surplus)
        if not self.outcome.done():
            half_close = isinstance(self._dialog, RequestDialog)
            self.outcome.set_result(Accepted(self._stream, self, answer.bound, half_close))

    def _fail(self, error: ExitFault | RequestError) -> None:
        self._answered = True
        if not self.outcome.done():
            self.outcome.set_exception(error)
            if self._room is not None and not self._room.done():
                self._room.set_result(None)

    def _not_taken(self) -> None:
        self._fail(ExitFault(f"the exit did not take the request within {self._limits.take.seconds:.3g} s"))

    def _no_answer(self) -> None:
        self._fail(NoAnswer(Failure.TIMEOUT, f"no answer within {self._limits.answer.seconds:g} s"))


def _fault_of(error: Exception | None, dialog: AnyRequestDialog) -> ExitFault:
    """What it means that the stream is gone before an answer.

    A Go exit resets streams beyond its limit without a reason: that it is full is not held against it.
    """
    full = isinstance(error, StreamReset) and (
        error.code == RESOURCE_LIMIT or isinstance(dialog, GoRequestDialog)
    )
    if full:
        return ExitFault("the exit has no room for another request", Failure.OVERLOADED, counts=False)
    return ExitFault(str(error or "the exit ended the stream instead of answering"))


def _verdict(answer: Refused) -> RequestError | ExitFault:
    if answer.failure.final:
        return RequestError(answer.failure, answer.message)
    counts = answer.failure is Failure.INTERNAL
    return ExitFault(answer.message or answer.failure.value, answer.failure, counts)
