"""What the programs tell their user on standard output, beside the log on standard error."""

from __future__ import annotations

import contextlib


def say(text: str) -> None:
    """Print `text` at once. Whether anybody reads it (a closed pipe) makes no difference to a service."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)
