"""What the member list permits, enforced on the links of a host.

Who is no member may do nothing but redeem an invite, or show an admission that is not known here yet, and has
`PROBATION` seconds for that. Who is a member no more loses its links, and all that runs on them, at once.

    required       only members
    not required   every holder of the network key, except the devices that the list has removed
"""

from __future__ import annotations

import asyncio

from bethrou.discovery.member_sync import MemberSync
from bethrou.discovery.membership import Membership
from bethrou.errors import BethrouError, DialError
from bethrou.events import Emit, MemberCutOff
from bethrou.net import identify
from bethrou.net.host import Host
from bethrou.net.link import Link
from bethrou.net.ping import PROTOCOL_ID as PING
from bethrou.net.timeouts import TimeoutQueue
from bethrou.wire import join_message, member_exchange
from bethrou.wire.autonat import DIAL_BACK
from bethrou.wire.member_exchange import Standing
from bethrou.wire.member_list import Member
from bethrou.wire.peer_id import PeerId

PROBATION = 10.0
"""Seconds that somebody has to become a member."""

_FOR_EVERYBODY = frozenset(
    {
        # comes from an identity that is used once, and is nothing but the number that we are waiting for
        DIAL_BACK,
        join_message.PROTOCOL,
        member_exchange.PROTOCOL,
        identify.PROTOCOL_ID,
        identify.PUSH_PROTOCOL_ID,
        PING,
    }
)


class MemberGate:
    """Lets members of `membership` in at `host`, whose `access` it is.

    `exits`: the protocols by which traffic leaves here, and `tags` what this exit is chosen by; both empty elsewhere.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        membership: Membership,
        sync: MemberSync,
        emit: Emit,
        *,
        required: bool,
        exits: frozenset[str] = frozenset(),
        tags: tuple[str, ...] = (),
    ) -> None:
        self.required = required
        self.tags = tags
        self._host = host
        self._membership = membership
        self._book = membership.book
        self._sync = sync
        self._emit = emit
        self._exits = exits
        self._probation = TimeoutQueue(loop, PROBATION)
        self._entries: dict[PeerId, Member | None] = {}
        """What those with a link were when they were last looked at, as far as they are let in."""
        host.access = self
        sync.judge = self.standing
        self._stop_observing = host.observe_links(self._link_up, self._link_down)
        membership.on_change(self.look)

    def close(self) -> None:
        """Look no more."""
        self._stop_observing()
        self._probation.close()

    def lets_in(self, peer: PeerId) -> bool:
        """Whether `peer` may have a link."""
        return self.standing(peer) is Standing.MEMBER

    def standing(self, peer: PeerId) -> Standing:
        """What `peer` is here: where membership is not required, everybody is a member who was not removed."""
        standing = self._book.standing(peer)
        return Standing.MEMBER if standing is Standing.UNKNOWN and not self.required else standing

    def permits(self, peer: PeerId, protocol: str) -> bool:
        """Whether `peer` may open streams of `protocol`."""
        if protocol in _FOR_EVERYBODY:
            return True
        if not self.lets_in(peer):
            return False
        member = self._book.members.get(peer)
        return (
            member is None
            or not member.exits
            or protocol not in self._exits
            or not set(self.tags).isdisjoint(member.exits)
        )

    async def check_dialled(self, link: Link) -> None:
        """Have nobody serve us who is no node of the network. Raises `DialError`; the link is then closed."""
        peer = link.peer_id
        if self._needs_talk(peer):
            try:
                await self._sync.exchange(link)
                await self._host.ask_again(link)
            except (BethrouError, TimeoutError) as error:
                if link.closed.done():  # it turned us away, and that is what is to be said
                    raise DialError(f"{peer.short}: {link.closed.result()}") from None
                if self.required:
                    link.close("could not show that it is a node of this network")
                    raise DialError(f"{peer.short} cannot show that it is a node: {error}") from None
        if not self.lets_in(peer) or (self.required and not self._book.is_node(peer)):
            link.close("is no node of this network")
            raise DialError(f"{peer.short} is no node of this network, by its operator's list")

    def look(self) -> None:
        """Judge everybody with a link anew."""
        for peer in list(self._host.links):
            before = self._entries.get(peer)
            if not self.lets_in(peer):
                if peer in self._entries:
                    self._cut(peer, "removed from the member list")
                continue
            now = self._book.members.get(peer)
            if peer not in self._entries:
                self._let_in(peer)
            elif before is not None and (now is None or (now.role, now.exits) != (before.role, before.exits)):
                # what runs on the link was begun under other rights
                self._cut(peer, "has other rights now")
            else:
                self._entries[peer] = now

    # -- inside -----------------------------------------------------------------------------------------------------

    def _needs_talk(self, peer: PeerId) -> bool:
        """Whether one of us has something to show before the other lets it in."""
        own = self._membership.own
        return (self.required and not self._book.is_node(peer)) or self._book.admission_of(own) is not None

    def _link_up(self, link: Link) -> None:
        peer = link.peer_id
        if self.lets_in(peer):
            self._entries[peer] = self._book.members.get(peer)
        else:
            self._probation.start(link, lambda: self._cut(peer, "did not become a member"))

    def _link_down(self, link: Link, _reason: Exception) -> None:
        self._probation.stop(link)
        if link.peer_id not in self._host.links:
            self._entries.pop(link.peer_id, None)

    def _let_in(self, peer: PeerId) -> None:
        self._entries[peer] = self._book.members.get(peer)
        for link in self._host.links[peer]:
            self._probation.stop(link)
        self._host.introduce_to(peer)

    def _cut(self, peer: PeerId, reason: str) -> None:
        self._emit(MemberCutOff(str(peer), reason))
        for link in list(self._host.links.get(peer, [])):
            link.close(reason)
