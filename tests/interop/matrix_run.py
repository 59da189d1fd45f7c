"""The command tests/interop/run: tries the cells of the matrix, two at a time, and says what came of them."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import rich
import rich.table
import uvloop

from interop.cells import run_cell
from interop.matrix import OURS, THEIRS, Cell, all_cells, matching, usual_cells
from interop.peers import MISSING, TOOLS, built
from interop.report import Report, with_matrix

AT_A_TIME = 2
_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOLS.md"


def main(arguments: Sequence[str]) -> int:
    given = _parse(arguments)
    absent = _absent()
    cells = matching(all_cells() if given.full else usual_cells(), given.words)
    if not cells:
        print(f"no cell has all of these in its name: {' '.join(given.words)}", file=sys.stderr)
        return 2
    wanted = [cell for cell in cells if not absent.keys() & set(cell.foreign)]
    for name, reason in absent.items():
        left_out = sum(name in cell.foreign for cell in cells)
        print(f"{reason}: {left_out} cells are not tried")
    started = time.monotonic()
    report = uvloop.run(_tried(wanted))
    if given.table:
        _print_tables(report)
    _print_result(report, time.monotonic() - started)
    complete = not given.words and not absent and not given.full
    if given.update:
        _update(report, complete)
    required = os.environ.get("BETHROU_REQUIRE", "").split()
    lacking = [name for name in absent if TOOLS[name] in required]
    return 1 if report.surprises or lacking or (given.update and not complete) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/interop/run",
        description=f"Try {OURS} with peers of other implementations: {', '.join(THEIRS)}.",
        epilog="Status: 0 what should pass did; 1 a cell failed that is not known to, or a known failure passed; "
        "2 there is no such cell.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only cells that have all these in their names"
    )
    parser.add_argument("--table", action="store_true", help="print tables, too")
    parser.add_argument(
        "--full", action="store_true", help="all combinations, not only as many as show every pair"
    )
    parser.add_argument("--update", action="store_true", help=f"write what was found into {_DOCUMENT.name}")
    return parser.parse_args(arguments)


def _absent() -> dict[str, str]:
    """Peers that are not there and cannot be built here, and why. A build that fails ends the program."""
    absent = {}
    for name in THEIRS:
        status, text = built(name)
        if status == MISSING:
            absent[name] = text
        elif status:
            sys.exit(text)
    return absent


async def _tried(cells: Sequence[Cell]) -> Report:
    report = Report()
    turns = asyncio.Semaphore(AT_A_TIME)

    async def tried(cell: Cell) -> None:
        async with turns:
            with tempfile.TemporaryDirectory(prefix="bethrou-matrix-") as folder:
                outcome = await run_cell(cell, Path(folder))
        report.add(outcome)
        words = f"{report.verdict(outcome):8} {outcome.seconds:5.1f} s  {cell}"
        print(
            f"{len(report.outcomes):3}/{len(cells)}  {words}{outcome.error and f': {outcome.error}'}",
            flush=True,
        )

    async with asyncio.TaskGroup() as running:
        for cell in cells:
            running.create_task(tried(cell))
    return report


def _print_tables(report: Report) -> None:
    for table in report.tables():
        drawn = rich.table.Table(*table.heading, title=table.title, title_justify="left")
        for row in table.rows:
            drawn.add_row(*row)
        rich.print(drawn)
    for number, known in enumerate(report.known, 1):
        print(f"known {number} ({known.whose}): {known.reason}")


def _print_result(report: Report, seconds: float) -> None:
    passed = sum(report.verdict(each) == "ok" for each in report.outcomes.values())
    named = ", ".join(report.label(name) for name in report.versions)
    print(f"{named}: {passed} of {len(report.outcomes)} cells pass, in {seconds:.0f} s.")
    for outcome in report.surprises:
        print(f"{report.verdict(outcome)}: {outcome.cell}: {outcome.error or 'it is known to fail'}")


def _update(report: Report, complete: bool) -> None:
    if not complete or report.surprises:
        print(
            f"{_DOCUMENT.name} is left as it is: that takes all usual cells, and no surprise", file=sys.stderr
        )
        return
    _DOCUMENT.write_text(with_matrix(_DOCUMENT.read_text(), report.markdown()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
