"""Names and tags that members give themselves: texts that can stand behind `exit=` and `tag=` in a SOCKS user name.

A bad one is left out and nothing else is lost: it is how a member wants to be called, not who it is.
"""

from __future__ import annotations

import re

from bethrou.errors import AddressError, DecodeError
from bethrou.wire.peer_id import PeerId

MAX_LABELS = 32
"""Tags (or the like) of one member; more are ignored."""

_LABEL = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def read_name(text: str) -> str:
    """Return `text` if a member may be called so, else "".

    No member may have a peer ID for a name: it could get the requests that are meant for another one.
    """
    return text if _LABEL.fullmatch(text) and not _is_peer_id(text) else ""


def read_labels(value: object, what: str) -> tuple[str, ...]:
    """Return the good ones of a JSON list, in order, of the first MAX_LABELS; none when it is missing.

    Raises DecodeError, which calls the list `what`, for any other type.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DecodeError(f"JSON field {what!r} is no list")
    return tuple(label for label in value[:MAX_LABELS] if isinstance(label, str) and _LABEL.fullmatch(label))


def _is_peer_id(name: str) -> bool:
    try:
        PeerId.parse(name)
    except AddressError:
        return False
    return True
