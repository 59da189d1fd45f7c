"""Log lines on stderr: one form for people, one for programs, both safe to look at and cheap to write.

    2026-11-23T10:00:00.123Z info  request            result=ok destination=example.com:443 seconds=0.012
    {"time":"2026-11-23T10:00:00.123Z","level":"info","event":"request","result":"ok",...}

A busy exit writes 3,000 lines a second, so a line is rendered in one go, and below the chosen level a call does
nothing. The logger is our own: structlog brings rich's tracebacks and pygments into every node and client, 5.5 MB and
some 60 ms of start-up for which there is no use here.

Names in a log line come from the network: whatever is not printable is escaped. Secrets are another matter:
nothing here guesses what might be one. Callers never pass any.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, TextIO, TypeAlias

from bethrou.config import LogFormat, LogLevel
from bethrou.printable import printable, quoted

DESTINATION = "destination"
"""The field that names whom somebody talks to; `hide_destinations` removes it."""

Fields: TypeAlias = MutableMapping[str, Any]
Render: TypeAlias = Callable[[str, str, str, Fields], str]

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_EVENT_WIDTH = 18
_is_plain = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
"""Whether a value may stand as it is. One with a space, a quote, `=` or a backslash is put in quotes, so that a line
can be taken apart again; so is, for simplicity, one with letters beyond ASCII."""


def make_logger(
    level: LogLevel,
    form: LogFormat,
    hide_destinations: bool = False,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.time,
) -> Logger:
    """Return a logger that writes to `stream` (stderr). `clock` gives the time of day in seconds."""
    line = _Line(_render_json if form is LogFormat.JSON else _render_text, hide_destinations, clock)
    return Logger(line, _Stream(sys.stderr if stream is None else stream), _LEVELS[level])


class Logger:
    """Writes a line for each call whose level is important enough: an event, and fields that tell of it.

    The field `exc_info` (an exception, or True for the one that is being handled) adds a traceback.
    """

    __slots__ = ("_bound", "_line", "_lowest", "_stream")

    def __init__(self, line: _Line, stream: _Stream, lowest: int, bound: Fields | None = None) -> None:
        self._line = line
        self._stream = stream
        self._lowest = lowest
        self._bound = bound or {}

    def bind(self, **fields: Any) -> Logger:
        """Return a logger that puts `fields` into every line."""
        return Logger(self._line, self._stream, self._lowest, {**self._bound, **fields})

    def debug(self, event: str, /, **fields: Any) -> None:
        """A line for whoever looks for a fault."""
        if self._lowest <= logging.DEBUG:
            self._write("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """A line for the record."""
        if self._lowest <= logging.INFO:
            self._write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """A line that somebody may have to act on."""
        if self._lowest <= logging.WARNING:
            self._write("warn", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """A line that somebody has to act on."""
        self._write("error", event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._write("error", event, {**fields, "exc_info": True})

    def _write(self, level: str, event: str, fields: Fields) -> None:
        if self._bound:
            fields = {**self._bound, **fields}
        self._stream.write(self._line(level, event, fields), urgent=level in ("warn", "error"))

    def flush(self) -> None:
        """Write what waits for the end of the loop's turn: for the last line of a program."""
        self._stream.flush()


def configure(
    level: LogLevel, form: LogFormat, hide_destinations: bool = False, stream: TextIO | None = None
) -> Logger:
    """Return the program's logger, and have the libraries' own log lines (asyncio's) pass through it.

    To be called once, by the program itself.
    """
    logger = make_logger(level, form, hide_destinations, stream)
    root = logging.getLogger()
    root.handlers = [_FromLibraries(logger)]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    return logger


class _Stream:
    """Writes whole lines, and never fails its caller.

    In an event loop the lines of a turn are written together at its end: a busy exit has a dozen, and each write would
    be a system call. What must not be lost with the process is written with `urgent`, or followed by `flush`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def write(self, line: str, urgent: bool) -> None:
        self._lines.append(line)
        if urgent:
            self.flush()
        elif len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # there is no loop
                self.flush()

    def flush(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk, a closed pipe or stream: no reason to end somebody's connection.
            return


class _Line:
    """Makes the finished line of an event and its fields."""

    def __init__(self, render: Render, hide_destinations: bool, clock: Callable[[], float]) -> None:
        self._render = render
        self._hide = hide_destinations
        self._clock = clock
        self._second = -1
        self._date = ""

    def __call__(self, level: str, event: str, fields: Fields) -> str:
        if self._hide:
            fields.pop(DESTINATION, None)
        error = _take_exception(fields)
        if error:
            fields["exception"] = error
        return self._render(self._timestamp(), level, event, fields)

    def _timestamp(self) -> str:
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._date}.{int((now - second) * 1000):03d}Z"


def _take_exception(fields: Fields) -> str:
    """Remove `exc_info` and return the traceback it stands for; "" when there is none."""
    given = fields.pop("exc_info", None)
    if not given:
        return ""
    error = given if isinstance(given, BaseException) else sys.exception()
    if isinstance(given, tuple):
        error = given[1]
    return "" if error is None else "".join(traceback.format_exception(error)).rstrip()


def _render_text(timestamp: str, level: str, event: str, fields: Fields) -> str:
    error = fields.pop("exception", "")
    words = [timestamp, _head(level, event)]
    for name, value in fields.items():
        if type(value) is int:
            words.append(f"{name}={value}")
        elif type(value) is float:
            words.append(f"{name}={value:.6g}")
        else:
            text = str(value)
            words.append(f"{name}={text if _is_plain(text) else quoted(text)}")
    line = " ".join(words).rstrip() + "\n"
    if error:
        line += "".join(f"    {printable(part)}\n" for part in str(error).splitlines())
    return line


@lru_cache(maxsize=256)
def _head(level: str, event: str) -> str:
    return f"{level:5} {printable(event):{_EVENT_WIDTH}}"


def _render_json(timestamp: str, level: str, event: str, fields: Fields) -> str:
    line = _encode({"time": timestamp, "level": level, "event": event, **fields})
    # All but DEL is escaped by the encoder: it writes ASCII only.
    return line.replace("\x7f", "\\u007f") + "\n"


_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


class _FromLibraries(logging.Handler):
    """Passes the standard library's log records on."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._writers = (
            (logging.ERROR, logger.error),
            (logging.WARNING, logger.warning),
            (logging.INFO, logger.info),
            (logging.NOTSET, logger.debug),
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` with the name of the library that wrote it."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit its format
            text = str(record.msg)
        write = next(write for lowest, write in self._writers if record.levelno >= lowest)
        write(text, source=record.name, exc_info=record.exc_info)
