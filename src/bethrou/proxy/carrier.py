"""A request carried out, whichever protocol asked for it: rule, exit, splice, and the event at its end.

Success is told only after the destination is connected. Nothing is sent from this machine itself, unless a rule of the
configuration says `direct`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bethrou.config import Action
from bethrou.errors import RequestError
from bethrou.events import Emit, RequestEnded
from bethrou.net.splice import Splice, SpliceEnd
from bethrou.proxy.application import Application
from bethrou.proxy.exit import Exit
from bethrou.proxy.router import Routed, Router
from bethrou.proxy.rules import Ruling
from bethrou.wire.proxy_request import ProxyRequest, join_address
from bethrou.wire.user_name import UserName

if TYPE_CHECKING:  # they bring the resolver, which few clients need
    from bethrou.proxy.destination import EarlyBytes
    from bethrou.proxy.direct import DirectDialer

DIRECT = "direct"
"""Stands where else the exit's peer ID does, when a request left from this machine itself."""

Ended = Callable[..., None]
"""Reports the end of a request: exit, result, reason and, if there was one, the splice's end."""


class Opened(NamedTuple):
    """A destination that is connected: raw bytes from here on. `release` is to be called when that is over."""

    transport: asyncio.Transport
    early: bytes
    """What it has said already."""
    ended: bool
    """Whether it has said all it will."""
    lost: bool
    peer: str
    """The exit's peer ID, or `DIRECT`."""
    exit: Exit | None
    half_close: bool
    """Whether the end of our direction can be told without the loss of the other one."""


class Carrier:
    """Carries applications' requests out. `half_close_wait`: seconds for which FIN is held back from a 1.0.0 exit."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        emit: Emit,
        randbytes: Callable[[int], bytes],
        scratch: memoryview,
        half_close_wait: float,
    ) -> None:
        self.loop = loop
        self.connections: set[Application] = set()
        """All that are alive; whoever ends one takes it out."""
        self.half_close_wait = half_close_wait
        self.scratch = scratch
        self.direct: DirectDialer | None = None
        """Who dials from this machine; needed as soon as a rule says `direct`."""
        self._router = router
        self._emit = emit
        self._randbytes = randbytes

    # -- for those who want a pipe -----------------------------------------------------------------------------------

    async def carry(self, app: Application, host: str, port: int, name: UserName) -> None:
        """Join `app` with its destination, or refuse it. Cancelled when the application is gone."""
        started = self.loop.time()
        request = self.request(host, port, name)
        app.request, app.started = request, started
        ended = partial(self._ended, request, started)
        ruling = self._router.rule(request, name)
        try:
            if ruling.action is Action.DIRECT and self.direct is not None:
                transport, early = await self.direct.open(request)
                self._join_direct(app, transport, early, ended)
            else:
                self._join(app, await self._router.route(request, name, ruling), ended)
        except RequestError as error:
            app.refuse(error)
            ended(error.exit, error.failure.value, str(error))
        except asyncio.CancelledError:
            ended("", "aborted", "the application gave up")
            raise

    def _join(self, app: Application, routed: Routed, ended: Ended) -> None:
        exit_, accepted = routed  # what is kept until the end is the exit, and nothing of the asking

        def finished(end: SpliceEnd) -> None:
            self.connections.discard(app)
            self._router.finished(exit_)
            report(app.peer, "exit", end, ended)

        transport = app.take_over(str(exit_.peer), accepted.bound)
        app.splice = Splice(
            self.loop,
            transport,
            accepted.stream,
            finished,
            left_scratch=self.scratch,
            from_left=app.surplus(),
            from_right=accepted.reader.detach(),
            left_ended=app.ended,
            right_ended=accepted.reader.ended,
            left_lost=app.lost,
            right_lost=accepted.reader.lost,
            hold_fin_from_left=None if accepted.half_close else self.half_close_wait,
        )

    def _join_direct(
        self, app: Application, transport: asyncio.Transport, early: EarlyBytes, ended: Ended
    ) -> None:
        def finished(end: SpliceEnd) -> None:
            self.connections.discard(app)
            report(DIRECT, "destination", end, ended)

        bound = transport.get_extra_info("sockname")
        app.splice = Splice(
            self.loop,
            app.take_over(DIRECT, (bound[0], bound[1]) if bound else None),
            transport,
            finished,
            from_left=app.surplus(),
            from_right=early.data,
            left_ended=app.ended,
            right_ended=early.ended,
            left_lost=app.lost,
            right_lost=early.lost,
        )

    # -- for those who speak with the destination themselves ---------------------------------------------------------

    def request(self, host: str, port: int, name: UserName) -> ProxyRequest:
        """A request with a name of its own in the logs of both sides."""
        return ProxyRequest(host, port, self._randbytes(8).hex(), name.user or None)

    def rule(self, request: ProxyRequest, name: UserName) -> Ruling:
        """What the configuration says of it now."""
        return self._router.rule(request, name)

    def reporter(self, request: ProxyRequest, started: float) -> Ended:
        """What is to be called once, when `request` is over."""
        return partial(self._ended, request, started)

    async def open(self, request: ProxyRequest, name: UserName, ruling: Ruling) -> Opened:
        """Connect the destination. Raises `RequestError`; its end is the caller's to report."""
        if ruling.action is Action.DIRECT and self.direct is not None:
            transport, early = await self.direct.open(request)
            return Opened(transport, early.data, early.ended, early.lost, DIRECT, None, True)
        exit_, accepted = await self._router.route(request, name, ruling)
        reader = accepted.reader
        return Opened(
            accepted.stream,
            reader.detach(),
            reader.ended,
            reader.lost,
            str(exit_.peer),
            exit_,
            accepted.half_close,
        )

    def release(self, opened: Opened) -> None:
        """What `open` has connected is over."""
        if opened.exit is not None:
            self._router.finished(opened.exit)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _ended(
        self,
        request: ProxyRequest,
        started: float,
        peer: str,
        result: str,
        reason: str,
        end: SpliceEnd | None = None,
    ) -> None:
        self._emit(
            RequestEnded(
                id=request.id or "",
                peer=peer,
                destination=join_address(request.host, request.port),
                result=result,
                reason=reason,
                sent=end.from_left if end else 0,
                received=end.from_right if end else 0,
                seconds=self.loop.time() - started,
                user=request.user or "",
                connected=end.began - started if end else None,
                first_byte=end.first_byte_after(started) if end else None,
            )
        )


def report(peer: str, other: str, end: SpliceEnd, ended: Ended) -> None:
    """Tell `ended` how a splice ended; `other` is what its right side is called."""
    if end.error is None:
        ended(peer, "ok", "", end)
    else:
        ended(peer, "aborted", f"{'application' if end.failed_side == 'left' else other}: {end.error}", end)
