"""Runs the benchmark: `bench/run --help`."""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import report
from judge import FAILED, MISSED, OURS, Outcome, judge_all
from lab import QUICK, Figures, Lab, Settings, build_tools
from measure import MEASUREMENTS, Bench, Measurement
from ours import Bethrou
from peers import Direct, Fleet, Microsocks, Peer, Shadowsocks, Ssh
from processes import BenchError, Processes, raise_open_files_limit
from table import MeanOf, Row, rows

PEERS: tuple[Peer, ...] = (Direct(), Microsocks(), Ssh(), Shadowsocks(), Bethrou())
SECURITIES: tuple[Peer, ...] = (Bethrou("noise"), Bethrou("tls"))
"""Ourselves with one security each: only where asked for."""
ROUNDS = 3
BUSY_LOAD = 0.5

Taken = dict[str, dict[str, list[Figures | None]]]


@dataclass(frozen=True)
class Options:
    quick: bool
    pattern: re.Pattern[str]
    repeat: int
    peers: tuple[str, ...]
    json: Path | None
    install: bool


def parse_options(arguments: Sequence[str]) -> Options:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="bench/run", description="Bethrou's speed beside its peers.")
    parser.add_argument("--quick", action="store_true", help="seconds a row: does it run, not how fast")
    parser.add_argument("--rows", metavar="REGEX", default="", help="only rows whose key matches")
    parser.add_argument("--repeat", metavar="N", type=int, help=f"rounds (default {ROUNDS}, 1 with --quick)")
    help_peers = (
        "default: %(default)s; noise and tls are Bethrou with one security, to be held against each other"
    )
    parser.add_argument("--peers", metavar="A,B", default=",".join(names), help=help_peers)
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write every sample")
    parser.add_argument("--install", action="store_true", help="apt-get the peers that are missing (root)")
    parser.add_argument("--list", action="store_true", help="list the rows' keys and stop")
    given = parser.parse_args(arguments)
    peers = tuple(name.strip() for name in given.peers.split(","))
    if unknown := set(peers) - {peer.name for peer in (*PEERS, *SECURITIES)}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    if given.list:
        print("\n".join(f"{row.key:16}{row.title}" for row in rows(Settings())))
        raise SystemExit(0)
    repeat = given.repeat or (1 if given.quick else ROUNDS)
    return Options(given.quick, re.compile(given.rows), repeat, peers, given.json, given.install)


def install_missing() -> None:
    packages = [
        word for peer in PEERS if peer.missing() and peer.name != OURS for word in peer.package.split()
    ]
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        subprocess.run(command, env=environment, check=False)


def present(wanted: Sequence[str]) -> list[Peer]:
    """The peers that can run; says which cannot, and what would help."""
    found = []
    for peer in (*PEERS, *SECURITIES):
        if peer.name in wanted:
            if missing := peer.missing():
                print(f"left out: {peer.name}, without {', '.join(missing)} (package {peer.package})")
            else:
                found.append(peer)
    return found


def wanted_rows(pattern: re.Pattern[str], settings: Settings) -> list[Row]:
    """The rows asked for, and those that a mean among them is made of."""
    every = rows(settings)
    asked = {row.key for row in every if pattern.search(row.key)}
    for row in every:
        if row.key in asked and isinstance(row.rule, MeanOf):
            asked.update(row.rule.rows)
    return [row for row in every if row.key in asked]


