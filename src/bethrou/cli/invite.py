"""`bethrou invite`: a link by which one more device joins, as text and as QR code."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bethrou.assembly import keyfiles
from bethrou.cli.network_dir import Network, NetworkDirectory
from bethrou.cli.operator_session import best_addresses, local_addresses_of, operating
from bethrou.cli.said import say
from bethrou.cli.visiting import run_visit
from bethrou.config import node_config
from bethrou.config.values import parse_duration, parse_label
from bethrou.errors import ConfigError, UserError
from bethrou.printable import printable, quoted
from bethrou.quantities import duration
from bethrou.wire.grant import MAX_EXITS, ROLES, Grant
from bethrou.wire.invite import Invite
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr

LONGEST = 30 * 86400.0
"""Seconds that an invite may be good for: a link that lies around is a key that lies around."""

_ADDRESSES = 4
"""Addresses in a link: each makes the QR code larger."""

_PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class InviteOptions:
    """The options of `bethrou invite`, as they were given."""

    directory: str = "."
    qr: bool = False
    qr_file: str | None = None
    expires: str = "24h"
    role: str = "client"
    name: str | None = None
    exits: Sequence[str] = ()
    addresses: Sequence[str] = ()
    nodes: Sequence[str] = ()


def invite(options: InviteOptions) -> None:
    """Print a link on standard output, and all else on standard error. Raises UserErrors."""
    seconds = _seconds(options.expires)
    if options.role not in ROLES:
        raise ConfigError(f"--role: {quoted(options.role, 60)} must be client or node")
    name = _label("--name", options.name) if options.name else ""
    exits = tuple(_label("--exits", tag) for tag in options.exits)
    if len(exits) > MAX_EXITS:
        raise ConfigError(f"--exits: at most {MAX_EXITS} tags, not {len(exits)}")
    if options.qr_file is not None and not options.qr_file.lower().endswith(_PICTURES):
        raise ConfigError(f"--qr-file: {quoted(options.qr_file, 60)} must end in .png or .svg")
    network = NetworkDirectory(Path(options.directory).absolute()).open()
    given = read_addresses("--address", options.addresses, network)
    addresses = run_visit(lambda: _places(network, given, read_addresses("--node", options.nodes, network)))
    now = int(time.time())
    secret = Identity.generate(os.urandom)
    grant = Grant(network.key.fingerprint, secret.peer_id, name, options.role, exits, now, now + int(seconds))
    link = Invite.seal(
        network.operator,
        network.key,
        secret,
        grant.seal(network.operator),
        tuple(addresses),
        network.name,
    )
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(grant.expires))
    network.directory.audit.add(
        "invited", invite=str(grant.key), name=name, role=options.role, exits=list(exits), expires=until
    )
    if options.qr_file is not None:
        _write_picture(link, Path(options.qr_file))
    if options.qr:
        print(qr_text(link), file=sys.stderr)
    _tell(
        f"This link holds the network key, and lets one {options.role} in until {until} ({duration(seconds)}). Whoever "
        "sees it first can use it: send it by a way that only the other person can read, and keep no copy.",
        f"On the other machine: bethrou join -   and paste the link (invite {grant.key.short})",
    )
    say(link)


async def _places(
    network: Network, given: Sequence[Multiaddr], nodes: Sequence[Multiaddr]
) -> list[Multiaddr]:
    """Where the device will find nodes. Raises ConfigError when no address is known."""
    async with operating(network, nodes) as session:
        places = [*given, *session.places(_ADDRESSES)]
        if not session.visit.links:
            places += best_addresses(local_addresses_of(network, near=False))
            reason = next(iter(session.visit.missed.values()), "none is known")
            _tell(f"No node answers ({printable(reason, 200)}). The link leads somewhere once one runs.")
    places = list(dict.fromkeys(places))[:_ADDRESSES]
    if not places:
        raise ConfigError("no address of a node is known: start one, or say --node or --address")
    return places


def read_addresses(option: str, texts: Sequence[str], network: Network) -> list[Multiaddr]:
    """Addresses as they were given; one without /p2p is that of the node of this directory. Raises ConfigError."""
    if not texts:
        return []
    found: list[Multiaddr] = []
    for text in texts:
        try:
            (address,) = node_config({"listen": [text]}).listen
        except UserError as error:
            raise ConfigError(f"{option}: {str(error).removeprefix('--listen: ')}") from None
        if address.peer_id is None:
            if not network.directory.node_key.exists():
                raise ConfigError(
                    f"{option}: {printable(text, 60)} must end in /p2p/ID, the peer ID of the node"
                )
            address = address.with_peer(keyfiles.read_identity(network.directory.node_key).peer_id)
        found.append(address)
    return found


def qr_text(link: str) -> str:
    """The QR code of `link`, drawn with half blocks for a terminal."""
    import segno

    drawn = io.StringIO()
    segno.make(link, error="l", micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()


def _write_picture(link: str, path: Path) -> None:
    """Write the QR code as a picture (mode 0600), in place of none that is there. Raises KeyFileError."""
    import segno

    drawn = io.BytesIO()
    segno.make(link, error="l", micro=False).save(drawn, kind=path.suffix[1:].lower(), scale=6)
    keyfiles.write_private(path, drawn.getvalue())


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except UserError as error:
        raise ConfigError(f"--expires: {error}") from None
    if not 1 <= seconds <= LONGEST:
        raise ConfigError(f"--expires: {quoted(text, 60)} must be from 1s to {LONGEST / 3600:.0f}h")
    return seconds


def _label(option: str, text: str) -> str:
    try:
        return parse_label(text)
    except UserError as error:
        raise ConfigError(f"{option}: {error}") from None


def _tell(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
