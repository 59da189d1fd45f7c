"""A destination that plain HTTP requests of one application are sent to, kept from one request to the next."""

from __future__ import annotations

import asyncio

from bethrou.errors import RequestError
from bethrou.net.splice import SpliceEnd
from bethrou.net.tcp import end_writing
from bethrou.proxy.carrier import Carrier, Ended, Opened, report
from bethrou.proxy.http_pipe import HttpPipe
from bethrou.proxy.rules import Ruling
from bethrou.wire.proxy_request import ProxyRequest
from bethrou.wire.user_name import UserName


class Upstream:
    """One connection to a destination: in logs and lists, one request that an exit carries."""

    def __init__(
        self,
        carrier: Carrier,
        opened: Opened,
        request: ProxyRequest,
        name: UserName,
        ruling: Ruling,
        ended: Ended,
    ) -> None:
        self.pipe = HttpPipe(carrier.loop, opened.transport, opened.early, opened.ended, opened.lost)
        self.request = request
        self.half_close = opened.half_close
        self.peer = opened.peer
        self.used = False
        """Whether a request has been answered on it."""
        self._said_all = False
        self._carrier = carrier
        self._opened = opened
        self._name = name
        self._ruling = ruling
        self._ended: Ended | None = ended

    @property
    def through_exit(self) -> bool:
        """Whether an exit carries it: its transport has consumed or copied what it is given at once."""
        return self._opened.exit is not None

    @property
    def over(self) -> bool:
        """Whether its end has been reported."""
        return self._ended is None

    def serves(self, host: str, port: int, name: UserName, ruling: Ruling) -> bool:
        """Whether another request can be sent on it: one that would get a connection like this, now.

        Nothing may have come that nobody asked for: it would be taken for the answer.
        """
        exit_ = self._opened.exit
        return (
            not self.over
            and not self._said_all
            and (host, port, name, ruling) == (self.request.host, self.request.port, self._name, self._ruling)
            and not self.pipe.ended
            and not self.pipe.buffered
            and (exit_ is None or exit_.usable)
        )

    def end_writing(self) -> None:
        """Tell the destination that nothing more will come."""
        transport = self.pipe.transport
        if (
            not self._said_all
            and not self.pipe.lost
            and not transport.is_closing()
            and transport.can_write_eof()
        ):
            self._said_all = True
            end_writing(transport)

    def close(self) -> None:
        """It is needed no more, and all is well."""
        if not self.over:
            if not self.pipe.lost:
                self.pipe.transport.close()
            self._finish("ok", "")

    def fail(self, reason: str) -> None:
        """End it at once."""
        if not self.over:
            self.pipe.break_off()
            self._finish("aborted", reason)

    def spliced(self, end: SpliceEnd) -> None:
        """It was given to a splice, which has ended so."""
        if self._ended is not None:
            other = "destination" if self._opened.exit is None else "exit"
            pipe = self.pipe
            total = end._replace(
                from_left=end.from_left + pipe.sent,
                from_right=end.from_right + pipe.received,
                began=pipe.began,
                first_answer=pipe.first_received or end.first_answer,
            )
            ended, self._ended = self._ended, None
            self._carrier.release(self._opened)
            report(self.peer, other, total, ended)

    def _finish(self, result: str, reason: str) -> None:
        assert self._ended is not None
        ended, self._ended = self._ended, None
        self._carrier.release(self._opened)
        pipe = self.pipe
        end = SpliceEnd(pipe.sent, pipe.received, None, "", pipe.began, pipe.first_received)
        ended(self.peer, result, reason, end)


async def open_upstream(
    carrier: Carrier, request: ProxyRequest, started: float, name: UserName, ruling: Ruling
) -> Upstream:
    """Connect the destination of `request`. Raises `RequestError`, which is reported already."""
    ended = carrier.reporter(request, started)
    try:
        opened = await carrier.open(request, name, ruling)
    except RequestError as error:
        ended(error.exit, error.failure.value, str(error))
        raise
    except asyncio.CancelledError:
        ended("", "aborted", "the application gave up")
        raise
    return Upstream(carrier, opened, request, name, ruling, ended)
