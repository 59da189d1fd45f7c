"""What every test may use: programs that only some machines have."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def needs(*programs: str) -> None:
    """Go on if this machine has `programs`; else skip the test, or fail where they are required."""
    for program in programs:
        if shutil.which(program) is None:
            missing(program, f"no {program} on this machine")


def missing(program: str, reason: str) -> NoReturn:
    """Skip the test for want of `program`, or fail: BETHROU_REQUIRE lists what must be here, with spaces between."""
    if program in os.environ.get("BETHROU_REQUIRE", "").split():
        pytest.fail(f"{reason}, and BETHROU_REQUIRE lists {program}", pytrace=False)
    pytest.skip(reason)
