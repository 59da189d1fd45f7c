"""`bethrou members`: who belongs to the network, and changing that with the operator's key."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bethrou.cli.invite import read_addresses
from bethrou.cli.network_dir import Network, NetworkDirectory
from bethrou.cli.operator_session import LEAST_OF_ID, OperatorSession, find_member, folded, operating
from bethrou.cli.said import say
from bethrou.cli.visiting import run_visit
from bethrou.config.values import parse_label
from bethrou.errors import AddressError, ConfigError, UserError
from bethrou.printable import printable
from bethrou.quantities import counted
from bethrou.wire.grant import ROLES
from bethrou.wire.member_list import Member, Removed
from bethrou.wire.peer_id import PeerId

NOT_ALL_TOLD = 1
"""Exit status when a node does not have the list yet."""


@dataclasses.dataclass(frozen=True)
class Where:
    """Which network, and addresses of nodes beside those that are known."""

    directory: str = "."
    nodes: Sequence[str] = ()

    def open(self) -> Network:
        """Read it. Raises UserErrors."""
        return NetworkDirectory(Path(self.directory).absolute()).open()


def list_members(where: Where, as_json: bool) -> int:
    """Print who belongs to the network; the exit status."""
    network = where.open()
    nodes = read_addresses("--node", where.nodes, network)

    async def visit() -> int:
        async with operating(network, nodes) as session:
            members = sorted(
                folded(session).values(), key=lambda member: (member.role != "node", member.name)
            )
            say(_as_json(session, members) if as_json else _as_table(session, members))
            return _report(session)

    return run_visit(visit)


def remove_member(where: Where, who: str) -> int:
    """Put a device out, or withdraw an invite by its ID; the exit status. Raises UserErrors."""
    network = where.open()
    nodes = read_addresses("--node", where.nodes, network)

    async def visit() -> int:
        async with operating(network, nodes) as session:
            gone = _to_remove(session, who)
            members = [member for peer, member in folded(session).items() if peer != gone.peer]
            removed, before = _without(session, gone.peer)
            _note(session, "removed", gone)
            await session.publish(members, [*removed, Removed(gone.peer, gone.grant or before)])
            say(f"{gone.name or gone.peer} is removed: list {session.book.serial}")
            return _report(session)

    return run_visit(visit)


def name_member(where: Where, who: str, name: str) -> int:
    """Call a member something else; the exit status. Raises UserErrors."""
    network = where.open()
    nodes = read_addresses("--node", where.nodes, network)
    _check_name(name)

    async def visit() -> int:
        async with operating(network, nodes) as session:
            found = find_member(session, who)
            members = folded(session)
            _check_free(name, members.values(), found.peer)
            members[found.peer] = dataclasses.replace(members[found.peer], name=name)
            await _publish(session, "named", members, found.peer)
            say(f"{found.peer} is called {name}: list {session.book.serial}")
            return _report(session)

    return run_visit(visit)


def add_member(where: Where, peer: str, name: str, role: str, exits: Sequence[str]) -> int:
    """Add a peer ID by hand, or change what it may; the exit status. Raises UserErrors."""
    network = where.open()
    nodes = read_addresses("--node", where.nodes, network)
    try:
        found = PeerId.parse(peer)
        tags = tuple(parse_label(tag) for tag in exits)
    except AddressError as error:
        raise ConfigError(printable(str(error), 200)) from None
    except UserError as error:
        raise ConfigError(f"--exits: {error}") from None
    if found.public_key() is None:
        raise ConfigError(f"{printable(peer, 60)}: is no peer ID of an Ed25519 key")
    if role not in ROLES:
        raise ConfigError(f"--role: {printable(role, 60)} must be client or node")
    if name:
        _check_name(name)

    async def visit() -> int:
        async with operating(network, nodes) as session:
            members = folded(session)
            before = members.get(found)
            called = name or (before.name if before is not None else "")
            _check_free(called, members.values(), found)
            _, grant = _without(session, found)
            if before is not None:
                grant = before.grant
            members[found] = Member(found, called, role, tags, grant)
            await _publish(session, "added", members, found)
            say(f"{called or found} is a member: list {session.book.serial}")
            return _report(session)

    return run_visit(visit)


async def _publish(session: OperatorSession, what: str, members: dict[PeerId, Member], peer: PeerId) -> None:
    _note(session, what, members[peer])
    removed, _ = _without(session, peer)
    await session.publish(list(members.values()), removed)


def _without(session: OperatorSession, peer: PeerId) -> tuple[list[Removed], PeerId | None]:
    """Those that are removed, but for `peer`; and the invite by which that had come, which stays used."""
    assert session.book.list is not None
    removed = session.book.list.removed
    grant = next((each.grant for each in removed if each.peer == peer), None)
    return [each for each in removed if each.peer != peer], grant


def _note(session: OperatorSession, what: str, member: Member) -> None:
    """The audit line of a change, written before it is made."""
    session.network.directory.audit.add(
        what,
        member=str(member.peer),
        name=member.name,
        role=member.role,
        exits=list(member.exits),
        serial=session.book.serial + 1,
    )


def _to_remove(session: OperatorSession, who: str) -> Member:
    """A member; or a peer ID that is none (yet): a device that is to stay out, or an invite that nobody has used."""
    try:
        peer = PeerId.parse(who)
    except AddressError:
        return _invite(session, who) or find_member(session, who)
    return session.book.members.get(peer) or Member(peer)


def _invite(session: OperatorSession, who: str) -> Member | None:
    """The one invite whose ID ends so, unless it is how a member is called."""
    called = any(member.name == who for member in session.book.members.values())
    ends = {each for each in session.network.directory.audit.invites() if each.endswith(who)}
    if called or len(who) < LEAST_OF_ID or len(ends) != 1:
        return None
    return Member(PeerId.parse(ends.pop()))


def _check_name(name: str) -> None:
    try:
        parse_label(name)
    except UserError as error:
        raise ConfigError(f"--name: {error}") from None
    try:
        PeerId.parse(name)
    except AddressError:
        return
    raise ConfigError(f"--name: {printable(name, 60)} is a peer ID, and would be taken for one")


def _check_free(name: str, members: Iterable[Member], peer: PeerId) -> None:
    for member in members:
        if name and member.name == name and member.peer != peer:
            raise ConfigError(f"--name: {printable(name, 60)} is the name of {member.peer}")


def _report(session: OperatorSession) -> int:
    """Say which nodes have the list; the exit status."""
    nodes = [member for member in session.book.members.values() if member.role == "node"]
    missing = [member for member in nodes if member.peer not in session.told]
    if not missing:
        print(f"told {counted(len(nodes), 'node')}", file=sys.stderr)
        return 0
    for member in missing:
        reason = session.visit.missed.get(member.peer, "no address is known")
        name = member.name or str(member.peer)
        print(
            f"not told: {name} ({printable(reason, 200)}); the other nodes tell it, or the next `bethrou members list`",
            file=sys.stderr,
        )
    return NOT_ALL_TOLD


def _as_json(session: OperatorSession, members: Sequence[Member]) -> str:
    assert session.book.list is not None
    return json.dumps(
        {
            "network": session.network.key.fingerprint,
            "name": session.network.name,
            "operator": str(session.book.operator),
            "serial": session.book.serial,
            "members": [
                {"id": str(each.peer), "name": each.name, "role": each.role, "exits": list(each.exits)}
                for each in members
            ],
            "removed": [str(each.peer) for each in session.book.list.removed],
        }
    )


def _as_table(session: OperatorSession, members: Sequence[Member]) -> str:
    assert session.book.list is not None
    listed = {member.peer for member in session.book.list.members}
    rows = [("NAME", "ROLE", "EXITS", "SINCE", "PEER ID")] + [
        (
            member.name or "-",
            member.role,
            ",".join(member.exits) or "all",
            "list" if member.peer in listed else "invite",
            str(member.peer),
        )
        for member in members
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    name = f" {session.network.name}" if session.network.name else ""
    title = f"network{name}, list {session.book.serial}, {counted(len(members), 'member')}"
    return "\n".join([title, "", *lines])
