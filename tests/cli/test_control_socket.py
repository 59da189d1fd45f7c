"""Where the control socket is, who can reach it, and that nothing of it stays."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bethrou.cli.control_path import MAX_PATH, find_socket
from bethrou.cli.control_socket import ControlSocket
from bethrou.errors import ConfigError

LONG = "d" * MAX_PATH


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short name, which takes the place of /tmp, too."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", name)
        yield Path(name)


def state_in(folder: Path, name: str = "state") -> Path:
    state = folder / name
    state.mkdir(mode=0o700)
    return state


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_it_is_in_the_state_directory_for_its_user_alone(short: Path) -> None:
    state = state_in(short)
    control = ControlSocket(state, {})
    assert control.path == find_socket(state) == state / "control.sock"
    assert stat.S_IMODE(control.path.stat().st_mode) == 0o600
    assert is_listening(control.path)
    assert everything_in(short) == {"state", "state/control.sock"}
    control.close()
    assert everything_in(short) == {"state"}


def test_the_longest_path_that_fits(short: Path) -> None:
    room = MAX_PATH - len(str(short)) - len("//control.sock")
    state = state_in(short, "d" * room)
    control = ControlSocket(state, {})
    assert len(str(control.path)) == MAX_PATH
    assert control.path.parent == state
    control.close()
    state = state_in(short, "d" * (room + 1))
    control = ControlSocket(state, {})
    assert control.path.parent != state
    assert is_listening(control.path)
    control.close()


def test_a_long_path_is_replaced_by_one_in_the_runtime_directory(short: Path) -> None:
    state, runtime = state_in(short, LONG), state_in(short, "run")
    control = ControlSocket(state, {"XDG_RUNTIME_DIR": str(runtime)})
    assert control.path.parent == runtime
    assert control.path.name.startswith("bethrou-")
    assert len(control.path.stem) == len("bethrou-") + 8
    assert find_socket(state) == control.path
    assert stat.S_IMODE((state / "control").stat().st_mode) == 0o600
    assert is_listening(find_socket(state))
    control.close()
    assert everything_in(short) == {LONG, "run"}


@pytest.mark.parametrize("runtime", ["", "run", "/absent", "/proc"])
def test_without_one_it_is_in_a_directory_of_its_own(short: Path, runtime: str) -> None:
    state = state_in(short, LONG)
    control = ControlSocket(state, {"XDG_RUNTIME_DIR": runtime})
    own = short / f"bethrou-{os.getuid()}"
    assert control.path.parent == own
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    other = ControlSocket(state_in(short, LONG[1:]), {})
    assert other.path.parent == own
    control.close()
    assert is_listening(other.path)
    other.close()
    assert not own.exists()


def test_a_directory_that_others_can_enter_is_not_used(short: Path) -> None:
    state, runtime, own = state_in(short, LONG), state_in(short, "run"), short / f"bethrou-{os.getuid()}"
    runtime.chmod(0o750)
    own.mkdir()
    own.chmod(0o755)
    with pytest.raises(ConfigError, match="is too long for a Unix socket, and so is every other place"):
        ControlSocket(state, {"XDG_RUNTIME_DIR": str(runtime)})
    own.rmdir()
    own.symlink_to(state_in(short, "elsewhere"))
    with pytest.raises(ConfigError):
        ControlSocket(state, {"XDG_RUNTIME_DIR": str(runtime)})


def test_what_a_dead_program_has_left_is_replaced(short: Path) -> None:
    state, runtime = state_in(short, LONG), state_in(short, "run")
    left = ControlSocket(state, {"XDG_RUNTIME_DIR": str(runtime)})
    left.socket.close()  # as it is after kill -9
    assert not is_listening(find_socket(state))
    control = ControlSocket(state, {"XDG_RUNTIME_DIR": str(runtime)})
    assert control.path == left.path
    assert is_listening(control.path)
    control.close()
    (short / "short").mkdir(mode=0o700)
    (short / "short" / "control").write_text(f"{runtime}/elsewhere.sock\n")
    control = ControlSocket(short / "short", {})
    assert find_socket(short / "short") == control.path
    control.close()
    assert everything_in(short) == {LONG, "run", "short"}


def test_what_is_in_its_way_and_no_socket_is_named(short: Path) -> None:
    state = state_in(short)
    (state / "control.sock").mkdir()
    with pytest.raises(ConfigError, match=r"/control\.sock: no socket can be made: Is a directory"):
        ControlSocket(state, {})
