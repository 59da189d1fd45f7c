"""What a test has measured, in lines to be read, beside what the product promises."""

from __future__ import annotations

SLACK = 1.0
"""Seconds that a busy machine, and whoever looks, may add to what is promised."""


class Figures:
    """Writes lines of one test to its output."""

    def __init__(self, test: str) -> None:
        self._test = test

    def seconds(self, what: str, taken: float, promised: float | None = None) -> None:
        """Note how long something took. Fails when it is much longer than `promised`."""
        promise = "" if promised is None else f" (promised: {promised:g} s)"
        self._write(f"{what}: {taken:.3f} s{promise}")
        assert promised is None or taken < promised + SLACK, what

    def note(self, what: str, said: object) -> None:
        """Note something that is no number."""
        self._write(f"{what}: {said}")

    def count(self, what: str, number: int) -> int:
        """Note how many there were; returns it."""
        self._write(f"{what}: {number}")
        return number

    def _write(self, line: str) -> None:
        print(f"{self._test}: {line}")
