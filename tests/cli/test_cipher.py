"""What the programs do where libsodium's Salsa20 cannot be reached: packages in the place of PyNaCl's see to that."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from bethrou.cli.process import prepare_cipher
from bethrou.config import LogFormat, LogLevel
from bethrou.ops.logs import make_logger
from bethrou.wire.salsa20_library import best_salsa20
from cli.commands import refusal
from live.applications import application
from live.processes import programs
from live.targets import echo, target

EXIT = "/ip4/127.0.0.1/tcp/4000/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def hide(monkeypatch: pytest.MonkeyPatch, folder: Path, *packages: str) -> None:
    """Have processes that are started now find empty packages of these names."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        for module in ("__init__.py", "_sodium.py"):
            (folder / package / module).touch()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def test_the_fast_cipher_needs_no_word() -> None:
    stream = io.StringIO()
    prepare_cipher(make_logger(LogLevel.DEBUG, LogFormat.TEXT, stream=stream))
    assert stream.getvalue() == ""


def test_the_slow_cipher_is_warned_of() -> None:
    stream = io.StringIO()
    slow = best_salsa20()._replace(shortcoming="libsodium cannot be used: it is gone")
    prepare_cipher(make_logger(LogLevel.WARN, LogFormat.TEXT, stream=stream), lambda: slow)
    (line,) = stream.getvalue().splitlines()
    assert " warn " in line
    assert "PyCryptodome" in line
    assert line.endswith('reason="libsodium cannot be used: it is gone"')


async def test_a_node_without_libsodium_serves_a_client_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(300_000)
    with programs(tmp_path) as started:
        with monkeypatch.context() as only_here:
            hide(only_here, tmp_path / "hidden", "nacl")
            node = started.node()
        client = started.client([node])
        await client.connected()
        async with (
            target(echo) as destination,
            application(client.proxy, destination.host, destination.port) as app,
        ):
            app.writer.write(data)
            assert await app.reader.readexactly(len(data)) == data
        assert len(node.lines_of("PyCryptodome encrypts here", level="warn")) == 1
        assert not client.lines_of("PyCryptodome encrypts here")


@pytest.mark.parametrize("program", ["bethrou-node", "bethrou-client", "bethrou"])
def test_with_neither_a_program_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    hide(monkeypatch, tmp_path / "hidden", "nacl", "Crypto")
    (tmp_path / "client.yaml").write_text(f"nodes: [{{addrs: [{EXIT}]}}]")
    command = {"bethrou-node": "start", "bethrou-client": "connect", "bethrou": "up"}[program]
    assert "pip install 'bethrou[portable]'" in refusal(program, command, cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["client.yaml", "hidden"]
