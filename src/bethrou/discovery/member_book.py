"""Who belongs to the network, by all that is known here: the operator's list, and those admitted since.

Nothing in it is believed for the sake of who brought it. A list is signed by the operator. An admission counts when its
grant is signed by the operator, its redemption by the holder of the invite, and when the node that gave it is a node by
the list (or by an admission that counts): so a node can let nobody in without an invite.

One grant lets one device in. Where two nodes that could not hear each other have each let one in, the admission with
the earlier time counts everywhere as soon as they meet, and the other device is out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bethrou.errors import DecodeError
from bethrou.wire.grant import CLOCK_SKEW, NODE, Admission
from bethrou.wire.join_message import from_base64, to_base64
from bethrou.wire.json_reader import decode_object, encode_compact
from bethrou.wire.member_exchange import MAX_ADMISSIONS, Kind, Standing, digest
from bethrou.wire.member_list import MAX_LIST, Member, MemberList
from bethrou.wire.peer_id import PeerId

MAX_FILE = 2 * MAX_LIST + MAX_ADMISSIONS * 6000
"""Longest file in bytes; that of a hundred members has some 20 KiB."""

Opened = tuple[MemberList | Admission, bytes]
"""What somebody told, verified, with its envelope."""


class MemberBook:
    """The list and the admissions of the network `network` (a fingerprint), whose operator is `operator`.

    `time` gives Unix time in seconds. `conflict` is told of an admission whose grant has let another device in.
    """

    def __init__(
        self,
        operator: PeerId,
        network: str,
        time: Callable[[], float],
        conflict: Callable[[Admission], None] = lambda admission: None,
    ) -> None:
        self.operator = operator
        self.network = network
        self.list: MemberList | None = None
        self.list_envelope = b""
        self.members: dict[PeerId, Member] = {}
        """All that belong to it."""
        self.admissions: dict[PeerId, tuple[Admission, bytes]] = {}
        """Those that count and that the list does not know yet, by their grant."""
        self.removed: frozenset[PeerId] = frozenset()
        """Devices that are out, and the grants that are."""
        self._time = time
        self._conflict = conflict
        self._digest: str | None = None
        self._granted: frozenset[PeerId] = frozenset()
        """Grants by which the list's members have come."""
        self._held: frozenset[bytes] = frozenset()
        """The envelopes of the admissions."""

    @property
    def serial(self) -> int:
        """The list's number; 0 without a list."""
        return self.list.serial if self.list is not None else 0

    @property
    def digest(self) -> str:
        """What tells this set of admissions from another."""
        if self._digest is None:
            self._digest = digest(envelope for _, envelope in self.admissions.values())
        return self._digest

    def standing(self, peer: PeerId) -> Standing:
        """What `peer` is. The operator belongs to the network, in no list."""
        if peer in self.members or peer == self.operator:
            return Standing.MEMBER
        return Standing.REMOVED if peer in self.removed else Standing.UNKNOWN

    def is_node(self, peer: PeerId) -> bool:
        """Whether `peer` is a member that serves others."""
        member = self.members.get(peer)
        return member is not None and member.role == NODE

    def holder(self, grant: PeerId) -> PeerId | None:
        """Who has come by this grant."""
        if grant in self.admissions:
            return self.admissions[grant][0].peer
        return next((member.peer for member in self.members.values() if member.grant == grant), None)

    def admission_of(self, peer: PeerId) -> bytes | None:
        """What proves that `peer` belongs to it, where the list does not say so."""
        return next((envelope for entry, envelope in self.admissions.values() if entry.peer == peer), None)

    def open(self, kind: Kind, envelope: bytes) -> Opened | None:
        """Read and verify what somebody tells; None when it is here already. Raises DecodeError."""
        if envelope == self.list_envelope or envelope in self._held:
            return None
        if kind is Kind.LIST:
            found = MemberList.open(envelope, self.operator)
            if found.network != self.network:
                raise DecodeError("member list is of another network")
            return found, envelope
        admission = Admission.open(envelope, self.operator)
        if admission.grant.network != self.network:
            raise DecodeError("admission is to another network")
        return admission, envelope

    def apply(self, opened: Iterable[Opened], *, again: bool = False) -> bool:
        """Take what was verified, the list first. Whether anything was news.

        An admission by somebody who is no node here is passed over: it may be one later, and is told again then. So is
        one of the future, unless it was taken before (`again`): a machine that starts with a clock that is behind must
        not forget who has used which invite.
        """
        news = False
        waiting: list[tuple[Admission, bytes]] = []
        for item, envelope in opened:
            if isinstance(item, MemberList):
                news |= self._take_list(item, envelope)
            else:
                waiting.append((item, envelope))
        waiting.sort(key=lambda pair: _order(*pair))
        progress = True
        while waiting and progress:  # who was let in by a node may be a node that let others in
            ready = [pair for pair in waiting if self.is_node(pair[0].node)]
            waiting = [pair for pair in waiting if not self.is_node(pair[0].node)]
            progress = bool(ready)
            for pair in ready:
                news |= self._take_admission(*pair, again=again)
        return news

    def take(self, items: Iterable[tuple[Kind, bytes]], *, again: bool = False) -> bool:
        """`open` and `apply`."""
        opened = [found for kind, envelope in items if (found := self.open(kind, envelope)) is not None]
        return self.apply(opened, again=again)

    def missing(self, serial: int, admissions: str) -> list[tuple[Kind, bytes]]:
        """What somebody lacks who has a list of this serial and admissions of this digest."""
        items = [(Kind.LIST, self.list_envelope)] if self.list is not None and serial < self.serial else []
        if admissions != self.digest:
            held = sorted(self.admissions.values(), key=lambda pair: pair[0].time)
            items += [(Kind.ADMISSION, envelope) for _, envelope in held]
        return items

    def forget(self, grant: PeerId) -> None:
        """Take an admission back that was not passed on."""
        self.admissions.pop(grant, None)
        self._rebuild()

    # -- on disk ----------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return the file: JSON `{"list":base64,"admissions":[base64]}`."""
        held = sorted(self.admissions.values(), key=lambda pair: pair[0].time)
        message = {
            "list": to_base64(self.list_envelope) if self.list is not None else None,
            "admissions": [to_base64(envelope) for _, envelope in held],
        }
        return encode_compact(message) + b"\n"

    def decode(self, data: bytes) -> None:
        """Take what a file says, verified as if a stranger had sent it. Raises DecodeError."""
        message = decode_object(data, MAX_FILE)
        items: list[tuple[Kind, bytes]] = []
        if message.get("list") is not None:
            items.append((Kind.LIST, from_base64(message, "list", MAX_LIST)))
        admissions = message.get("admissions", [])
        if not isinstance(admissions, list):
            raise DecodeError("JSON field 'admissions' is no list")
        items += [(Kind.ADMISSION, _envelope(text)) for text in admissions[:MAX_ADMISSIONS]]
        self.take(items, again=True)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _take_list(self, found: MemberList, envelope: bytes) -> bool:
        if self.list is not None and _rank(found, envelope) <= _rank(self.list, self.list_envelope):
            return False
        self.list, self.list_envelope = found, envelope
        self._rebuild()
        return True

    def _take_admission(self, admission: Admission, envelope: bytes, *, again: bool) -> bool:
        grant = admission.grant.key
        if not again and admission.time > self._time() + CLOCK_SKEW:
            return False  # by a clock that is ahead; told again, it counts later
        if {grant, admission.peer} & self.removed or grant in self._granted:
            return False
        known = self.admissions.get(grant)
        if known is None and len(self.admissions) >= MAX_ADMISSIONS:
            return False
        if known is not None:
            first, second = sorted([known, (admission, envelope)], key=lambda pair: _order(*pair))
            if first[0].peer != second[0].peer:
                self._conflict(second[0])
            if first is known:
                return False
        self.admissions[grant] = (admission, envelope)
        self._rebuild()
        return True

    def _rebuild(self) -> None:
        """Judge anew who belongs to the network, and drop the admissions that do not count any more."""
        listed = self.list.members if self.list is not None else ()
        gone = self.list.removed if self.list is not None else ()
        self.removed = frozenset(
            [each.peer for each in gone] + [each.grant for each in gone if each.grant is not None]
        )
        self.members = {member.peer: member for member in listed}
        self._granted = frozenset(member.grant for member in listed if member.grant is not None)
        waiting = {
            grant: pair
            for grant, pair in self.admissions.items()
            if grant not in self._granted and not {grant, pair[0].peer} & self.removed
        }
        self.admissions = {}
        best: dict[PeerId, tuple[bool, int, bytes]] = {}
        progress = True
        while waiting and progress:  # from the nodes of the list outwards, so that none vouch for each other
            ready = {grant: pair for grant, pair in waiting.items() if self.is_node(pair[0].node)}
            progress = bool(ready)
            for grant, (admission, envelope) in ready.items():
                self.admissions[grant] = waiting.pop(grant)
                worth = (admission.grant.role == NODE, admission.time, envelope)
                peer = admission.peer
                # By several invites one is what the last of them says, a node if any does; the list says it better.
                if (peer in best or peer not in self.members) and worth > best.get(peer, (False, -1, b"")):
                    best[peer] = worth
                    self.members[peer] = _member(admission)
        self._held = frozenset(envelope for _, envelope in self.admissions.values())
        self._digest = None


def _envelope(text: object) -> bytes:
    return from_base64({"admissions": text}, "admissions", Kind.ADMISSION.limit)


def _member(admission: Admission) -> Member:
    grant = admission.grant
    return Member(admission.peer, grant.name, grant.role, grant.exits, grant.key)


def _rank(entry: MemberList, envelope: bytes) -> tuple[int, int, bytes]:
    """Of two lists the greater counts; two of one serial (the operator's key in two places) are told apart somehow."""
    return entry.serial, entry.issued, envelope


def _order(admission: Admission, envelope: bytes) -> tuple[int, bytes]:
    """Of two admissions of one grant the smaller counts."""
    return admission.time, envelope
