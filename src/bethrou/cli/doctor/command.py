"""`bethrou doctor`, from what was typed to its exit status."""

from __future__ import annotations

from bethrou.cli.doctor import report
from bethrou.cli.doctor.checks import examine
from bethrou.cli.doctor.gather import gather
from bethrou.cli.instances import Wanted


def doctor(wanted: Wanted, config_path: str | None, as_json: bool) -> int:
    """Find out what is wrong, and print it. Status 1: something does not work."""
    facts = gather(wanted, config_path)
    findings = examine(facts)
    if as_json:
        print(report.as_json(facts, findings))
    else:
        report.show(findings)
    return report.exit_status(findings)
