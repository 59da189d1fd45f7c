"""The Dockerfile and compose.yaml, as far as they can be judged without an engine."""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import missing
from packaging_tests.commands import run

DOCKER = Path(__file__).parents[2] / "packaging" / "docker"
HADOLINT = Path(sys.executable).with_name("hadolint")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    if not HADOLINT.exists():
        missing("hadolint", "hadolint has no wheel for this machine")
    assert run([str(HADOLINT), "--no-color", str(DOCKER / "Dockerfile")]) == ""
