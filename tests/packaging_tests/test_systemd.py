"""The units in packaging/systemd, as systemd's own tools see them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from conftest import needs
from packaging_tests.commands import run

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))
EXPOSURE = 2.0
"""At most, of 10, by `systemd-analyze security`."""


def installed(unit: Path, folder: Path) -> Path:
    """The unit as it would be where the program is installed: here in `folder`."""
    text = unit.read_text()
    program = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert program is not None
    stand_in = folder / Path(program[1]).name
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    copy = folder / unit.name
    copy.write_text(text.replace(program[1], str(stand_in)))
    return copy


def test_there_is_one_for_each_program() -> None:
    assert [unit.stem for unit in UNITS] == ["bethrou-client", "bethrou-node"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    (analyze,) = needs("systemd-analyze")
    assert run([analyze, "verify", "--man=no", str(installed(unit, tmp_path))]).strip() == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_hardened(unit: Path, tmp_path: Path) -> None:
    (analyze,) = needs("systemd-analyze")
    said = run([analyze, "security", "--offline=true", "--no-pager", str(installed(unit, tmp_path))])
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_command_is_one_of_ours(unit: Path) -> None:
    command = re.search(r"^ExecStart=\S+ (.*)$", unit.read_text(), re.MULTILINE)
    assert command is not None
    module = f"bethrou.cli.{unit.stem.removeprefix('bethrou-')}"
    # options that it does not know would be refused before the help is shown
    run([sys.executable, "-m", module, *command[1].split(), "--help"])
