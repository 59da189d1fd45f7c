"""`bethrou join`: from a link to a device that belongs to the network, with key, identity and configuration."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bethrou.assembly import keyfiles
from bethrou.cli.init import USUAL_LISTEN, make_directory, this_machine
from bethrou.cli.operator_session import best_addresses
from bethrou.cli.said import say
from bethrou.cli.visiting import Visit, run_visit, visiting
from bethrou.cli.written_config import client_yaml, node_yaml
from bethrou.config import HostPort, node_config, parse_listen
from bethrou.discovery.join_service import redeem
from bethrou.discovery.member_book import MemberBook
from bethrou.discovery.member_sync import MemberSync
from bethrou.discovery.membership import Membership, book_path
from bethrou.errors import BethrouError, ConfigError, DialError, InviteError, UserError
from bethrou.net.link import Link
from bethrou.printable import printable, quoted
from bethrou.quantities import duration
from bethrou.wire.grant import NODE, seal_redemption
from bethrou.wire.invite import MAX_LINK, SCHEME, Invite
from bethrou.wire.join_message import JoinRequest, Refusal
from bethrou.wire.keys import Identity
from bethrou.wire.member_exchange import Kind
from bethrou.wire.member_list import Member
from bethrou.wire.multiaddr import Multiaddr

_USUAL_SOCKS = "127.0.0.1:1080"


@dataclass(frozen=True)
class _Place:
    """The files of a device that joins as `role`."""

    path: Path
    role: str

    @property
    def key(self) -> Path:
        return self.path / "network.key"

    @property
    def identity(self) -> Path:
        return self.path / ("node.key" if self.role == NODE else "device.key")

    @property
    def config(self) -> Path:
        return self.path / f"{self.role}.yaml"

    @property
    def book(self) -> Path:
        return book_path(self.identity)


def join(source: str, directory: str, listen: str | None) -> None:
    """Join by the link `source`: itself, - for standard input, or a file. Raises UserErrors and LinkErrors."""
    invite = Invite.open(read_link(source))
    late = time.time() - invite.grant.expires
    if late >= 0:
        raise InviteError(f"the invite has expired {duration(late)} ago: ask for a new one")
    place = _Place(Path(directory).absolute(), invite.grant.role)
    where = _listen(invite, listen)
    if os.path.lexists(place.config):
        raise ConfigError(
            f"{printable(str(place.config))}: is already there, so nothing is changed: say another DIR to join in"
        )
    make_directory(place.path)
    with _kept_if_joined(place, invite) as identity:
        joined = run_visit(lambda: _visit(invite, identity))
        _write_config(place, invite, joined, where)
    say(_what_next(place, invite, joined, directory, where))
    if _is_link(source):
        _tell(
            "The link may stand in your shell's history. It is used up, but it holds the network key: delete it there."
        )


def _is_link(source: str) -> bool:
    return source.lower().startswith(SCHEME.partition("join")[0])


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read_link(source: str) -> str:
    """The text of a link from where the user has it. Raises UserErrors."""
    if _is_link(source):
        return source
    try:
        if source == "-" and sys.stdin.isatty():
            _tell("Paste the link, and press Enter:")
            return sys.stdin.readline(MAX_LINK + 1)
        if source == "-":
            return sys.stdin.read(MAX_LINK + 1)
        with Path(source).open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_LINK + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        hint = f"; a link begins with {SCHEME}"
        raise InviteError(f"{printable(source, 60)}: cannot be read: {reason}{hint}") from None


@dataclass(frozen=True)
class _Joined:
    """What a device knows when it is in."""

    book: MemberBook
    member: Member
    """What the device is in it."""
    nodes: list[Multiaddr]
    exits: list[tuple[str, str, str]]
    """Name, peer ID and tags of the exits that there are."""


async def _visit(invite: Invite, identity: Identity) -> _Joined:
    """Redeem the invite at the first node that answers, and learn who belongs to the network."""
    async with visiting(invite.network_key, identity) as visit:
        await visit.reach(invite.addresses)
        admission, link = await _redeem(visit, invite, identity)
        book = MemberBook(invite.operator, invite.network_key.fingerprint, time.time)
        membership = _Unwritten(visit, book)
        sync = MemberSync(visit.host.loop, visit.host, membership, lambda event: None)
        try:
            await sync.exchange(link)
            book.take([(Kind.ADMISSION, admission)])
        except (BethrouError, TimeoutError) as error:
            raise DialError(
                f"the device is in, but the member list could not be had ({error}): say the same command again"
            ) from None
        finally:
            await sync.close()
        if identity.peer_id not in book.members:
            raise InviteError(
                "the node that took the invite is no node of this network: ask for a new invite"
            )
        await visit.host.ask_again(link)
        await visit.learn_nodes()
        return _Joined(book, book.members[identity.peer_id], _nodes(visit, invite), _exits(visit, book))


class _Unwritten(Membership):
    """The book of a device that has no files yet."""

    def __init__(self, visit: Visit, book: MemberBook) -> None:
        super().__init__(visit.host.loop, book, Path(os.devnull), lambda event: None, visit.host.peer_id)

    async def store(self) -> None:
        """Nothing is written."""


async def _redeem(visit: Visit, invite: Invite, identity: Identity) -> tuple[bytes, Link]:
    request = JoinRequest(invite.grant_envelope, seal_redemption(invite.secret, identity.peer_id))
    reasons = [f"{peer.short}: {reason}" for peer, reason in visit.missed.items()]
    for peer in dict.fromkeys(address.peer_id for address in invite.addresses):
        link = visit.links.get(peer) if peer is not None else None
        if link is None:
            continue
        try:
            answer = await redeem(visit.host, link, request)
        except (BethrouError, TimeoutError) as error:
            reasons.append(f"{link.peer_id.short}: {str(error) or 'no answer in time'}")
            continue
        if isinstance(answer, bytes):
            return answer, link
        refusal, message = answer
        reasons.append(f"{link.peer_id.short}: {printable(message, 200)}")
        if refusal is not Refusal.UNABLE:
            raise InviteError(f"{printable(message, 200)}; ask for a new one")
    raise DialError(
        f"no node took the invite, which is not used: {'; '.join(reasons) or 'none could be reached'}"
    )


def _nodes(visit: Visit, invite: Invite) -> list[Multiaddr]:
    """Where nodes are, those of the invite first."""
    told = [
        address
        for peer, entry in visit.known.items()
        if entry.is_exit
        for address in best_addresses(visit.addresses_of(peer))
    ]
    return list(dict.fromkeys([*invite.addresses, *told]))


def _exits(visit: Visit, book: MemberBook) -> list[tuple[str, str, str]]:
    return [
        (entry.name or "-", str(peer), ", ".join(entry.tags) or "-")
        for peer, entry in visit.known.items()
        if entry.is_exit and book.is_node(peer)
    ]


# -- files ----------------------------------------------------------------------------------------------------------


@contextmanager
def _kept_if_joined(place: _Place, invite: Invite) -> Iterator[Identity]:
    """Network key and identity on disk, and kept there unless the invite turns out to be no good.

    They are there before it is redeemed, so that the same command can be said again whatever happens: an invite is
    good again for the identity that has redeemed it.
    """
    made: list[Path] = []
    try:
        if os.path.lexists(place.key):
            if keyfiles.read_network_key(place.key) != invite.network_key:
                raise ConfigError(
                    f"{printable(str(place.key))}: is of another network: say another DIR to join in"
                )
        else:
            keyfiles.write_private(place.key, invite.network_key.format())
            made.append(place.key)
        if not os.path.lexists(place.identity):
            keyfiles.write_private(place.identity, Identity.generate(os.urandom).to_protobuf())
            made.append(place.identity)
        yield keyfiles.read_identity(place.identity)
    except InviteError:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def _write_config(place: _Place, invite: Invite, joined: _Joined, listen: str) -> None:
    keyfiles.write_file(place.book, joined.book.encode())
    if place.role == NODE:
        data = node_yaml(
            key=place.key,
            identity=place.identity,
            operator=invite.operator,
            name=joined.member.name or this_machine(),
            listen=listen,
            peers=invite.addresses,
        )
    else:
        data = client_yaml(
            key=place.key,
            identity=place.identity,
            operator=invite.operator,
            listen=listen,
            nodes=joined.nodes,
        )
    keyfiles.write_private(place.config, data)


def _listen(invite: Invite, given: str | None) -> str:
    """Where the device will listen. Raises ConfigError."""
    if invite.grant.role == NODE:
        (address,) = node_config({"listen": [given or USUAL_LISTEN]}).listen
        return str(address)
    try:
        where = parse_listen(given or _USUAL_SOCKS)
    except UserError as error:
        raise ConfigError(f"--listen: {error}") from None
    if not where.is_loopback:
        raise ConfigError(
            f"--listen: {quoted(str(where), 60)} can be reached from other machines: "
            "join with one of 127.0.0.1, and set users in client.yaml"
        )
    return str(where)


def _what_next(place: _Place, invite: Invite, joined: _Joined, directory: str, listen: str) -> str:
    network = f" {invite.network_name}" if invite.network_name else ""
    called = f" as {joined.member.name}" if joined.member.name else ""
    config = Path(directory) / place.config.name
    said = "" if directory == "." and place.role != NODE else f" --config {shlex.quote(str(config))}"
    lines = [
        f"Joined the network{network}{called}; fingerprint {invite.network_key.fingerprint}",
        f"operator {invite.operator}",
    ]
    if place.role == NODE:
        return "\n".join([*lines, "Start the node:  " + printable(f"bethrou node start{said}")])
    rows = [("EXIT", "TAGS", "PEER ID"), *((name, tags, peer) for name, peer, tags in joined.exits)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += ["", *(f"{name:<{widths[0]}}  {tags:<{widths[1]}}  {peer}" for name, tags, peer in rows)]
    lines += [
        "",
        "Start the client:      " + printable(f"bethrou client start{said}"),
        f"and in another terminal: curl -x socks5h://{HostPort(*parse_listen(listen))} https://example.com/",
    ]
    return "\n".join(lines)
