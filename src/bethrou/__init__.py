"""Bethrou: a private peer-to-peer proxy network. docs/ARCHITECTURE.md tells how the parts fit.

async with bethrou.connect("client.yaml") as network:
    reader, writer = await network.open_connection("example.com", 443, ssl=True)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing bethrou alone takes no time
    from bethrou.api.network import Network
    from bethrou.config import ClientConfig
    from bethrou.events import Emit

__all__ = ["__version__", "connect"]

__version__ = "0.1.0"


def connect(
    config: ClientConfig | Mapping[str, Any] | str | Path,
    *,
    state: Path | None = None,
    on_event: Emit | None = None,
) -> Network:
    """The private network that `config` describes, for an `async with` block.

    `config` is the path of a client.yaml, or its keys as a mapping; what it says of the SOCKS listener and of the log
    does not count here. `state`: a directory in which to remember between two runs which exits worked. `on_event` is
    called with each event (`bethrou.events`); it may not block.
    """
    from bethrou.api.network import Network

    return Network(config, state, on_event)
