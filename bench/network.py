"""Runs networks of many nodes: `bench/network --help`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from lab import Lab, Settings, build_tools
from main import announce, exit_status, note, only_run
from network_lab import Figures, Plan, measure, redis_server
from processes import Processes, raise_open_files_limit

SIZES = (10, 100, 2_000)
JUDGED_FROM = 2_000
DEAF_SHARE = 0.1
QUICK_SIZES = (10, 100)
QUICK = Plan(nodes=0, joiners=1, settle_s=0.5, window_s=1.0, known_after_s=2.0)


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    bar: float | None = None
    """What networks of `JUDGED_FROM` nodes must stay below."""


ROWS = (
    Row("cold_median_s", "client's start to first request, median", "s"),
    Row("cold_slowest_s", "  the slowest of them", "s", 2.0),
    Row("worked_median_s", "  processor time until then, median", "s"),
    Row("warm_median_s", "  with a last-known-good list, median", "s"),
    Row("warm_slowest_s", "  the slowest of those", "s", 2.0),
    Row("known", "nodes known 10 s after its start", ""),
    Row("links", "links that it keeps", ""),
    Row("client_MB", "memory of the client", "MB", 90.0),
    Row("client_cpu", "  of a core, idle", "%", 3.0),
    Row("churn_client_cpu", "  of a core, others coming and going", "%"),
    Row("node_MB", "memory of a node", "MB"),
    Row("node_cpu", "  of a core, idle", "%"),
    Row("published", "messages published", "1/s"),
    Row("redis_in", "bytes to Redis, and to each who listens", "kB/s"),
    Row("redis_out", "bytes from Redis, as connected here", "kB/s"),
    Row("redis_out_full", "  if every node listened (calculated)", "kB/s"),
    Row("redis_cpu", "Redis, of a core", "%"),
    Row("churn_published", "published, clients coming and going", "1/s"),
)
TITLE_WIDTH, CELL_WIDTH = 42, 16


@dataclass(frozen=True)
class Options:
    plans: tuple[Plan, ...]
    quick: bool
    json: Path | None


def parse_options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="bench/network", description="Networks of many nodes.")
    parser.add_argument("--quick", action="store_true", help="10 and 100 nodes for seconds: does it run")
    parser.add_argument("--nodes", metavar="N,N", help=f"default: {','.join(map(str, SIZES))}")
    parser.add_argument("--window", metavar="S", type=float, help="seconds of rest that are measured (60)")
    parser.add_argument("--joiners", metavar="N", type=int, help="clients that come and go (7)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write every sample")
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else Plan(nodes=0)
    if given.window is not None:
        plan = replace(plan, window_s=given.window)
    if given.joiners is not None:
        plan = replace(plan, joiners=given.joiners)
    usual = QUICK_SIZES if given.quick else SIZES
    sizes = tuple(map(int, given.nodes.split(","))) if given.nodes else usual
    plans = [replace(plan, nodes=size) for size in sizes]
    plans.append(replace(plan, nodes=max(sizes), deaf_share=DEAF_SHARE))
    return Options(tuple(plans), given.quick, given.json)


def run(options: Options) -> int:
    redis_server()
    about = {"machine": report.machine(), "open_files": raise_open_files_limit()}
    announce(about)
    if options.quick:
        print("a quick run: it shows that everything works, its figures mean nothing")
    taken: list[tuple[Plan, Figures]] = []
    with only_run(), TemporaryDirectory(prefix="bench-") as scratch:
        logs = Path(scratch) / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            lab = Lab(build_tools(), Path(scratch), processes, Settings())
            for plan in options.plans:
                note(f"a network of {plan.title} nodes")
                taken.append((plan, measure(lab, plan)))
            note("")
    print(table(taken))
    if options.json:
        report.write_json(options.json, document(taken, about))
    return int(not options.quick and bool(missed(taken)))


def table(taken: Sequence[tuple[Plan, Figures]]) -> str:
    heads = "".join(f"{plan.title:>{CELL_WIDTH}}" for plan, _ in taken)
    lines = [f"{'nodes':{TITLE_WIDTH}}{'':>6}{heads}{'per 1,000 more':>{CELL_WIDTH}}  {'bar':<8}verdict"]
    for row in ROWS:
        cells = "".join(f"{report.number(figures[row.key]):>{CELL_WIDTH}}" for _, figures in taken)
        growth = _growth(row, taken)
        bar = f"< {row.bar:g}" if row.bar is not None else ""
        line = f"{row.title:{TITLE_WIDTH}}{row.unit:>6}{cells}{growth:>{CELL_WIDTH}}  {bar:<8}{_verdict(row, taken)}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _growth(row: Row, taken: Sequence[tuple[Plan, Figures]]) -> str:
    """From the smallest to the largest network in which every address refuses."""
    plain = [(plan.nodes, figures) for plan, figures in taken if not plan.deaf_share]
    (fewest, small), (most, large) = plain[0], plain[-1]
    if fewest == most:
        return ""
    growth = (large[row.key] - small[row.key]) / (most - fewest) * 1_000
    return f"{'-' if growth < 0 else '+'}{report.number(abs(growth))}"


def _verdict(row: Row, taken: Sequence[tuple[Plan, Figures]]) -> str:
    if row.bar is None or not any(plan.nodes >= JUDGED_FROM for plan, _ in taken):
        return ""
    return "MISSED" if row in missed(taken) else "bar met"


def missed(taken: Sequence[tuple[Plan, Figures]]) -> list[Row]:
    judged = [figures for plan, figures in taken if plan.nodes >= JUDGED_FROM]
    return [
        row for row in ROWS if row.bar is not None and any(figures[row.key] >= row.bar for figures in judged)
    ]


def document(taken: Sequence[tuple[Plan, Figures]], about: dict[str, object]) -> dict[str, object]:
    return {
        "format": 1,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "bars": {row.key: row.bar for row in ROWS if row.bar is not None},
        "missed": [row.key for row in missed(taken)],
        "networks": [{"plan": asdict(plan), "figures": figures} for plan, figures in taken],
    }


def main() -> int:
    return exit_status("bench/network", lambda: run(parse_options(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
