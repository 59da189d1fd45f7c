"""A member list at work in a node or client: the book, who brings it up to date, and who enforces it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bethrou.config import MemberPolicy
from bethrou.discovery.member_gate import MemberGate
from bethrou.discovery.member_sync import MemberSync
from bethrou.discovery.membership import Membership, book_path, read_book
from bethrou.events import Emit, InviteUsedTwice
from bethrou.net.host import Host
from bethrou.wire.grant import Admission
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId
from bethrou.wire.proxy_request import PROTOCOL_V1_0, PROTOCOL_V1_1
from bethrou.wire.psk import NetworkKey

if TYPE_CHECKING:
    from bethrou.discovery.join_service import JoinService

_EXITS = frozenset({PROTOCOL_V1_0, PROTOCOL_V1_1})


class MembershipParts:
    """The member list of the operator `operator`, for the member at `host` whose identity is in the file `identity`.

    Raises KeyFileError when the book on disk is damaged. `tags`: what this exit is chosen by; none for a client.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        network_key: NetworkKey,
        operator: PeerId,
        policy: MemberPolicy,
        identity: Path,
        emit: Emit,
        tags: tuple[str, ...] = (),
    ) -> None:
        def conflict(admission: Admission) -> None:
            emit(InviteUsedTwice(str(admission.peer), admission.grant.name))

        path = book_path(identity)
        self.book = read_book(path, operator, network_key, time.time, conflict)
        self._loop = loop
        self._host = host
        self._emit = emit
        self._membership = Membership(loop, self.book, path, emit, host.peer_id)
        self._sync = MemberSync(loop, host, self._membership, emit)
        self._gate = MemberGate(
            loop,
            host,
            self._membership,
            self._sync,
            emit,
            required=policy is MemberPolicy.REQUIRED,
            exits=_EXITS,
            tags=tags,
        )
        self._joins: JoinService | None = None

    def redeem_invites(self, identity: Identity) -> None:
        """Let devices join here, at the node with this identity. Clients need nothing of it."""
        from bethrou.discovery.join_service import JoinService

        self._joins = JoinService(self._loop, self._host, identity, self._membership, self._emit, time.time)

    def configure(self, policy: MemberPolicy, tags: tuple[str, ...]) -> None:
        """Enforce it so from now on."""
        self._gate.required = policy is MemberPolicy.REQUIRED
        self._gate.tags = tags
        self._gate.look()

    async def close(self) -> None:
        """Enforce and tell no more; what has changed is on disk then."""
        self._gate.close()
        await self._sync.close()
        if self._joins is not None:
            await self._joins.close()
        await self._membership.close()
