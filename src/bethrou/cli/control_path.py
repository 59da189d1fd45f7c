"""Where the control socket of a running program is, for it and for whoever looks for it.

`control.sock` in the state directory. Where that path is too long for a Unix socket it is elsewhere, and the file
`control` in the state directory says where.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

MAX_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of a Unix socket's path (sockaddr_un without the final zero)."""

POINTER = "control"

_SOCKET = "control.sock"
_MAX_POINTER = 4096  # Linux' PATH_MAX; ours have 107 bytes


def usual_socket_path(state: Path) -> Path:
    """Where the socket of the program with the state directory `state` is if its path is not too long."""
    return state / _SOCKET


def fits(path: Path) -> bool:
    """Whether a Unix socket can have this path."""
    return len(os.fsencode(path)) <= MAX_PATH


def find_socket(state: Path) -> Path:
    """Where the socket of the program with the state directory `state` is, if one runs."""
    try:
        with (state / POINTER).open("rb") as file:
            told = os.fsdecode(file.read(_MAX_POINTER)).strip()
    except OSError:
        told = ""
    return Path(told) if told else usual_socket_path(state)
