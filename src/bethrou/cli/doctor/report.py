"""Findings as text for people, a line each and its remedy below, and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bethrou.cli.doctor.facts import Facts
from bethrou.cli.doctor.finding import Finding, Level
from bethrou.printable import printable
from bethrou.quantities import counted

FORMAT = 1
"""Version of the JSON. Keys, checks and levels only get added."""

_STYLES = {Level.OK: "green", Level.UNKNOWN: "dim", Level.WARNING: "yellow", Level.PROBLEM: "red"}
_LEVEL_WIDTH = max(len(level) for level in Level)
_CHECK_WIDTH = 12
_SHOWN = 600  # characters of a line: reasons of several addresses may be in it


def exit_status(findings: Sequence[Finding]) -> int:
    """The exit status: 1 when something does not work."""
    return int(any(finding.level is Level.PROBLEM for finding in findings))


def as_json(facts: Facts, findings: Sequence[Finding]) -> str:
    """All of it as one object; README says what its keys are."""
    status = facts.status
    report: dict[str, Any] = {
        "format": FORMAT,
        "role": facts.role,
        "running": status is not None,
        "id": status.id if status is not None else "",
        "network": status.network if status is not None else "",
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2)


def as_lines(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Each line, and the style of its first word."""
    lines = []
    for finding in findings:
        head = f"{finding.level:<{_LEVEL_WIDTH}}  {finding.check:<{_CHECK_WIDTH}}  "
        lines.append((f"{head}{printable(finding.text, _SHOWN)}", _STYLES[finding.level]))
        if finding.fix:
            lines.append(
                (f"{'':<{_LEVEL_WIDTH}}  {'':<{_CHECK_WIDTH}}  -> {printable(finding.fix, _SHOWN)}", "")
            )
    return lines


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    counts = Counter(finding.level for finding in findings)
    return f"{counted(counts[Level.PROBLEM], 'problem')}, {counted(counts[Level.WARNING], 'warning')}"


def show(findings: Sequence[Finding]) -> None:
    """Print them. Lines are as long as they are: the terminal breaks them, and whoever copies one has all of it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for line, style in as_lines(findings):
        text = Text(line)
        text.stylize(style, 0, _LEVEL_WIDTH)
        console.print(text)
    console.print(summary(findings))
