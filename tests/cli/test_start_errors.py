import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from bethrou import __version__
from bethrou.wire.psk import NetworkKey
from cli.commands import MODULES, refusal, run

ID = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
EXIT = f"/ip4/127.0.0.1/tcp/4000/p2p/{ID}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder three levels deep, with a network key at its top."""
    (tmp_path / "network.key").write_bytes(NetworkKey.generate(os.urandom).format())
    (tmp_path / "network.key").chmod(0o600)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    return deep


def configured(folder: Path, **config: Any) -> Path:
    (folder / "client.yaml").write_text(json.dumps({"nodes": [{"addrs": [EXIT]}], **config}))
    return folder


@pytest.mark.parametrize("program", MODULES)
def test_version_and_help(program: str, tmp_path: Path) -> None:
    assert run(program, "--version", cwd=tmp_path).stdout == f"{program} {__version__}\n"
    shown = run(program, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"Usage: {program}" in shown.stdout


def test_an_option_that_is_none_is_refused_with_a_hint(tmp_path: Path) -> None:
    done = run("bethrou-node", "start", "--listn", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "--listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--listen", "0.0.0.0:4000"], "--listen: '0.0.0.0:4000' is no multiaddr"),
        (["--listen", "/ip4/127.0.0.1/udp/4000/quic-v1"], "only TCP addresses"),
        (["--allow", "10.0.0.1/8"], "--allow: "),
        (["--deny", "x"], "--deny: "),
        (["--resolver", "dns.example"], "--resolver: "),
        (["--grace", "soon"], "--grace: "),
        (["--name", "a b"], "--name: "),
        (["--tag", "a b"], "--tag: "),
        (["--peer", "/ip4/127.0.0.1/tcp/4000"], '--peer: "/ip4/127.0.0.1/tcp/4000" must end in /p2p/ID'),
        (["--peer", "example.org:4000"], "did you mean /dns4/example.org/tcp/4000?"),
        (["--peer", f"/ip4/1.2.3.4/udp/4000/quic-v1/p2p/{ID}"], "--peer: "),
        (["--peer", f"{EXIT}/p2p-circuit/p2p/{ID}"], "--peer: "),
        (["--dir", "/dev/null/x"], "--dir: /dev/null/x cannot be used: Not a directory"),
        (["--instance", "a b"], "--instance: "),
        (["--log-level", "loud"], "--log-level: "),
        (["--log-format", "xml"], "--log-format: "),
        (["--key", "absent.key"], "absent.key: cannot be read"),
        (["--identity", "/"], "/: cannot be read"),
        (
            ["--discover", "--discover-address", "http://x:1"],
            "--discover-address: discovery address begins with",
        ),
        (["--discover=true", "--discover-address", "redis://x:0"], "--discover-address: "),
        (
            ["--discover-ca", "/dev/null/x", "--discover", "--discover-address", "ftp://x"],
            "--discover-address: ",
        ),
        (["--config", "absent.yaml"], "absent.yaml: cannot be read: No such file or directory"),
        (
            ["--no-exit"],
            "a node that is no exit (--no-exit) has nothing to do but to relay: say --relay-mode",
        ),
        (["--connect-relay", "/ip4/127.0.0.1/tcp/1"], "--connect-relay: "),
        (
            ["--connect-relay", f"{EXIT}/p2p-circuit/p2p/{ID}"],
            "the relay's own address, without /p2p-circuit",
        ),
        (["--connect-relay", f"/ip4/127.0.0.1/udp/1/quic-v1/p2p/{ID}"], "--connect-relay: "),
        (["--relay-mode", "--relay-rate", "fast"], "--relay-rate: "),
        (
            ["--relay-mode", "--relay-circuit-rate", "1kB"],
            "--relay-circuit-rate: must be 0 (no limit) or at least",
        ),
        (["--relay-mode", "--relay-circuits", "0"], "--relay-circuits: must be at least 1"),
        (["--relay-mode", "--relay-duration", "-1s"], "--relay-duration: "),
    ],
)
def test_what_a_node_refuses(folder: Path, options: list[str], message: str) -> None:
    assert message in refusal("bethrou-node", "start", *options, cwd=folder)
    assert not (folder / "node.key").exists()


def test_a_node_without_network_key_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    message = refusal("bethrou-node", "start", cwd=folder)
    assert "no network key" in message
    assert "bethrou key new" in message
    assert not (folder / "node.key").exists()


def test_an_address_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("bethrou-node", "start", "--listen", f"/ip4/127.0.0.1/tcp/{port}", cwd=folder)
        assert done.returncode == 2
        assert done.stderr.endswith(
            f"bethrou-node: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        )
        configured(folder)
        message = refusal("bethrou-client", "connect", "--listen", f"127.0.0.1:{port}", cwd=folder)
        assert f"cannot listen on 127.0.0.1:{port}" in message


def test_a_password_on_the_command_line_is_warned_of_and_not_repeated(folder: Path) -> None:
    ends = ["start", "--discover", "--listen", "x"]
    done = run("bethrou-node", *ends, "--discover-pass", "hunter2", cwd=folder)
    assert "BETHROU_DISCOVER_PASS" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    done = run("bethrou-node", *ends, cwd=folder, BETHROU_DISCOVER_PASS="hunter2")
    assert "BETHROU_DISCOVER_PASS" not in done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"nodes": []}, "client.yaml: "),
        ({"server": {"lisen": "x"}}, 'server.lisen: unknown key (did you mean "listen"?)'),
        ({"server": {"listen": "0.0.0.0:1080"}}, "can be reached from other machines"),
        ({"routing": {"strategy": "best"}}, "routing.strategy: "),
        ({"grace": "soon"}, "client.yaml: grace: "),
        (
            {"discovery": {"enabled": True, "address": "ftp://u:hunter2@x"}},
            "client.yaml: discovery address begins with an unknown scheme",
        ),
        (
            {"nodes": [{"id": ID, "relay": f"/ip4/1.2.3.4/udp/4000/quic-v1/p2p/{ID}"}]},
            "client.yaml: nodes[0].relay: ",
        ),
        (
            {"nodes": [{"addrs": [f"/ip4/1.2.3.4/udp/4000/quic-v1/p2p/{ID}"]}]},
            "client.yaml: nodes[0].addrs: ",
        ),
    ],
)
def test_what_a_client_refuses(folder: Path, config: dict[str, Any], message: str) -> None:
    refused = refusal("bethrou-client", "connect", cwd=configured(folder, **config))
    assert message in refused
    assert "hunter2" not in refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "other.yaml"], "other.yaml: cannot be read"),
        (["--listen", "0.0.0.0:0"], "--open"),
        (["--listen", "x"], "--listen: "),
        (["--grace", "-1"], "--grace: "),
        (["--log-level", "loud"], "--log-level: "),
        (["--key", "."], ".: cannot be read"),
        (["--dir", "/dev/null/x"], "--dir: /dev/null/x cannot be used: Not a directory"),
        (["--dir", "x", "--instance", "y"], "--instance: says nothing beside --dir"),
    ],
)
def test_what_a_client_refuses_of_its_options(folder: Path, options: list[str], message: str) -> None:
    assert message in refusal("bethrou-client", "connect", *options, cwd=configured(folder))


def test_a_network_key_three_levels_up_is_not_found(folder: Path) -> None:
    deeper = folder / "c"
    deeper.mkdir()
    assert "no network key" in refusal("bethrou-client", "connect", cwd=configured(deeper))
