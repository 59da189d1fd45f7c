"""The matrix: what is chosen, what is said of it, and that the command tries it."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from interop.matrix import (
    KNOWN,
    MOST,
    OURS,
    SECURITIES,
    THEIRS,
    TRANSPORTS,
    Cell,
    Known,
    all_cells,
    covering,
    facts,
    known_failure,
    matching,
    usual_cells,
)
from interop.peers import runnable
from interop.report import BEGIN, END, Outcome, Report, with_matrix

RUN = Path(__file__).with_name("run")
DOCUMENT = Path(__file__).parents[2] / "docs" / "PROTOCOLS.md"
DIRECT = Cell(OURS, "js", None, "noise", "tcp")
CIRCUIT = Cell("rust", OURS, "go-newest", "tls", "ws")


# -- the choice ------------------------------------------------------------------------------------------------------


def test_every_cell_has_ours_and_somebody_elses() -> None:
    cells = all_cells()
    assert len(cells) == len(set(cells)) == 4 * (2 * 4 + 5**3 - 4**3 - 1)
    for cell in cells:
        assert OURS in (cell.client, cell.exit, cell.relay)
        assert cell.foreign


def test_the_usual_cells_are_few_and_each_implementation_plays_each_role_in_each_way() -> None:
    cells = usual_cells()
    assert len(cells) <= MOST
    for name, security, transport in itertools.product(THEIRS, SECURITIES, TRANSPORTS):
        alike = [cell for cell in cells if (cell.security, cell.transport) == (security, transport)]
        for role in ("client", "exit"):
            assert any(getattr(cell, role) == name and cell.path == "direct" for cell in alike)
            assert any(getattr(cell, role) == name and cell.path == "circuit" for cell in alike)
        assert any(cell.relay == name for cell in alike)


def test_any_two_implementations_meet_in_the_usual_cells() -> None:
    cells = usual_cells()
    for (one, other), ours in itertools.product(
        [("client", "exit"), ("client", "relay"), ("exit", "relay")], ("relay", "exit", "client")
    ):
        if ours in (one, other):
            continue
        for first, second in itertools.product(THEIRS, THEIRS):
            assert any((getattr(cell, one), getattr(cell, other)) == (first, second) for cell in cells)


def test_what_is_known_to_fail_is_chosen_only_where_nothing_else_shows_the_same() -> None:
    cells = usual_cells()
    for cell in cells:
        if known_failure(cell):
            others = {fact for each in all_cells() if not known_failure(each) for fact in facts(each)}
            assert not others.issuperset(facts(cell)), cell


def test_a_choice_covers_everything_and_nothing_is_chosen_from_nothing() -> None:
    cells = [cell for cell in all_cells() if cell.transport == "tcp" and "rust" not in cell.foreign]
    wanted = {fact for cell in cells for fact in facts(cell)}
    assert {fact for cell in covering(cells) for fact in facts(cell)} == wanted
    assert covering([]) == []
    assert covering([DIRECT]) == [DIRECT]


def test_cells_are_found_by_words() -> None:
    assert str(CIRCUIT) == "rust -> ours through go-newest, tls, ws"
    assert matching([DIRECT, CIRCUIT], ["rust ->", "ws"]) == [CIRCUIT]
    assert matching([DIRECT, CIRCUIT], []) == [DIRECT, CIRCUIT]


# -- what is said of it ----------------------------------------------------------------------------------------------


def report(*outcomes: Outcome, known: tuple[Known, ...] = ()) -> Report:
    made = Report(known)
    for outcome in outcomes:
        made.add(outcome)
    return made


def outcome(cell: Cell, error: str = "") -> Outcome:
    return Outcome(cell, 1.0, error, {OURS: "0.1.0", "js": "3.3.11", "rust": "v0.57.1"})


@pytest.mark.parametrize(
    ("expected", "error", "verdict", "surprise"),
    [
        (None, "", "ok", False),
        (None, "it broke", "FAILED", True),
        (True, "it broke", "known 1", False),
        (True, "", "PASSED", True),
        (False, "it broke", "known 1", False),
        (False, "", "ok", False),
    ],
)
def test_known_failures_have_to_fail_and_others_not(
    expected: bool | None, error: str, verdict: str, surprise: bool
) -> None:
    known = () if expected is None else (Known(lambda cell: True, "them", "why", always=expected),)
    made = report(outcome(DIRECT, error), known=known)
    assert made.verdict(made.outcomes[DIRECT]) == verdict
    assert bool(made.surprises) == surprise


def test_tables_name_versions_and_how_each_cell_went() -> None:
    made = report(outcome(DIRECT), outcome(CIRCUIT, "it broke"))
    direct, circuits = made.tables()
    assert direct.rows == [["ours 0.1.0", "js 3.3.11", "ok", "", "", ""]]
    assert circuits.title == "Circuits, exit: ours 0.1.0"
    assert ["rust 0.57.1", "FAILED: tls, ws", ""] in circuits.rows
    assert "0.57.1" in circuits.rows[-1][0]


def test_all_four_ways_with_one_result_are_one_word() -> None:
    ways = itertools.product(SECURITIES, TRANSPORTS)
    made = report(*(outcome(CIRCUIT._replace(security=each, transport=way)) for each, way in ways))
    assert "ok: all four" in {word for row in made.tables()[0].rows for word in row}


def test_the_document_keeps_what_is_around_the_matrix() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = with_matrix(document, "new\n")
    assert written == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_matrix(written, "new\n") == written
    for broken in ("", BEGIN, f"{END}{BEGIN}", f"{document}{BEGIN}"):
        with pytest.raises(ValueError, match="each once"):
            with_matrix(broken, "new\n")


def test_the_document_has_the_matrix_of_these_cells_and_these_known_failures() -> None:
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    written, _, _ = rest.partition(END)
    passing = sum(known_failure(cell) is None for cell in usual_cells())
    assert f"{passing} of {len(usual_cells())} cells pass" in written
    for number, known in enumerate(KNOWN, 1):
        assert f"- known {number} ({known.whose}): {known.reason}" in written


# -- the command -----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *arguments], check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    "cell", ["ours -> go-newest, tls, ws", "go-newest -> go-newest through ours, noise, tcp"]
)
def test_the_command_tries_a_cell(cell: str) -> None:
    runnable("go-newest")
    done = run("--table", "--full", cell)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1/1  ok" in done.stdout
    assert "go 0.5" in done.stdout


def test_the_command_knows_no_other_cells() -> None:
    done = run("nobody -> nobody")
    assert done.returncode == 2
    assert "no cell" in done.stderr
