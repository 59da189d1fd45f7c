"""State directories: which one a program gets, and that it has it alone."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bethrou.cli.control_endpoint import take_state
from bethrou.cli.state_dir import MOST_INSTANCES, StateChoice, StateDirectory
from bethrou.config import LogFormat, LogLevel
from bethrou.errors import ConfigError
from bethrou.ops.logs import make_logger
from live.applications import application
from live.processes import Programs, programs
from live.targets import echo, target


class Taken:
    """State directories that are in use."""

    def __init__(self) -> None:
        self._all: list[StateDirectory] = []
        self.said = io.StringIO()

    def open(self, program: str = "client", **choice: str) -> Path:
        state = StateDirectory.open(StateChoice(**choice), program)
        self._all.append(state)
        return state.path

    def take(self, **choice: str) -> Path | None:
        """As a program takes it at its start, with a log."""
        state = take_state(
            StateChoice(**choice), "client", make_logger(LogLevel.INFO, LogFormat.TEXT, stream=self.said)
        )
        if state is not None:
            self._all.append(state)
        return state and state.path

    def release(self) -> None:
        while self._all:
            self._all.pop().release()


@pytest.fixture
def taken() -> Iterator[Taken]:
    taken = Taken()
    yield taken
    taken.release()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "bethrou"


def test_the_usual_place(base: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = taken.open()
    assert path == base / "client"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert [(entry.name, stat.S_IMODE(entry.stat().st_mode)) for entry in path.iterdir()] == [("lock", 0o600)]
    assert (path / "lock").read_text() == f"{os.getpid()}\n"
    assert taken.open("node") == base / "node"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert taken.open() == tmp_path / "home/.local/state/bethrou/client"


def test_a_name_and_a_directory(base: Path, taken: Taken, tmp_path: Path) -> None:
    assert taken.open(instance="work") == base / "client-work"
    assert taken.open(directory=str(tmp_path / "a/b")) == tmp_path / "a/b"
    assert taken.open(directory="", instance="") == base / "client"


def test_those_that_nobody_has_named_are_told_apart_by_number(base: Path, taken: Taken) -> None:
    names = ["client", *(f"client-{number}" for number in range(2, MOST_INSTANCES + 1))]
    assert [taken.open() for _ in names] == [base / name for name in names]
    assert taken.open("node") == base / "node"
    with pytest.raises(ConfigError, match=r"^32 programs run in .*/bethrou; use --dir or --instance$"):
        taken.open()


def test_one_that_is_named_is_nobody_elses(base: Path, taken: Taken, tmp_path: Path) -> None:
    taken.open(instance="work")
    taken.open(directory=str(tmp_path / "own"))
    process = f"another program \\(process {os.getpid()}\\) runs in"
    with pytest.raises(ConfigError, match=f"^{process} .*/client-work: stop it, or .* with --instance$"):
        taken.open(instance="work")
    with pytest.raises(ConfigError, match=f"^{process} .*/own: stop it, or .* with --dir$"):
        taken.open(directory=str(tmp_path / "own"))
    taken.release()
    assert taken.open(instance="work") == base / "client-work"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"directory": "a", "instance": "b"}, "--instance: says nothing beside --dir"),
        ({"instance": "a/b"}, '--instance: "a/b" must have 1 to 64 characters'),
        ({"instance": ".." + "x" * 63}, "must have 1 to 64 characters"),
        ({"instance": "a\n"}, r'"a\\n" must have'),
    ],
)
def test_what_makes_no_sense(choice: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StateChoice(**choice)


def test_a_program_that_asked_for_no_directory_runs_without(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    assert taken.take() is None
    (line,) = taken.said.getvalue().splitlines()
    assert "warn  going on without control socket: " in line
    assert "/dev/null/bethrou/client cannot be used: Not a directory" in line
    for choice in ({"directory": "/dev/null/x"}, {"instance": "x"}):
        with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
            taken.take(**choice)


def test_only_a_second_one_says_where_it_is(base: Path, taken: Taken) -> None:
    assert taken.take() == base / "client"
    assert taken.said.getvalue() == ""
    assert taken.take() == base / "client-2"
    assert "another client runs here: this one is told apart as client-2" in taken.said.getvalue()
    before = taken.said.getvalue()
    assert taken.take(instance="x") == base / "client-x"
    assert taken.said.getvalue() == before


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as all_of_them:
        yield all_of_them


async def test_several_nodes_and_clients_of_one_user_need_no_options(
    started: Programs, tmp_path: Path
) -> None:
    nodes = [started.node() for _ in range(2)]
    clients = [started.client([node]) for node in nodes]
    for client in clients:
        await client.connected()
        async with (
            target(echo) as destination,
            application(client.proxy, destination.host, destination.port) as app,
        ):
            app.writer.write(b"hello")
            assert await app.reader.readexactly(5) == b"hello"
    held = {path.name for path in (tmp_path / "bethrou").iterdir()}
    assert held == {"node", "node-2", "client", "client-2"}
    for program in (*clients, *nodes):
        assert program.stop() == 0
    left = [path.name for path in (tmp_path / "bethrou").rglob("*") if path.is_file() or path.is_socket()]
    assert left == ["lock"] * 4


def test_a_second_program_in_a_directory_is_refused_in_one_line(started: Programs, tmp_path: Path) -> None:
    state = tmp_path / "state"
    node = started.node("--dir", str(state))
    with pytest.raises(AssertionError, match=f"process {node.pid}.*stop it, or choose another directory"):
        started.node("--dir", str(state))


def test_a_read_only_home_stops_nobody(started: Programs) -> None:
    node = started.node(environment={"XDG_STATE_HOME": "/dev/null"})
    assert [line["level"] for line in node.lines_of("going on without control socket")] == ["warn"]
    assert node.stop() == 0
