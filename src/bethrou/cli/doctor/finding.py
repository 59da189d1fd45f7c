"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It could not be found out; nothing speaks against it."""
    WARNING = "warning"
    """It works, and could be better, or may not for long."""
    PROBLEM = "problem"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report."""

    check: str
    """Which check it is of: a word that stays the same."""
    level: Level
    text: str
    """What was found, for people, in one line."""
    fix: str = ""
    """What to do about a warning or problem."""
    subject: str = ""
    """What it is about: a peer ID, an address, a path; "" for the program itself."""

    def __post_init__(self) -> None:
        if bool(self.fix) != (self.level in (Level.WARNING, Level.PROBLEM)):
            raise ValueError("warnings and problems have a fix, and nothing else has one")


def ok(check: str, text: str, subject: str = "") -> Finding:
    """All is well."""
    return Finding(check, Level.OK, text, subject=subject)


def unknown(check: str, text: str, subject: str = "") -> Finding:
    """Nobody could say."""
    return Finding(check, Level.UNKNOWN, text, subject=subject)


def warning(check: str, text: str, fix: str, subject: str = "") -> Finding:
    """It could be better."""
    return Finding(check, Level.WARNING, text, fix, subject)


def problem(check: str, text: str, fix: str, subject: str = "") -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, text, fix, subject)
