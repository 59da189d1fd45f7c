"""Labels: names, tags, and what a SOCKS user name says of them: `exit=LABEL`, `session=LABEL`.

The same few characters everywhere, so that whatever somebody is called can be asked for, in every format of ours.
"""

from __future__ import annotations

import re

LABEL_FORM = "1 to 64 characters of A-Z a-z 0-9 . _ ~ -"
"""What a label is, for errors."""

_LABEL = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def is_label(text: str) -> bool:
    """Whether `text` is a label."""
    return _LABEL.fullmatch(text) is not None
