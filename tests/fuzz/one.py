"""One target under libFuzzer: `python -m fuzz.one TARGET [libFuzzer's arguments]`, in tests/."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["bethrou.wire", "bethrou.config", "h11"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()
