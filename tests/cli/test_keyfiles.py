import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from bethrou.assembly import keyfiles
from bethrou.assembly.keyfiles import (
    find_network_key,
    load_network_key,
    load_or_create_identity,
    load_or_create_network_key,
    read_identity,
    read_network_key,
    write_file,
    write_private,
)
from bethrou.errors import KeyFileError
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey

KEY = NetworkKey(bytes(range(32)))
DIGITS = bytes(range(32)).hex().encode()
IDENTITY = Identity.from_seed(bytes(range(1, 33)))


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, event: str, /, **fields: Any) -> None:
        self.lines.append(f"{event} {fields}")

    debug = info = warning = error = write


@pytest.fixture
def log() -> Log:
    return Log()


def private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def refusal(read: Any, path: Path) -> str:
    with pytest.raises(KeyFileError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_keys_are_read_without_a_word(tmp_path: Path, log: Log) -> None:
    assert read_network_key(private(tmp_path / "network.key", KEY.format()), log) == KEY
    identity = read_identity(private(tmp_path / "node.key", IDENTITY.to_protobuf()), log)
    assert identity.peer_id == IDENTITY.peer_id
    assert log.lines == []


def test_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    assert read_network_key(private(tmp_path / "k", KEY.format().replace(b"\n", b"\r\n"))) == KEY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (KEY.format()[:-20], "truncated"),
        (b"\xef\xbb\xbf" + KEY.format(), "byte order mark"),
        (b"x" * 1_000_000, "longer than"),
        (DIGITS, "lacks the two lines"),
    ],
)
def test_network_keys_that_are_none(tmp_path: Path, data: bytes, message: str) -> None:
    reason = refusal(read_network_key, private(tmp_path / "network.key", data))
    assert message in reason
    assert DIGITS.decode()[:20] not in reason


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (IDENTITY.to_protobuf()[:-1], "identity"), (b"\x08" * 100_000, "longer than")],
)
def test_identities_that_are_none(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refusal(read_identity, private(tmp_path / "node.key", data))


@pytest.mark.parametrize("read", [read_network_key, read_identity, load_network_key])
def test_what_cannot_be_read(tmp_path: Path, read: Any) -> None:
    assert refusal(read, tmp_path / "absent") == "cannot be read: No such file or directory"
    assert refusal(read, tmp_path) == "cannot be read: Is a directory"
    with pytest.raises(KeyFileError, match="cannot be read: embedded null byte"):
        read(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = private(tmp_path / "network.key", KEY.format())
    path.chmod(0)
    assert refusal(read_network_key, path) == "cannot be read: Permission denied"


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o620, 0o602])
def test_a_key_open_to_others_is_a_warning(tmp_path: Path, log: Log, mode: int) -> None:
    path = private(tmp_path / "network.key", KEY.format())
    path.chmod(mode)
    assert read_network_key(path, log) == KEY
    (line,) = log.lines
    assert str(path) in line
    assert f"{mode:04o}" in line


def test_a_pipe_can_be_read(log: Log) -> None:
    reading, writing = os.pipe()
    os.write(writing, KEY.format())
    os.close(writing)
    assert read_network_key(Path(f"/dev/fd/{reading}"), log) == KEY
    os.close(reading)
    assert log.lines == []


def test_the_nearest_network_key_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b" / "c"
    below.mkdir(parents=True)
    with pytest.raises(
        KeyFileError, match=r"no network key: none of .* exists; make one with `bethrou key new`"
    ):
        find_network_key(below)
    private(tmp_path / "network.key", KEY.format())
    with pytest.raises(KeyFileError):
        find_network_key(below)
    for directory in (tmp_path / "a", below.parent, below):
        path = private(directory / "network.key", KEY.format())
        assert find_network_key(below).resolve() == path
    monkeypatch.chdir(below)
    assert find_network_key() == Path("network.key")
    assert load_network_key(None) == KEY


def test_an_unusable_network_key_is_found_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    private(tmp_path / "network.key", KEY.format())
    (tmp_path / "a" / "network.key").symlink_to("absent")
    assert find_network_key(tmp_path / "a") == tmp_path / "a" / "network.key"


@pytest.mark.parametrize("load", [load_or_create_identity, load_or_create_network_key])
def test_a_missing_key_is_made_once(tmp_path: Path, log: Log, load: Any) -> None:
    path = tmp_path / "some.key"
    first = load(path, log, bytes)
    data = path.read_bytes()
    assert (path.stat().st_mode & 0o777, path.stat().st_nlink) == (0o600, 1)
    assert "made a new" in log.lines[0]
    second = load(path, log, os.urandom)
    assert repr(first) == repr(second)
    assert path.read_bytes() == data
    assert len(log.lines) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("load", [load_or_create_identity, load_or_create_network_key])
@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, load: Any, data: bytes) -> None:
    path = private(tmp_path / "some.key", data)
    refusal(load, path)
    assert path.read_bytes() == data


def test_a_link_to_nothing_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.symlink_to(tmp_path / "absent")
    assert refusal(load_or_create_identity, path) == "cannot be read: No such file or directory"
    assert not (tmp_path / "absent").exists()


def test_a_key_that_cannot_be_written(tmp_path: Path) -> None:
    assert refusal(load_or_create_identity, tmp_path / "no" / "node.key") == (
        "cannot be written: No such file or directory"
    )


def test_of_many_writers_one_wins_and_all_use_its_key(tmp_path: Path) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        found.append(str(load_or_create_identity(tmp_path / "node.key").peer_id))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def without_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_an_existing_file_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    path = tmp_path / "key"
    write_private(path, b"first")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFileError, match="is already there and is not overwritten"):
        write_private(path, b"second")
    assert path.read_bytes() == b"first"
    write_file(path, b"third")
    assert path.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keyfiles.os, "fsync", full)
    with pytest.raises(KeyFileError, match="cannot be written: No space left on device"):
        write_private(tmp_path / "key", b"data")
    assert list(tmp_path.iterdir()) == []
