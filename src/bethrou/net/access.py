"""Who may do what at a host, beside holding the network key: asked by the host, answered by a member list."""

from __future__ import annotations

from typing import Protocol

from bethrou.net.link import Link
from bethrou.wire.peer_id import PeerId


class Access(Protocol):
    """What a host asks before it has to do with somebody."""

    def permits(self, peer: PeerId, protocol: str) -> bool:
        """Whether `peer` may open streams of `protocol` here. Asked for every stream, so it has to be quick."""

    async def check_dialled(self, link: Link) -> None:
        """Find out whether the peer of a link that was dialled may serve us.

        Raises `DialError` when it may not; the link is then closed.
        """
