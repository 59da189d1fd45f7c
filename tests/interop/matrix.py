"""Which combinations of implementations are tried, and what is known to fail. Pure: choosing runs nothing."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

OURS = "ours"
THEIRS = ("go-v0.42", "go-newest", "js", "rust")
ALL = (OURS, *THEIRS)
SECURITIES = ("noise", "tls")
TRANSPORTS = ("tcp", "ws")

MOST = 80
"""Cells of the usual choice: what fits into four minutes."""


class Cell(NamedTuple):
    """One combination. All of its links, those inside circuits included, have the same security and transport."""

    client: str
    exit: str
    relay: str | None
    """None: the client dials the exit itself."""
    security: str
    transport: str

    @property
    def path(self) -> str:
        return "direct" if self.relay is None else "circuit"

    @property
    def foreign(self) -> list[str]:
        """The implementations in it that are not ours, in the order of roles."""
        return [name for name in (self.client, self.exit, self.relay) if name not in (None, OURS)]

    def __str__(self) -> str:
        through = f" through {self.relay}" if self.relay else ""
        return f"{self.client} -> {self.exit}{through}, {self.security}, {self.transport}"


class Known(NamedTuple):
    """Cells that fail, all that `fits` says, and why it is not us who can change that."""

    fits: Callable[[Cell], bool]
    whose: str
    reason: str
    always: bool = True
    """False: which of two things comes first decides, and they can pass, too."""


def _rust_behind_go(cell: Cell) -> bool:
    return cell.exit == "rust" and (cell.relay or "").startswith("go-")


def _js_to_rust_by_circuit(cell: Cell) -> bool:
    return cell.client == "js" and cell.exit == "rust" and cell.relay is not None


def _js_dials_theirs_by_websocket(cell: Cell) -> bool:
    return cell.transport == "ws" and "js" in (cell.client, cell.exit) and cell.relay not in (None, OURS)


KNOWN = (
    Known(
        _rust_behind_go,
        "go-libp2p and rust-libp2p",
        "a relay in Go names only its public addresses in a reservation, on loopback none, and an exit in Rust takes "
        "no reservation without addresses. Where the relay has one it works (`test_holes.py`).",
    ),
    Known(
        _js_to_rust_by_circuit,
        "rust-libp2p and js-libp2p",
        "who comes by a circuit is told `/p2p/ID` as its observed address by an exit in Rust, and js gives up identify "
        "when an observed address has no IP address.",
    ),
    Known(
        _js_dials_theirs_by_websocket,
        "js-libp2p",
        "js can lose a message that comes right behind the opening of a WebSocket that it dialled, and go, js and rust "
        "send their nonce there. Ours comes later.",
        always=False,
    ),
)


def known_failure(cell: Cell, known: Sequence[Known] = KNOWN) -> Known | None:
    """Why a cell cannot work; None when it has to."""
    return next((each for each in known if each.fits(cell)), None)


def all_cells() -> list[Cell]:
    """Every combination with ours in at least one role and somebody else's in another."""
    made = (
        Cell(client, exit_, relay, security, transport)
        for relay in (None, *ALL)
        for client, exit_ in itertools.product(ALL, ALL)
        for security, transport in itertools.product(SECURITIES, TRANSPORTS)
    )
    return [cell for cell in made if cell.foreign and OURS in (cell.client, cell.exit, cell.relay)]


def covering(cells: Sequence[Cell], known: Sequence[Known] = KNOWN) -> list[Cell]:
    """As few of `cells` as may be, which together have all that `facts` finds in any of them, in the same order.

    Greedy: the cell with the most that is new, of those one whose security and transport were taken least. Cells that
    are known to fail show only what no other can.
    """
    chosen: set[Cell] = set()
    taken: Counter[tuple[str, ...]] = Counter()
    seen: set[tuple[str, ...]] = set()
    for candidates in ([cell for cell in cells if known_failure(cell, known) is None], cells):
        missing = {fact for cell in candidates for fact in facts(cell)} - seen
        while missing:
            best = max(
                candidates, key=lambda cell: (len(missing.intersection(facts(cell))), -taken[_variant(cell)])
            )
            chosen.add(best)
            taken[_variant(best)] += 1
            seen.update(facts(best))
            missing.difference_update(facts(best))
    return [cell for cell in cells if cell in chosen]


def _variant(cell: Cell) -> tuple[str, ...]:
    return cell.path, cell.security, cell.transport


def facts(cell: Cell) -> Iterator[tuple[str, ...]]:
    """What a cell shows: each role's implementation with path, security and transport, and who meets whom."""
    roles = [(role, name) for role, name in zip(Cell._fields, cell[:3], strict=False) if name]
    for role, name in roles:
        yield (role, name, *_variant(cell))
    for (role, name), (other_role, other) in itertools.combinations(roles, 2):
        if (name, other) != (OURS, OURS):
            yield (role, name, other_role, other, cell.path)


def usual_cells() -> list[Cell]:
    """What is tried when nobody asks for everything."""
    return covering(all_cells())


def matching(cells: Iterable[Cell], words: Sequence[str]) -> list[Cell]:
    """Those of `cells` whose text has all of `words`."""
    return [cell for cell in cells if all(word in str(cell) for word in words)]
