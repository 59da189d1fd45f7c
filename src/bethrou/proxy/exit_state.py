"""`/bethrou/state/1.0.0`: an exit tells its members whether it takes requests, and how busy it is.

It is the only channel for that: a GOAWAY would make go close the link, and identify push is rate-limited. A member
opens one stream a link; the exit sends its state at once and on every change, at most once a second. Load alone is
sent when it has changed by a good deal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from bethrou.wire.state_message import PROTOCOL, StateMessage

_INTERVAL = 1.0  # seconds between two messages at least
_MAX_UNREAD = 16 * 1024  # bytes that a member may leave unread before its stream is reset
_LOAD_STEP = 64  # requests by which the load must have changed to be worth a message
_CPU_STEP = 0.1  # share of a core, likewise

__all__ = ["PROTOCOL", "StateService"]


class StateService:
    """The state of this exit, and the members who are told of it.

    `streams` is kept up to date by the exit node; `draining` is set by whoever stops the node. `cpu_seconds` says how
    much processor time this process has used.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        grace: float,
        name: str,
        tags: tuple[str, ...],
        cpu_seconds: Callable[[], float],
    ) -> None:
        self.streams = 0
        """Requests being carried."""
        self.draining = False
        self._loop = loop
        self._cpu_seconds = cpu_seconds
        self._cpu_then = (loop.time(), cpu_seconds())
        self._cpu = 0.0
        self._grace = grace
        self._name = name
        self._tags = tags
        self._members: dict[Link, _Member] = {}
        self._told = 0
        self._timer: asyncio.TimerHandle | None = None

    def serve(self, link: Link, stream: YamuxStream, _surplus: bytes) -> None:
        """Handler of inbound state streams. There is one a link: a new one takes the place of the old."""
        member = _Member(self._members, link, stream)
        stream.set_protocol(member)
        former = self._members.pop(link, None)
        if former is not None:
            former.stream.abort()
        self._members[link] = member
        stream.write(self._message())
        if self._timer is None:
            self._timer = self._loop.call_later(_INTERVAL, self._look)

    def describe(self, grace: float, name: str, tags: tuple[str, ...]) -> None:
        """Say this of the exit from now on."""
        if (grace, name, tags) != (self._grace, self._name, self._tags):
            self._grace, self._name, self._tags = grace, name, tags
            self._tell()

    def drain(self) -> None:
        """From now on no new requests are taken; members are told at once."""
        self.draining = True
        self._tell()

    def close(self) -> None:
        """Stop telling."""
        if self._timer is not None:
            self._timer.cancel()
        for member in list(self._members.values()):
            member.stream.close()

    def _look(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._look) if self._members else None
        told = self._cpu
        self._measure_cpu()
        if abs(self.streams - self._told) >= _LOAD_STEP or abs(self._cpu - told) >= _CPU_STEP:
            self._tell()
        else:
            self._cpu = told

    def _measure_cpu(self) -> None:
        now, used = self._loop.time(), self._cpu_seconds()
        then, used_then = self._cpu_then
        if now > then:
            self._cpu = min(1.0, (used - used_then) / (now - then))
            self._cpu_then = (now, used)

    def _tell(self) -> None:
        self._told = self.streams
        message = self._message()
        for member in list(self._members.values()):
            if member.stream.get_write_buffer_size() > _MAX_UNREAD:
                member.stream.abort()
            else:
                member.stream.write(message)

    def _message(self) -> bytes:
        return StateMessage(
            draining=self.draining,
            grace=self._grace,
            streams=self.streams,
            cpu=self._cpu,
            name=self._name,
            tags=self._tags,
        ).encode()


class _Member(asyncio.Protocol):
    """A member that listens; it has nothing to say, and may end its direction for that reason."""

    def __init__(self, members: dict[Link, _Member], link: Link, stream: YamuxStream) -> None:
        self.stream = stream
        self._members = members
        self._link = link

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._members.get(self._link) is self:
            del self._members[self._link]
