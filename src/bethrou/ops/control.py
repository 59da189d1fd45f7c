"""What can be asked of a running client or node, and done to it: the one way in for everything outside.

The control socket offers it to commands, dashboards and scripts; a client or node implements it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bethrou.events import Event
from bethrou.snapshots import ConnectionSnapshot, ReachabilitySnapshot, StatusSnapshot, WhySnapshot

Metrics = Callable[[], str]
"""Makes the text of a program's metrics, in Prometheus' format."""


class Control(Protocol):
    """A running client or node. What its kind does not have is refused with `NotOffered`."""

    def status(self) -> StatusSnapshot:
        """What it is and how it does."""

    def connections(self) -> Sequence[ConnectionSnapshot]:
        """The proxied connections that are alive."""

    def why(self, host: str, port: int, user: str) -> WhySnapshot:
        """Which exit a request of `user` ("" for none) would get now. Raises UserErrors; nothing is connected."""

    async def reachability(self) -> ReachabilitySnapshot:
        """How it is reached. Peers are asked, unless they were a moment ago: that may take half a minute."""

    async def reload(self) -> Sequence[str]:
        """Read the configuration again and say, a line each, what changed.

        Raises UserErrors when it cannot be used: then nothing has changed.
        """

    def drain(self) -> None:
        """Take nothing new, and end the program when what is alive has finished or its grace is over."""

    def close_connection(self, id: str) -> bool:  # noqa: A002 - the snapshot's word
        """End the connection `id` at once. False: there is none."""

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have `callback` called with each event from now on; what is returned ends that.

        It is called from within the data path: it may not block and must not fail.
        """
