"""The table for people and the JSON for later."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from judge import OURS, Outcome, Samples
from lab import Settings

TITLE_WIDTH = 43
CELL_WIDTH = 12
COLUMNS = {
    "none": "no proxy",
    "microsocks": "microsocks",
    "ssh": "ssh -D",
    "ss": "ss-libev",
    OURS: "bethrou",
    "noise": "noise",
    "tls": "tls",
}


def number(value: float) -> str:
    """Three significant digits, and no fraction from a hundred on."""
    if value == 0:
        return "0"
    for digits, limit in ((2, 9.995), (1, 99.95)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def spread(values: Sequence[float]) -> str:
    return f"{number(min(values))}..{number(max(values))}" if len(values) > 1 else ""


def header(peers: Sequence[str]) -> str:
    cells = "".join(f"{COLUMNS[peer]:>{CELL_WIDTH}}" for peer in peers)
    return f"{'':{TITLE_WIDTH}}{'':>5}{cells}{'ratio':>{CELL_WIDTH}}  {'bar':<17}{'aim':<17}verdict"


def lines(outcome: Outcome, peers: Sequence[str]) -> list[str]:
    """Medians in the first line, min..max of the rounds in the second."""
    row, rule = outcome.row, outcome.row.rule
    cells, below = "", ""
    for peer in peers:
        values = outcome.values.get(peer, [])
        cells += f"{_cell(outcome, peer, values):>{CELL_WIDTH}}"
        below += f"{spread(values) if values else '':>{CELL_WIDTH}}"
    ratio = number(statistics.median(outcome.ratios)) if outcome.ratios else ""
    below += f"{spread(outcome.ratios) if outcome.ratios else '':>{CELL_WIDTH}}"
    bar = rule.describe(rule.bar) if rule.bar is not None else ""
    aim = rule.describe(rule.aim) if rule.aim is not None else ""
    first = f"{row.title:{TITLE_WIDTH}}{row.unit:>5}{cells}{ratio:>{CELL_WIDTH}}  {bar:<17}{aim:<17}{outcome.verdict}"
    return [first, f"{'':{TITLE_WIDTH + 5}}{below}".rstrip()] if below.strip() else [first]


def _cell(outcome: Outcome, peer: str, values: Sequence[float]) -> str:
    if not values:
        return "failed" if outcome.failed.get(peer) else ""
    troubled = outcome.errors.get(peer) or outcome.failed.get(peer)
    return number(statistics.median(values)) + (" !" if troubled else "")


def footnotes(outcomes: Sequence[Outcome]) -> list[str]:
    """What the exclamation marks in the table stand for, once for each measurement."""
    notes: dict[str, None] = {}
    for outcome in outcomes:
        for peer in outcome.values:
            errors, failed = outcome.errors.get(peer, 0), outcome.failed.get(peer, 0)
            if errors or failed:
                name = outcome.row.measurement
                notes[f"! {name}, {COLUMNS[peer]}: {errors} errors, {failed} rounds failed"] = None
    return list(notes)


def machine() -> dict[str, str | int | float]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_MiB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def document(
    outcomes: Sequence[Outcome],
    samples: Samples,
    settings: Settings,
    about: Mapping[str, object],
) -> dict[str, object]:
    return {
        "format": 1,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "settings": asdict(settings),
        "rows": [_row(outcome) for outcome in outcomes],
        "samples": samples,
    }


def _row(outcome: Outcome) -> dict[str, object]:
    row, rule = outcome.row, outcome.row.rule
    return {
        "key": row.key,
        "title": row.title.strip(),
        "unit": row.unit,
        "bar": rule.describe(rule.bar) if rule.bar is not None else None,
        "aim": rule.describe(rule.aim) if rule.aim is not None else None,
        "verdict": outcome.verdict,
        "ratio": _summary(outcome.ratios),
        "peers": {
            peer: {**_summary(values), "errors": outcome.errors[peer], "failed": outcome.failed[peer]}
            for peer, values in outcome.values.items()
        },
    }


def _summary(values: Sequence[float]) -> dict[str, object]:
    if not values:
        return {"median": None, "min": None, "max": None, "rounds": []}
    kept = [round(value, 4) for value in values]
    return {"median": statistics.median(kept), "min": min(kept), "max": max(kept), "rounds": kept}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
