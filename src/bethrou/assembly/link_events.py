"""What a host of ours says of itself, and what it tells of its links."""

from __future__ import annotations

from bethrou import __version__
from bethrou.errors import BethrouError
from bethrou.events import DescriptorsShort, Emit, LinkClosed, LinkOpened, StrangerRefused
from bethrou.net.host import HostEvents
from bethrou.net.link import Link
from bethrou.wire.multiaddr import Multiaddr

AGENT = f"bethrou-py/{__version__}"
"""The agent version in identify."""


def host_events(emit: Emit) -> HostEvents:
    """Callbacks for a host that turn what it tells into events."""

    def link_up(link: Link) -> None:
        emit(LinkOpened(str(link.peer_id), str(link.remote), link.path, not link.initiator))

    def link_down(link: Link, reason: Exception) -> None:
        emit(
            LinkClosed(str(link.peer_id), str(link.remote), str(reason), link.bytes_sent, link.bytes_received)
        )

    def refused(remote: Multiaddr, reason: BethrouError) -> None:
        emit(StrangerRefused("link", str(remote), str(reason)))

    def shortage(short: bool) -> None:
        emit(DescriptorsShort("link", short))

    return HostEvents(link_up, link_down, refused, shortage)
