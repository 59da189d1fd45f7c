"""What every test may use: programs that only some machines have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import NoReturn

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="give long tests all the time and load that they are for"
    )
    parser.addoption(
        "--update-transcripts", action="store_true", help="write what docs/TRANSCRIPT.md shows anew"
    )


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that are not told where their state lives have it here, not in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def needs(*programs: str) -> list[str]:
    """Where `programs` are. Skips the test if one is not on this machine, or fails it where it is required."""
    return [_find(program) or missing(program, f"no {program} on this machine") for program in programs]


def missing(program: str, reason: str) -> NoReturn:
    """Skip the test for want of `program`, or fail: BETHROU_REQUIRE lists what must be here, with spaces between."""
    if program in os.environ.get("BETHROU_REQUIRE", "").split():
        pytest.fail(f"{reason}, and BETHROU_REQUIRE lists {program}", pytrace=False)
    pytest.skip(reason)


def _find(program: str) -> str | None:
    # sshd and its like are not in everybody's PATH
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
