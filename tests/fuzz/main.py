"""Coverage-guided fuzzing (atheris, which is libFuzzer for Python) of everything that reads bytes of others.

    tests/fuzz/run [--seconds N | --runs N] [--keep] [TARGET]...

Each target runs in processes of its own, two at a time, for N seconds (600) or inputs, from tests/fuzz/corpus/TARGET. A
crash, an answer that contradicts itself, an input that takes 5 s, or 1 GiB of memory is a find: the input is left in
tests/fuzz/finds, and the exit status is 1. `--keep` adds to the corpus what has reached new code.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CORPUS, FINDS = HERE / "corpus", HERE / "finds"
NEEDS_ATHERIS = 3  # exit status: something has to be installed

SLOWEST = 5  # seconds for one input
MOST_MEMORY = 1024  # MiB
LONGEST = 8192  # bytes of an input


@dataclass
class Outcome:
    """What became of one target."""

    target: str
    runs: int
    features: int
    corpus: int
    memory: int
    """MiB at the end."""
    find: str
    """"" when nothing was found."""


def fuzz(target: str, seconds: int, runs: int, keep: bool) -> Outcome:
    """Run one target for so long; with `runs`, for so many inputs, which are the same each time."""
    FINDS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        grown = Path(scratch) / "grown"
        grown.mkdir()
        seeds = CORPUS / target
        arguments = [
            *([f"-runs={runs}", "-seed=1"] if runs else [f"-max_total_time={seconds}"]),
            f"-timeout={SLOWEST}",
            f"-rss_limit_mb={MOST_MEMORY}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={FINDS}/{target}-",
            "-print_final_stats=1",
            str(grown),
            str(seeds),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.one", target, *arguments],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + 300,
            check=False,
        )
        outcome = _read(target, done.stdout, done.returncode)
        if outcome.find:
            (FINDS / f"{target}.log").write_text(done.stdout)
        if keep and not outcome.find:
            _merge(target, grown)
        return outcome


def _read(target: str, text: str, status: int) -> Outcome:
    def last(pattern: str) -> int:
        found = re.findall(pattern, text)
        return int(found[-1]) if found else 0

    find = ""
    if status:
        written = re.search(r"Test unit written to (\S+)", text)
        error = re.search(r"^(\w[\w.]*(?:Error|Exception|Find)\b.*)$", text, re.MULTILINE)
        find = f"{error[1] if error else f'status {status}'}; {written[1] if written else 'no input'}"
    return Outcome(
        target,
        last(r"stat::number_of_executed_units: (\d+)"),
        last(r"ft: (\d+)"),
        last(r"corp: (\d+)"),
        last(r"stat::peak_rss_mb: +(\d+)"),
        find,
    )


def _merge(target: str, grown: Path) -> None:
    """Make the corpus the smallest one that reaches all that it and `grown` reach."""
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged"
        merged.mkdir()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "fuzz.one",
                target,
                "-merge=1",
                str(merged),
                str(CORPUS / target),
                str(grown),
            ],
            cwd=HERE.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        shutil.rmtree(CORPUS / target)
        shutil.copytree(merged, CORPUS / target)


def main(argv: Sequence[str]) -> int:
    """The command."""
    known = sorted(folder.name for folder in CORPUS.iterdir())
    parser = argparse.ArgumentParser(prog="tests/fuzz/run", description="Fuzz what reads bytes of others.")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument(
        "--runs", type=int, default=0, help="so many inputs each, always the same, in place of a time"
    )
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches new code")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(known)}")
    options = parser.parse_args(argv)
    unknown = set(options.targets) - set(known)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not here: it has no wheel for this Python and machine", file=sys.stderr)
        return NEEDS_ATHERIS
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = [
            pool.submit(fuzz, target, options.seconds, options.runs, options.keep)
            for target in options.targets or known
        ]
        print(f"{'TARGET':<14}{'RUNS':>10}{'FEATURES':>10}{'CORPUS':>8}{'MiB':>6}  FOUND")
        failed = False
        for future in running:
            each = future.result()
            failed = failed or bool(each.find)
            print(
                f"{each.target:<14}{each.runs:>10}{each.features:>10}{each.corpus:>8}{each.memory:>6}  "
                f"{each.find or 'nothing'}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
