"""Asking for signs of life where there is a reason to doubt: a link that looks alive may be dead for 13 s more.

A link to somebody behind a relay is probed together with the one to the relay below it: otherwise the next circuit
would be asked for on a dead link.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bethrou.net.link import CIRCUIT, Link
from bethrou.wire.peer_id import PeerId

PROBE_PATIENCE = 2.0
"""Seconds that a link in doubt has to give a sign of life. Any byte is one."""

Links = Mapping[PeerId, Sequence[Link]]


def probe_all(links: Links) -> None:
    """This machine's network has changed."""
    for each in list(links.values()):
        for link in list(each):
            link.probe(PROBE_PATIENCE)


def probe_way(links: Links, link: Link) -> None:
    """What was sent on `link` had no answer."""
    link.probe(PROBE_PATIENCE)
    relay = link.remote.relay if link.path == CIRCUIT else None
    if relay is not None and relay.peer_id is not None:
        for below in list(links.get(relay.peer_id, ())):
            below.probe(PROBE_PATIENCE)


def probe_former(links: Links, link: Link) -> None:
    """The peer of `link` has come anew: perhaps because its other links here are dead at its end."""
    for other in list(links.get(link.peer_id, ())):
        if other is not link:
            other.probe(PROBE_PATIENCE)
