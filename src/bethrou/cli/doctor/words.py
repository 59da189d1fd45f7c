"""How findings name peers and times."""

from __future__ import annotations

from collections.abc import Sequence

_PEER_END = 8  # the end of a peer ID tells peers apart; the beginning is the same for all
_NAMED = 3  # peers that are named; the others are counted


def peer_name(peer: str, name: str = "") -> str:
    """A peer: the name that it gives itself, or the end of its peer ID."""
    return name or f"..{peer[-_PEER_END:]}"


def peer_names(peers: Sequence[str]) -> str:
    """Several: `..abcdefgh, ..ijklmnop and 2 more`."""
    named = ", ".join(peer_name(peer) for peer in sorted(peers)[:_NAMED])
    return f"{named} and {len(peers) - _NAMED} more" if len(peers) > _NAMED else named


def apart(seconds: float) -> str:
    """How far two clocks are apart: `1 s`, `90 s`, `2 h`; always positive."""
    seconds = abs(seconds)
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
