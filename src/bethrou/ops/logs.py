"""Log lines on stderr: one form for people, one for programs, both safe to look at and cheap to write.

    2026-11-23T10:00:00.123Z info  request            result=ok destination=example.com:443 seconds=0.012
    {"time":"2026-11-23T10:00:00.123Z","level":"info","event":"request","result":"ok",...}

A busy exit writes 3,000 lines a second, so structlog is used with one processor that renders the whole line,
and below the chosen level a call does nothing.

Names in a log line come from the network: whatever is not printable is escaped. Secrets are another matter:
nothing here guesses what might be one. Callers never pass any.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO, TypeAlias

import structlog

from bethrou.config import LogFormat, LogLevel
from bethrou.printable import printable, quoted

DESTINATION = "destination"
"""The field that names whom somebody talks to; `hide_destinations` removes it."""

Logger: TypeAlias = structlog.typing.FilteringBoundLogger
Fields: TypeAlias = MutableMapping[str, Any]
Render: TypeAlias = Callable[[str, str, Fields], str]

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_SHOWN_LEVELS = {"warning": "warn", "critical": "error", "exception": "error"}
_EVENT_WIDTH = 18
_PLAIN_MARKS = frozenset(' "=\\')
"""A value with one of these is put in quotes, so that a line can be taken apart again."""


def make_logger(
    level: LogLevel,
    form: LogFormat,
    hide_destinations: bool = False,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.time,
) -> Logger:
    """Return a logger that writes to `stream` (stderr). `clock` gives the time of day in seconds."""
    line = _Line(_render_json if form is LogFormat.JSON else _render_text, hide_destinations, clock)
    logger: Logger = structlog.wrap_logger(
        _Stream(sys.stderr if stream is None else stream),
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    ).bind()
    return logger


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
    """What structlog calls at the end: writes a line whole and at once, and never fails its caller."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk, a closed pipe or stream: no reason to end somebody's connection.
            return

    log = debug = info = warn = warning = error = exception = critical = msg


class _Line:
    """The one processor: takes structlog's fields, returns the finished line."""

    def __init__(self, render: Render, hide_destinations: bool, clock: Callable[[], float]) -> None:
        self._render = render
        self._hide = hide_destinations
        self._clock = clock
        self._second = -1
        self._date = ""

    def __call__(self, _: Any, method: str, fields: Fields) -> str:
        if self._hide:
            fields.pop(DESTINATION, None)
        error = _take_exception(fields)
        if error:
            fields["exception"] = error
        return self._render(self._timestamp(), _SHOWN_LEVELS.get(method, method), fields)

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


def _render_text(timestamp: str, level: str, fields: Fields) -> str:
    event = printable(str(fields.pop("event", "")))
    error = fields.pop("exception", "")
    words = [f"{name}={_value(value)}" for name, value in fields.items()]
    line = f"{timestamp} {level:5} {event:{_EVENT_WIDTH}} {' '.join(words)}".rstrip() + "\n"
    if error:
        line += "".join(f"    {printable(part)}\n" for part in str(error).splitlines())
    return line


def _value(value: object) -> str:
    if type(value) is not str:
        if type(value) is float:
            return f"{value:.6g}"
        value = str(value)
    if value.isprintable() and value and _PLAIN_MARKS.isdisjoint(value):
        return value
    return quoted(value)


def _render_json(timestamp: str, level: str, fields: Fields) -> str:
    event = fields.pop("event", "")
    line = _encode({"time": timestamp, "level": level, "event": event, **fields})
    # All but DEL is escaped by the encoder: it writes ASCII only.
    return line.replace("\x7f", "\\u007f") + "\n"


_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


class _FromLibraries(logging.Handler):
    """Passes the standard library's log records on."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` with the name of the library that wrote it."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit its format
            text = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.ERROR)
        self._logger.log(level, text, source=record.name, exc_info=record.exc_info)
