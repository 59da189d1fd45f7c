"""What the matrix found, as tables: for the terminal, and for docs/PROTOCOLS.md. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from interop.matrix import ALL, KNOWN, OURS, SECURITIES, TRANSPORTS, Cell, Known, known_failure

BEGIN = "<!-- the interop matrix: tests/interop/run --update writes it -->"
END = "<!-- the end of the interop matrix -->"

_VARIANTS = tuple(itertools.product(SECURITIES, TRANSPORTS))


class Outcome(NamedTuple):
    """How a cell went."""

    cell: Cell
    seconds: float
    error: str
    """What failed first, in a line; "": everything passed."""
    versions: Mapping[str, str]
    """Of the implementations that said so, by their names."""


class Table(NamedTuple):
    """Rows with as many words each as `heading` has."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """All outcomes of a run."""

    known: Sequence[Known] = KNOWN
    outcomes: dict[Cell, Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.cell] = outcome

    @property
    def surprises(self) -> list[Outcome]:
        """Cells that failed and should not have, or passed and are known to fail."""
        return [each for each in self.outcomes.values() if self.verdict(each) in ("FAILED", "PASSED")]

    def verdict(self, outcome: Outcome) -> str:
        """ok, known with its number, FAILED, or PASSED where a failure is known."""
        expected = known_failure(outcome.cell, self.known)
        if expected is None:
            return "FAILED" if outcome.error else "ok"
        if outcome.error:
            return f"known {self.known.index(expected) + 1}"
        return "PASSED" if expected.always else "ok"

    @property
    def versions(self) -> dict[str, str]:
        """What was tried, by the names of implementations."""
        found = {name: said for each in self.outcomes.values() for name, said in each.versions.items()}
        return {name: found[name].removeprefix("v") for name in ALL if name in found}

    def label(self, name: str) -> str:
        """An implementation as tables name it."""
        return f"{name.partition('-')[0]} {self.versions.get(name, '')}".strip()

    # -- tables ------------------------------------------------------------------------------------------------------

    def tables(self) -> list[Table]:
        """One of direct links, and one of circuits for each role of ours; none without rows."""
        made = [
            self._direct(),
            self._circuits("client", "exit", "relay"),
            self._circuits("client", "relay", "exit"),
            self._circuits("exit", "relay", "client"),
        ]
        return [table for table in made if table.rows]

    def _direct(self) -> Table:
        heading = ["client", "exit", *(f"{security}, {transport}" for security, transport in _VARIANTS)]
        pairs = {(cell.client, cell.exit): None for cell in self.outcomes if cell.relay is None}
        rows = [
            [self.label(client), self.label(exit_)]
            + [self._word(Cell(client, exit_, None, *variant)) for variant in _VARIANTS]
            for client, exit_ in pairs
        ]
        return Table("Direct links", heading, rows)

    def _circuits(self, down: str, across: str, role: str) -> Table:
        """Those in which ours has `role`."""
        names = [
            name
            for name in ALL
            if any(
                cell.relay
                and getattr(cell, role) == OURS
                and name in (getattr(cell, down), getattr(cell, across))
                for cell in self.outcomes
            )
        ]
        rows = []
        for row, column in itertools.product(names, names):
            roles = {role: OURS, down: row, across: column}
            cells = [Cell(roles["client"], roles["exit"], roles["relay"], *variant) for variant in _VARIANTS]
            if column == names[0]:
                rows.append([self.label(row)])
            rows[-1].append(self._words(cells))
        heading = [f"{down} \\ {across}", *map(self.label, names)]
        return Table(f"Circuits, {role}: {self.label(OURS)}", heading, rows)

    def _word(self, cell: Cell) -> str:
        outcome = self.outcomes.get(cell)
        return self.verdict(outcome) if outcome else ""

    def _words(self, cells: Sequence[Cell]) -> str:
        """The verdicts of one place in a table, each with the security and transport that it was got with."""
        found = [(cell, self._word(cell)) for cell in cells if cell in self.outcomes]
        if len(found) == len(_VARIANTS) and len({word for _, word in found}) == 1:
            return f"{found[0][1]}: all four"
        return "; ".join(f"{word}: {cell.security}, {cell.transport}" for cell, word in found)

    # -- Markdown ----------------------------------------------------------------------------------------------------

    def markdown(self) -> str:
        """All of it, without the markers."""
        passed = sum(self.verdict(each) == "ok" for each in self.outcomes.values())
        named = ", ".join(self.label(name) for name in self.versions)
        lines = [f"{named}: {passed} of {len(self.outcomes)} cells pass.", ""]
        for table in self.tables():
            lines += [f"{table.title}:", "", *_markdown_rows(table), ""]
        for number, known in enumerate(self.known, 1):
            lines.append(f"- known {number} ({known.whose}): {known.reason}")
        return "\n".join(lines).rstrip() + "\n"


def _markdown_rows(table: Table) -> Iterable[str]:
    for row in (table.heading, ["---"] * len(table.heading), *table.rows):
        yield f"| {' | '.join(row)} |".replace("|  |", "| |")


def with_matrix(document: str, matrix: str) -> str:
    """`document` with `matrix` between the markers. Raises ValueError when they are not there, each once."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"the document has to have {BEGIN} and {END}, each once")
    return f"{before}{BEGIN}\n\n{matrix}\n{END}{after}"
