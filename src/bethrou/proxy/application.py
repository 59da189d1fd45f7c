"""An application's connection, whatever it speaks: what is asked of all of them alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.errors import Failure, RequestError
from bethrou.net.splice import Splice
from bethrou.snapshots import ConnectionSnapshot
from bethrou.wire.proxy_request import ProxyRequest, join_address

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that an application has to say what it wants."""


class Application:
    """One connection of an application. What speaks its protocol sets these, and so does the carrier."""

    __slots__ = ("ended", "lost", "on_lost", "peer", "request", "splice", "started", "transport")

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.ended = False
        """Whether the application has sent all it will."""
        self.lost = False
        self.on_lost: Callable[[], object] | None = None
        """Called when the application is gone before its request is carried out."""
        self.splice: Splice | None = None
        self.request: ProxyRequest | None = None
        """What it asked for."""
        self.started = 0.0
        """When it did, in the loop's seconds."""
        self.peer = ""
        """The exit that carries it, or `carrier.DIRECT`; "" while one is being chosen."""

    # -- what each protocol says in its own words ----------------------------------------------------------------------

    def take_over(self, peer: str, bound: tuple[str, int] | None) -> asyncio.Transport:
        """The request is carried out by `peer`, which is `bound` to an address towards the destination: tell the
        application, and give its connection to the splice."""
        raise NotImplementedError

    def surplus(self) -> bytes:
        """What the application sent behind its request; reading goes on. To be called once, after `take_over`."""
        raise NotImplementedError

    def refuse(self, error: RequestError) -> None:
        """Tell the application why there is no connection."""
        raise NotImplementedError

    # -- what all do alike ---------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it comes from."""
        name = self.transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if name else "?"

    def snapshot(self, now: float) -> ConnectionSnapshot | None:
        """What the outside may see; None before there is a request."""
        request = self.request
        if request is None:
            return None
        sent, received = self.moved()
        return ConnectionSnapshot(
            id=request.id or "",
            destination=join_address(request.host, request.port),
            peer=self.peer,
            user=request.user or "",
            sent=sent,
            received=received,
            seconds=now - self.started,
            idle=self.idle_since(now),
        )

    def moved(self) -> tuple[int, int]:
        """Bytes to the destination, and from it."""
        splice = self.splice
        return (0, 0) if splice is None else (splice.bytes_from_left, splice.bytes_from_right)

    def idle_since(self, now: float) -> float:
        """Seconds since the last byte; 0 while a request is on its way."""
        if self.splice is not None:
            return now - self.splice.last_activity
        return float("inf") if self.request is None else 0.0

    def abort(self, reason: str = "the client is stopping") -> None:
        """End at once."""
        if self.splice is not None:
            self.splice.abort(RequestError(Failure.INTERNAL, reason))
        else:
            self.transport.abort()

    def drain(self) -> None:
        """The client takes nothing new: end what only waits for another request."""
