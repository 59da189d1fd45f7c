import os
import stat
from pathlib import Path

import pytest

from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from cli.commands import refusal, run


def test_a_new_key_is_private_and_its_fingerprint_is_told(tmp_path: Path) -> None:
    done = run("bethrou", "key", "new", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "network.key"
    key = NetworkKey.parse(file.read_bytes())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.fingerprint in done.stdout
    assert key.raw.hex() not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["network.key"]


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "some.key"
    file.write_text("precious")
    message = refusal("bethrou", "key", "new", "some.key", cwd=tmp_path)
    assert message.startswith("some.key: is already there")
    assert file.read_text() == "precious"


def test_a_key_in_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere/new.key: cannot be written" in refusal(
        "bethrou", "key", "new", "nowhere/new.key", cwd=tmp_path
    )


def test_show_tells_the_fingerprint_and_not_the_key(tmp_path: Path) -> None:
    key = NetworkKey.generate(os.urandom)
    file = tmp_path / "k"
    file.write_bytes(key.format())
    file.chmod(0o640)
    done = run("bethrou", "key", "show", "k", cwd=tmp_path)
    assert done.stdout == f"k: a network key, fingerprint {key.fingerprint}\n"
    assert "others can read this key file" in done.stderr
    assert key.raw.hex() not in done.stderr


def test_show_tells_the_peer_id_of_an_identity(tmp_path: Path) -> None:
    identity = Identity.generate(os.urandom)
    file = tmp_path / "node.key"
    file.write_bytes(identity.to_protobuf())
    file.chmod(0o600)
    done = run("bethrou", "key", "show", "node.key", cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"node.key: an identity, peer ID {identity.peer_id}\n", "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "network key file is empty"),
        (b"\x08\x01\x12\x40short", "identity file"),
        (b"-----BEGIN RSA PRIVATE KEY-----\n", "PEM of kind"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n12", "truncated"),
        (bytes(100), "no swarm key file"),
    ],
)
def test_show_names_the_file_and_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "k").write_bytes(content)
    message = refusal("bethrou", "key", "show", "k", cwd=tmp_path)
    assert message.startswith("k: ")
    assert reason in message


def test_show_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refusal("bethrou", "key", "show", "absent", cwd=tmp_path)
    assert "directory" in refusal("bethrou", "key", "show", ".", cwd=tmp_path)
