"""Showing text that somebody else wrote: names from the network and values from files, made safe for a terminal.

A host name may hold anything that fits in 255 bytes, also the escape sequences that move a cursor, set a
window's title or turn the reading direction. Whatever is printed or logged goes through here first.
"""

from __future__ import annotations

ELLIPSIS = "..."


def printable(text: str, limit: int | None = None) -> str:
    """Return `text` with everything unprintable written as an escape (`\\x1b`, `\\n`, `\\u202e`).

    What counts as printable is `str.isprintable`: no control and format characters, no line or direction
    marks, no surrogates, no blanks other than the space. Past `limit` characters the text is cut off, with
    three dots behind.
    """
    if limit is not None and len(text) > limit:
        text = text[:limit] + ELLIPSIS
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def quoted(text: str, limit: int | None = None) -> str:
    """Return `text` printable and in double quotes; quotes and backslashes inside are escaped."""
    if limit is not None and len(text) > limit:
        return quoted(text[:limit]) + ELLIPSIS
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(char: str) -> str:
    return repr(char)[1:-1]
