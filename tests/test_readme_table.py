"""README.md's table of figures: it is filled by bench/readme_table, and shows the run that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def fill(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "bench" / "readme_table", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_figures_are_those_of_the_run_that_is_named() -> None:
    (place,) = re.findall(
        r"^<!-- bench:begin -->\n(.*?)^<!-- bench:end -->$", README, re.DOTALL | re.MULTILINE
    )
    named = re.search(r"from `(bench/results/\S+\.json)`", place)
    if named is None:
        assert place == "Not measured yet for this version.\n"
    else:
        assert fill("--check", ROOT / named[1]).returncode == 0


RESULT = """{
 "format": 1, "taken": "2026-01-02T03:04:05+00:00", "rounds": 3, "versions": {"none": "", "ssh": "9", "bethrou": "1"},
 "machine": {"cpu": "Some CPU", "cores": 2, "kernel": "6.1", "python": "3.11.2"}, "settings": {"bulk_s": 2.0},
 "rows": [
  {"key": "ping", "title": "64-byte ping-pong, p50", "unit": "us", "bar": "<= 1.5 x ssh|ss", "verdict": "bar met",
   "ratio": {"median": 1.2, "min": 1.1, "max": 1.3, "rounds": [1.2, 1.1, 1.3]},
   "peers": {"ssh": {"median": 100.0, "errors": 0, "failed": 0},
             "bethrou": {"median": 120.4, "errors": 1, "failed": 0}}},
  {"key": "ping-p99", "title": "its p99", "unit": "us", "bar": null, "verdict": "-",
   "ratio": {"median": null}, "peers": {}}
 ]}"""


def test_figures_are_put_into_their_place(tmp_path: Path) -> None:
    result, readme = tmp_path / "run.json", tmp_path / "README.md"
    result.write_text(RESULT)
    readme.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
    assert fill("--check", result, "--readme", readme).returncode == 1
    done = fill(result, "--readme", readme)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert readme.read_text() == (
        "before\n<!-- bench:begin -->\n"
        "|  | unit | no proxy | ssh -D | bethrou | ratio | bar | verdict |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |\n"
        "| 64-byte ping-pong, p50 | us |  | 100 | 120 ! | 1.20 (1.10..1.30) | <= 1.5 x ssh, ss | bar met |\n"
        "\n"
        "Some CPU, 2 cores, Linux 6.1, Python 3.11.2; rounds: 3; 2026-01-02. "
        "Made by `bench/readme_table` from `run.json`.\n"
        "<!-- bench:end -->\nafter\n"
    )
    assert fill("--check", result, "--readme", readme).returncode == 0


@pytest.mark.parametrize(
    ("result", "readme", "reason"),
    [
        ("{", "", "Expecting"),
        ("{}", "", "not written by"),
        (RESULT.replace("2.0", "0.3"), "", "quick run"),
        (RESULT.replace('"ping"', '"pong"'), "", "none of the rows"),
        (RESULT, "no markers\n", "no place for it"),
    ],
)
def test_what_gives_no_table_is_refused(tmp_path: Path, result: str, readme: str, reason: str) -> None:
    (tmp_path / "run.json").write_text(result)
    (tmp_path / "README.md").write_text(readme)
    done = fill(tmp_path / "run.json", "--readme", tmp_path / "README.md")
    assert done.returncode == 2
    assert reason in done.stderr
    assert (tmp_path / "README.md").read_text() == readme
