"""What a test has measured, in lines to be read."""

from __future__ import annotations


class Figures:
    """Writes lines of one test to its output."""

    def __init__(self, test: str) -> None:
        self._test = test

    def seconds(self, what: str, taken: float) -> float:
        """Note how long something took; returns it."""
        print(f"{self._test}: {what}: {taken:.3f} s")
        return taken

    def count(self, what: str, number: int) -> int:
        """Note how many there were; returns it."""
        print(f"{self._test}: {what}: {number}")
        return number
