"""Runs what is measured of relays: `bench/relay --help`."""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from lab import Lab, Settings, build_tools
from main import ROUNDS, announce, exit_status, note, only_run
from processes import Processes, raise_open_files_limit
from relay_lab import BUCKET_S, QUICK, Figures, Plan, measure


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    least: float | None = None
    most: float | None = None
    """The bar: what the median of the rounds must reach, or not go beyond."""

    @property
    def bar(self) -> str:
        if self.least is not None:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most is not None else ""

    def met(self, value: float) -> bool:
        return not (self.least is not None and value < self.least) and not (
            self.most is not None and value > self.most
        )


ROWS = (
    Row("down_direct_MBps", "bulk down, one stream, direct", "MB/s"),
    Row("down_circuit_MBps", "  through a circuit", "MB/s"),
    Row("down_share", "  of the direct link's", "ratio"),
    Row("up_direct_MBps", "bulk up, one stream, direct", "MB/s"),
    Row("up_circuit_MBps", "  through a circuit", "MB/s"),
    Row("up_share", "  of the direct link's", "ratio"),
    Row("bulk_share", "  geometric mean of the two", "ratio", least=0.25),
    Row("exit_s_per_GB", "processor time of an exit, direct link", "s/GB"),
    Row("relay_s_per_GB", "  of the relay, circuit", "s/GB"),
    Row("relay_cost", "  of the exit's", "ratio", most=2.0),
    Row("place_KiB", "memory of a reservation", "KiB", most=20.0),
    Row("circuit_KiB", "  of a circuit", "KiB"),
    Row("relay_MB", "  of the relay with all of them", "MB"),
    Row("opened_per_s", "circuits opened, 16 at a time", "1/s"),
    Row("circuit_p50_ms", "a new circuit beside them, median", "ms"),
    Row("circuit_p99_ms", "  99th percentile", "ms", most=250.0),
    Row("relay_start_s", "restart: the relay listens again after", "s"),
    Row("back_first_s", "  first member back", "s"),
    Row("back_median_s", "  half of them", "s"),
    Row("back_last_s", "  all of them", "s", most=10.0),
    Row("back_busiest", f"  within the busiest {BUCKET_S:g} s", "%", most=25.0),
)
TITLE_WIDTH, CELL_WIDTH, BAR_WIDTH = 42, 12, 60


@dataclass(frozen=True)
class Options:
    plan: Plan
    quick: bool
    rounds: int
    json: Path | None


def parse_options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="bench/relay", description="What relays cost.")
    parser.add_argument("--quick", action="store_true", help="a few of everything: does it run, not how fast")
    parser.add_argument("--repeat", metavar="N", type=int, help=f"rounds (default {ROUNDS}, 1 with --quick)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write every sample")
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else Plan()
    return Options(plan, given.quick, given.repeat or (1 if given.quick else ROUNDS), given.json)


def run(options: Options) -> int:
    about = {"machine": report.machine(), "open_files": raise_open_files_limit()}
    announce(about)
    plan = options.plan
    if options.quick:
        print("a quick run: it shows that everything works, its figures mean nothing")
    print(
        f"{options.rounds} rounds; {plan.reservations:,} reservations, {plan.circuits:,} open circuits, "
        f"{plan.returning:,} members at a restart"
    )
    with only_run(), TemporaryDirectory(prefix="bench-") as scratch:
        logs = Path(scratch) / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            lab = Lab(build_tools(), Path(scratch), processes, Settings())
            rounds = [
                measure(lab, plan, lambda what, at=number: note(f"round {at}, {what}"))
                for number in range(1, options.rounds + 1)
            ]
            note("")
    print(table(rounds, judged=not options.quick))
    print(histogram(rounds))
    if options.json:
        report.write_json(options.json, document(rounds, plan, about))
    return int(not options.quick and bool(missed(rounds)))


def table(rounds: Sequence[Figures], *, judged: bool) -> str:
    """Medians of the rounds, and the smallest and the largest."""
    lines = [
        f"{'':{TITLE_WIDTH}}{'':>6}{'median':>{CELL_WIDTH}}{'min..max':>{CELL_WIDTH + 4}}  {'bar':<9}verdict"
    ]
    for row in ROWS:
        values = [figures[row.key] for figures in rounds]
        verdict = (
            ("bar met" if row.met(statistics.median(values)) else "MISSED") if judged and row.bar else ""
        )
        line = (
            f"{row.title:{TITLE_WIDTH}}{row.unit:>6}{report.number(statistics.median(values)):>{CELL_WIDTH}}"
        )
        line += f"{report.spread(values):>{CELL_WIDTH + 4}}  {row.bar:<9}{verdict}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def histogram(rounds: Sequence[Figures]) -> str:
    """When members had a place again after the restart, all rounds together."""
    back = [seconds for figures in rounds for seconds in figures["back_s"]]
    counted = Counter(int(seconds / BUCKET_S) for seconds in back)
    widest = max(counted.values())
    lines = ["members back after a restart, seconds from the relay's end, all rounds together"]
    for bucket in range(min(counted), max(counted) + 1):
        count = counted[bucket]
        bar = "#" * round(BAR_WIDTH * count / widest)
        lines.append(f"{bucket * BUCKET_S:8.2f}{count:6} {bar}".rstrip())
    return "\n".join(lines)


def missed(rounds: Sequence[Figures]) -> list[Row]:
    return [row for row in ROWS if not row.met(statistics.median(figures[row.key] for figures in rounds))]


def document(rounds: Sequence[Figures], plan: Plan, about: dict[str, object]) -> dict[str, object]:
    return {
        "format": 1,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "plan": asdict(plan),
        "bars": {row.key: row.bar for row in ROWS if row.bar},
        "missed": [row.key for row in missed(rounds)],
        "rounds": rounds,
    }


def main() -> int:
    return exit_status("bench/relay", lambda: run(parse_options(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