def note(text: str) -> None:
    """A passing word on what happens now, only where someone watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def take_one(measurement: Measurement, bench: Bench, peer: Peer) -> Figures | None:
    try:
        return measurement.take(bench, peer)
    except (BenchError, OSError) as error:
        note("")
        bench.complain(f"{peer.name}: {error}", measurement.key)
        return None


def take(
    measurement: Measurement, bench: Bench, peers: Sequence[Peer], rounds: int
) -> dict[str, list[Figures | None]]:
    """All rounds of one measurement, the peers in turn within each round."""
    ours = {peer.name for peer in SECURITIES} if OURS in measurement.peers else set()
    taking_part = [peer for peer in peers if peer.name in measurement.peers or peer.name in ours]
    taken: dict[str, list[Figures | None]] = {peer.name: [] for peer in taking_part}
    for number in range(min(rounds, measurement.rounds_max)):
        if measurement.at_once:
            note(f"{measurement.key}, all peers at once")
            for peer, figures in zip(taking_part, take_at_once(measurement, bench, taking_part), strict=True):
                taken[peer.name].append(figures)
            continue
        for peer in taking_part:
            note(f"{measurement.key}, round {number + 1}, {peer.name}")
            taken[peer.name].append(take_one(measurement, bench, peer))
    note("")
    return taken


def take_at_once(measurement: Measurement, bench: Bench, peers: Sequence[Peer]) -> list[Figures | None]:
    with ThreadPoolExecutor(len(peers) or 1) as pool:
        try:
            return list(pool.map(lambda peer: take_one(measurement, bench, peer), peers))
        except BaseException:
            bench.lab.processes.stop_all()  # so that the threads, which are waited for, come to their end
            raise


def measure_all(
    chosen: Sequence[Row],
    bench: Bench,
    peers: Sequence[Peer],
    rounds: int,
    show: Callable[[Outcome], None],
) -> tuple[list[Outcome], Taken]:
    """Takes every measurement that a chosen row needs; rows are shown as soon as they are complete."""
    keys = {row.measurement for row in chosen}
    samples: Taken = {}
    outcomes: list[Outcome] = []
    shown: set[str] = set()
    for measurement in MEASUREMENTS:
        if measurement.key not in keys:
            continue
        samples[measurement.key] = take(measurement, bench, peers, rounds)
        outcomes = judge_all(chosen, samples)
        for outcome in outcomes:
            if outcome.row.key not in shown:
                shown.add(outcome.row.key)
                show(outcome)
    return outcomes, samples


def run(options: Options) -> int:
    settings = QUICK if options.quick else Settings()
    if options.install:
        install_missing()
    peers = present(options.peers)
    about = {
        "machine": report.machine(),
        "versions": {peer.name: peer.version() for peer in peers},
        "rounds": options.repeat,
        "open_files": raise_open_files_limit(),
    }
    announce(about)
    with only_run():
        return run_rows(options, settings, peers, about)


@contextlib.contextmanager
def only_run() -> Iterator[None]:
    """Warns where another benchmark runs on this machine at the same time."""
    with (Path(gettempdir()) / f"bethrou-bench-{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another benchmark is running: the figures of both mean little")
        yield


def run_rows(options: Options, settings: Settings, peers: Sequence[Peer], about: dict[str, object]) -> int:
    names = [peer.name for peer in peers]
    if options.quick:
        print("a quick run: it shows that everything works, its figures mean nothing")
    with TemporaryDirectory(prefix="bench-") as scratch:
        logs = Path(scratch) / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            lab = Lab(build_tools(), Path(scratch), processes, settings)
            bench = Bench(lab, Fleet(lab))
            print(report.header(names))

            def show(outcome: Outcome) -> None:
                if any(outcome.values.values()) or any(outcome.failed.values()) or outcome.ratios:
                    print("\n".join(report.lines(outcome, names)), flush=True)

            chosen = wanted_rows(options.pattern, settings)
            outcomes, samples = measure_all(chosen, bench, peers, options.repeat, show)
    print("\n".join(report.footnotes(outcomes)))
    if options.json:
        report.write_json(options.json, report.document(outcomes, samples, settings, about))
    return 1 if left_out(options, names) else verdict(outcomes, options.quick)


def announce(about: dict[str, object]) -> None:
    machine = about["machine"]
    assert isinstance(machine, dict)
    print(
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"
    )
    if machine["load_before"] > BUSY_LOAD:
        print(f"the machine is busy (load {machine['load_before']}): read the spreads, not the medians")


def left_out(options: Options, names: Sequence[str]) -> bool:
    """Whether the one that all this is about was asked for and is not there."""
    return OURS in options.peers and OURS not in names


def verdict(outcomes: Sequence[Outcome], quick: bool) -> int:
    """The exit status: 1 when a bar was missed; a quick run asks only that everything worked."""
    if quick:
        return int(any(outcome.failed.get(OURS) or outcome.errors.get(OURS) for outcome in outcomes))
    return int(any(outcome.verdict in (MISSED, FAILED) for outcome in outcomes))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def exit_status(program: str, run: Callable[[], int]) -> int:
    """What `run` returns; 130 when it is interrupted, SIGTERM included, and 2, with one line, when it cannot go on."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BenchError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2


def main() -> int:
    return exit_status("bench/run", lambda: run(parse_options(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
