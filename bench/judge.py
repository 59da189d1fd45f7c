"""From samples to verdicts. Ratios are taken round by round, so that a slow minute slows both sides of a ratio."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab import Figures
from table import Against, AtMost, MeanOf, Row

OURS = "bethrou"
AIM_MET, BAR_MET, MISSED, FAILED, NONE = "aim met", "bar met", "MISSED", "FAILED", "-"

# What was measured: measurement key -> peer -> one entry a round; None where the measurement failed.
Samples = Mapping[str, Mapping[str, Sequence[Figures | None]]]


@dataclass
class Outcome:
    """A judged row, every round kept."""

    row: Row
    values: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    verdict: str = NONE


def judge_all(rows: Sequence[Row], samples: Samples) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for row in rows:
        if isinstance(row.rule, MeanOf):
            outcome = _mean(row, row.rule, outcomes)
        elif row.measurement in samples:
            outcome = _collect(row, samples[row.measurement])
        else:
            continue
        if outcome:
            outcome.verdict = _verdict(outcome)
            outcomes[row.key] = outcome
    return list(outcomes.values())


def _collect(row: Row, by_peer: Mapping[str, Sequence[Figures | None]]) -> Outcome:
    outcome = Outcome(row)
    for peer, taken in by_peer.items():
        good = [figures for figures in taken if figures is not None]
        outcome.values[peer] = [figures.get(row.figure, 0.0) * row.scale for figures in good]
        outcome.errors[peer] = int(sum(figures["errors"] for figures in good))
        outcome.failed[peer] = len(taken) - len(good)
    if isinstance(row.rule, Against):
        outcome.ratios = _ratios(row, row.rule, by_peer)
    return outcome


def _ratios(row: Row, rule: Against, by_peer: Mapping[str, Sequence[Figures | None]]) -> list[float]:
    ratios = []
    best = min if rule.lower else max
    for number, mine in enumerate(by_peer.get(OURS, ())):
        theirs = [
            figures[row.figure]
            for peer in rule.peers
            for figures in [_at(by_peer.get(peer, ()), number)]
            if figures and figures.get(row.figure)
        ]
        if mine and theirs:
            ratios.append(mine.get(row.figure, 0.0) / best(theirs))
    return ratios


def _at(taken: Sequence[Figures | None], number: int) -> Figures | None:
    return taken[number] if number < len(taken) else None


def _mean(row: Row, rule: MeanOf, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    parts = [outcomes[key] for key in rule.rows if key in outcomes]
    if len(parts) < len(rule.rows):
        return None
    rounds = zip(*(part.ratios for part in parts), strict=False)
    outcome = Outcome(row, ratios=[geometric_mean(ratios) for ratios in rounds])
    outcome.failed[OURS] = sum(part.failed.get(OURS, 0) for part in parts)
    return outcome


def _verdict(outcome: Outcome) -> str:
    rule = outcome.row.rule
    if rule.bar is None and rule.aim is None:
        return NONE
    if outcome.failed.get(OURS):
        return FAILED
    measured = outcome.values.get(OURS, []) if isinstance(rule, AtMost) else outcome.ratios
    if not measured:
        return NONE
    value = statistics.median(measured)
    if outcome.errors.get(OURS):
        return MISSED
    if rule.aim is not None and _meets(value, rule.aim, rule.lower):
        return AIM_MET
    if rule.bar is None:
        return "aim missed"
    if not _meets(value, rule.bar, rule.lower):
        return MISSED
    return BAR_MET


def _meets(value: float, threshold: float, lower: bool) -> bool:
    return value <= threshold if lower else value >= threshold


def geometric_mean(numbers: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(max(number, 1e-9)) for number in numbers))
