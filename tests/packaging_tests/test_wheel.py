"""The wheel: small, complete, and installed as users do it, by pip and by pipx, in an empty directory."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from packaging_tests.commands import run

ROOT = Path(__file__).parents[2]
PINNED = ROOT / "requirements" / "run.txt"
MOST = 1_000_000  # bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(ROOT)])
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture
def pins(tmp_path: Path) -> str:
    """The versions that were tested. Without their hashes: pip wants all or none, and the wheel here has none."""
    path = tmp_path / "pins.txt"
    lines = [
        line.removesuffix(" \\")
        for line in PINNED.read_text().splitlines()
        if not line.startswith((" ", "#"))
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def works(programs: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """The programs are there, and make a network key."""
    for name in ("bethrou", "bethrou-node", "bethrou-client"):
        said = run([str(programs / name), "--version"], cwd=folder, env=environment)
        assert said.startswith(f"{name} ")
    run([str(programs / "bethrou"), "key", "new"], cwd=folder, env=environment)
    assert (folder / "network.key").stat().st_mode & 0o777 == 0o600


def test_it_is_small_and_has_all_sources_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST
    names = zipfile.ZipFile(wheel).namelist()
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert sources <= set(names)
    rest = [name for name in names if name not in sources and ".dist-info/" not in name]
    assert rest == ["bethrou/py.typed"]


def test_pip_installs_it(wheel: Path, pins: str, tmp_path: Path) -> None:
    run([sys.executable, "-m", "venv", "venv"], cwd=tmp_path)
    run(["venv/bin/pip", "install", "-q", "-c", pins, str(wheel)], cwd=tmp_path)
    works(tmp_path / "venv" / "bin", tmp_path, {"HOME": str(tmp_path)})


def test_pipx_installs_it(wheel: Path, pins: str, tmp_path: Path) -> None:
    places = {"HOME": tmp_path, "PIPX_HOME": tmp_path / "pipx", "PIPX_BIN_DIR": tmp_path / "bin"}
    home = {**os.environ, **{name: str(place) for name, place in places.items()}}
    run(
        [sys.executable, "-m", "pipx", "install", "-q", f"--pip-args=-c {pins}", str(wheel)],
        cwd=tmp_path,
        env=home,
    )
    works(tmp_path / "bin", tmp_path, home)
