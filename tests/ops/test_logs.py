import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.config import LogFormat, LogLevel
from bethrou.ops.logs import Logger, configure, make_logger

NOW = 1_795_428_000.125


class Log:
    """A logger and what it has written."""

    def __init__(
        self,
        form: LogFormat = LogFormat.TEXT,
        level: LogLevel = LogLevel.INFO,
        hide_destinations: bool = False,
    ) -> None:
        self.stream = io.StringIO()
        self.log: Logger = make_logger(level, form, hide_destinations, self.stream, clock=lambda: NOW)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def only(self) -> str:
        (line,) = self.lines
        return line


def test_a_text_line_is_aligned_and_can_be_taken_apart() -> None:
    log = Log()
    log.log.info("request", result="ok", sent=5, seconds=0.1234567, user="a b", note="", path=None, k="x=y")
    assert log.only() == (
        "2026-11-23T10:00:00.125Z info  request            "
        'result=ok sent=5 seconds=0.123457 user="a b" note="" path=None k="x=y"'
    )


def test_a_line_without_fields_has_no_blanks_behind_it() -> None:
    log = Log()
    log.log.warning("stopping")
    assert log.only() == "2026-11-23T10:00:00.125Z warn  stopping"


def test_a_json_line_keeps_types() -> None:
    log = Log(LogFormat.JSON)
    log.log.error("request", result="ok", sent=5, seconds=0.5, tags=["a"], path=None, other={1}.__class__)
    assert json.loads(log.only()) == {
        "time": "2026-11-23T10:00:00.125Z",
        "level": "error",
        "event": "request",
        "result": "ok",
        "sent": 5,
        "seconds": 0.5,
        "tags": ["a"],
        "path": None,
        "other": "<class 'set'>",
    }


@pytest.mark.parametrize("form", list(LogFormat))
@given(text=st.text(), event=st.text())
def test_nothing_unprintable_reaches_the_terminal(form: LogFormat, text: str, event: str) -> None:
    log = Log(form)
    log.log.info(event, name=text)
    assert log.stream.getvalue().removesuffix("\n").isprintable()
    if form is LogFormat.JSON:
        line = json.loads(log.stream.getvalue())
        assert (line["event"], line["name"]) == (event, text)


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (LogLevel.DEBUG, ["debug", "info", "warn", "error"]),
        (LogLevel.INFO, ["info", "warn", "error"]),
        (LogLevel.WARN, ["warn", "error"]),
        (LogLevel.ERROR, ["error"]),
    ],
)
def test_only_what_is_important_enough_is_written(level: LogLevel, written: list[str]) -> None:
    log = Log(level=level)
    for write in (log.log.debug, log.log.info, log.log.warning, log.log.error):
        write("x")
    assert [line.split()[1] for line in log.lines] == written


@pytest.mark.parametrize("form", list(LogFormat))
def test_destinations_can_be_hidden(form: LogFormat) -> None:
    log = Log(form, hide_destinations=True)
    log.log.info("request", destination="example.com:443", result="ok")
    assert "example" not in log.only()
    assert "destination" not in log.only()
    assert "ok" in log.only()


def test_bound_fields_come_with_every_line() -> None:
    log = Log()
    log.log.bind(peer="abc").info("x", a=1)
    assert log.only().endswith("peer=abc a=1")


def fail() -> None:
    raise ValueError("bad\x1b[2J\nsecond line")


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_traceback_is_escaped_too(form: LogFormat) -> None:
    log = Log(form)
    try:
        fail()
    except ValueError:
        log.log.exception("unexpected", a=1)
    assert all(line.isprintable() for line in log.lines)
    if form is LogFormat.JSON:
        assert "Traceback" in json.loads(log.only())["exception"]
    else:
        assert log.lines[0].endswith("a=1")
        assert log.lines[1] == "    Traceback (most recent call last):"
        assert log.lines[-2:] == ["    ValueError: bad\\x1b[2J", "    second line"]


def test_an_exception_that_is_handed_over() -> None:
    log = Log()
    log.log.error("task failed", exc_info=OSError(5, "gone"))
    assert log.lines[-1].strip() == "OSError: [Errno 5] gone"


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_that_fails_or_is_closed_hurts_nobody() -> None:
    make_logger(LogLevel.INFO, LogFormat.TEXT, stream=Full()).info("x")
    log = Log()
    log.stream.close()
    log.log.info("x")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield root
    root.handlers = handlers
    root.setLevel(level)


def test_lines_of_libraries_look_the_same(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    configure(LogLevel.INFO, LogFormat.TEXT, stream=stream)
    library = logging.getLogger("asyncio")
    library.debug("not shown")
    library.info("took %s", "5 s\x1b[2J")
    library.log(35, "odd level")
    library.warning("%d", "no number")
    lines = [line.split(maxsplit=1)[1] for line in stream.getvalue().splitlines()]
    assert lines == [
        "info  took 5 s\\x1b[2J    source=asyncio",
        "warn  odd level          source=asyncio",
        "warn  %d                 source=asyncio",
    ]
