"""Every input that fuzzing has kept, through its target: what was found once does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def test_each_target_has_a_corpus() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_it_makes_trouble(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[name](path.read_bytes())
        except Exception as error:  # noqa: BLE001 - any is a find, and has to say for which input
            pytest.fail(f"{path.name}: {error!r}")
    TARGETS[name](b"")
