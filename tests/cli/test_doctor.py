"""`bethrou doctor` as a process: with programs that run, without, and with what its user's machine has in its way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bethrou.wire.psk import NetworkKey
from cli.commands import run
from live.applications import Application, open_application
from live.processes import Programs, programs
from live.redis_server import RedisServer
from live.targets import echo, target
from live.waiting import until

PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
NODES = [{"addrs": [f"/ip4/192.0.2.7/tcp/4000/p2p/{PEER}"]}]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with a network key; nothing runs."""
    key = tmp_path / "network.key"
    key.write_bytes(NetworkKey.generate(os.urandom).format())
    key.chmod(0o600)
    return tmp_path


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as running:
        yield running


def doctor(folder: Path, *arguments: str, state: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("bethrou", "doctor", *arguments, cwd=folder, XDG_STATE_HOME=str(state or folder))


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it printed, without blanks that only line things up."""
    assert done.stderr == ""
    return [re.sub(r" {2,}", "  ", line).strip() for line in done.stdout.splitlines()]


def write(folder: Path, name: str, **config: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(config))  # JSON is YAML
    path.chmod(0o600)


def findings(done: subprocess.CompletedProcess[str], check: str) -> list[tuple[str, str]]:
    """Level and text of the findings of one check, from JSON."""
    return [
        (each["level"], each["text"])
        for each in json.loads(done.stdout)["findings"]
        if each["check"] == check
    ]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# -- without a running program --------------------------------------------------------------------------------------


def test_a_client_that_does_not_run(machine: Path) -> None:
    port = free_port()
    write(machine, "client.yaml", nodes=NODES, server={"listen": f"127.0.0.1:{port}"})
    done = doctor(machine)
    assert done.returncode == 0
    assert lines(done) == [
        "ok  config  client.yaml can be used",
        "warning  running  no client of this user runs here: what needs a running client was left out",
        "-> start it with `bethrou-client connect`, then ask again",
        "ok  keys  the network key network.key is its owner's alone (mode 0600)",
        f"ok  ports  127.0.0.1:{port} is free",
        "0 problems, 1 warning",
    ]


def test_a_port_that_somebody_else_has(machine: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write(machine, "client.yaml", nodes=NODES, server={"listen": f"127.0.0.1:{port}"})
        done = doctor(machine)
    assert done.returncode == 1
    name = Path("/proc/self/comm").read_text().strip()
    assert lines(done)[4:] == [
        f"problem  ports  127.0.0.1:{port} is taken by process {os.getpid()} ({name})",
        "-> stop that, or choose another server.listen",
        "1 problem, 1 warning",
    ]


def test_files_that_others_can_read_and_a_mistake(machine: Path) -> None:
    (machine / "network.key").chmod(0o604)
    write(machine, "mine.yaml", nodes=NODES, nodse=[])
    done = doctor(machine, "--config", "mine.yaml", "--client")
    assert done.returncode == 1
    assert lines(done) == [
        'problem  config  mine.yaml: nodse: unknown key (did you mean "nodes"?)',
        "-> correct it; what runs goes on with what it has",
        "warning  running  no client of this user runs here: what needs a running client was left out",
        "-> start it with `bethrou-client connect`, then ask again",
        "problem  keys  everybody on this machine can read the network key network.key (mode 0604)",
        "-> chmod 600 network.key",
        "2 problems, 1 warning",
    ]
    write(machine, "mine.yaml", nodes=NODES, server={"user": "ann", "pass": "secret"})
    (machine / "mine.yaml").chmod(0o644)
    (machine / "network.key").unlink()
    done = doctor(machine, "--config", "mine.yaml")
    (no_key, readable) = [line for line in lines(done) if "  keys  " in line]
    assert no_key.startswith("problem  keys  no network key: none of network.key, ")
    assert readable == (
        "problem  keys  everybody on this machine can read the configuration with passwords mine.yaml (mode 0644)"
    )
    assert "secret" not in done.stdout


def test_the_key_of_a_client_that_has_one(machine: Path) -> None:
    assert run("bethrou", "key", "identity", "me.key", cwd=machine).returncode == 0
    write(machine, "client.yaml", nodes=NODES, identity="me.key")
    assert findings(doctor(machine, "--json"), "keys")[1:] == [
        ("ok", "the identity me.key is its owner's alone (mode 0600)")
    ]
    (machine / "me.key").chmod(0o640)
    assert findings(doctor(machine, "--json"), "keys")[1:] == [
        ("warning", "its group on this machine can read the identity me.key (mode 0640)")
    ]
    (machine / "me.key").write_bytes(b"no key")
    done = doctor(machine, "--json")
    ((level, text),) = findings(done, "keys")[1:]
    assert (level, done.returncode) == ("problem", 1)
    assert text.startswith("me.key: ")


def test_whose_configuration_it_is(machine: Path) -> None:
    """By its keys; where they could be of both, by the name of the file."""
    for name, config, role in (
        ("a.yaml", {"listen": ["/ip4/127.0.0.1/tcp/0"]}, "node"),
        ("node.yaml", {"grace": "5s"}, "node"),
        ("b.yaml", {"nodes": NODES}, "client"),
        ("node-of-mine.yaml", {"nodes": NODES}, "client"),
    ):
        write(machine, name, **config)
        done = doctor(machine, "--config", name, "--json")
        report = json.loads(done.stdout)
        assert (report["role"], report["running"], done.returncode) == (role, False, 0), name
    assert findings(doctor(machine, "--config", "no.yaml", "--json"), "config") == [
        (
            "problem",
            "no.yaml: cannot be read: No such file or directory; write one with the lines that a node prints, "
            "or say --config",
        )
    ]


# -- with one ---------------------------------------------------------------------------------------------------------


async def test_a_client_and_its_node(started: Programs, tmp_path: Path) -> None:
    node = started.node("--relay-mode", "--name", "berlin")
    client = started.client([node])
    await client.connected()
    done = await asyncio.to_thread(doctor, client.folder, "--client", state=tmp_path)
    assert done.returncode == 0
    host, port = client.proxy
    told = [re.sub(r"\b[\d.]+ m?s\b", "TIME", line) for line in lines(done)]
    assert told == [
        f"ok  config  {client.config} can be used",
        "ok  running  version 0.1.0, up TIME",
        f"ok  keys  the network key {tmp_path}/network.key is its owner's alone (mode 0600)",
        f"ok  ports  {host}:{port} is held by this client, process {client.pid} (python)",
        "ok  exits  berlin: direct, TIME",
        "ok  versions  berlin: bethrou-py/0.1.0, proxy 1.1.0",
        "unknown  dns  0 connections open: too few to see whether names are looked up here",
        "ok  reachability  no public address of this client is known; it needs none",
        "unknown  nat  no member outside this network sees this machine",
        "unknown  punching  no member sees a port of this client at a public address yet",
        "ok  discovery  static: 1 exit, named in the configuration",
        *(line for line in told if line.startswith("ok  discovery  ") and "static" not in line),
        f"ok  clock  within TIME of ..{node.short}",
        "0 problems, 0 warnings",
    ]
    done = await asyncio.to_thread(doctor, node.folder, "--node", "--json", state=tmp_path)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["role"], report["id"]) == ("node", node.id)
    assert findings(done, "relaying") == [
        ("ok", "relays for 0 of 2048 nodes, 0 of 4096 circuits, 0 B so far; a circuit: no limits")
    ]
    assert findings(done, "keys")[1] == (
        "ok",
        f"the identity {node.folder}/node.key is its owner's alone (mode 0600)",
    )
    node.kill()
    await client.logged("exit cannot be reached")
    done = await asyncio.to_thread(doctor, client.folder, "--client", "--json", state=tmp_path)
    assert done.returncode == 1
    nobody, reason = findings(done, "exits")
    assert nobody == ("problem", "none of 1 exit can be used")
    assert reason[1].startswith("berlin cannot be reached: ")


async def test_applications_that_look_names_up_themselves(started: Programs, tmp_path: Path) -> None:
    client = started.client([started.node()])
    await client.connected()
    async with target(echo) as there, contextlib.AsyncExitStack() as stack:
        for host in ("localhost", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"):
            app: Application = await open_application(client.proxy, host, there.port)
            stack.callback(app.writer.close)
        done = await asyncio.to_thread(doctor, client.folder, "--client", "--json", state=tmp_path)
    assert findings(done, "dns") == [
        ("warning", "4 of 5 connections ask for addresses: their applications look names up on this machine")
    ]
    assert done.returncode == 0


async def test_what_is_configured_about_destinations(started: Programs, tmp_path: Path) -> None:
    """Also where a node was started without a file."""
    permit = ("--allow", "10.0.0.0/8", "--allow", "10.1.0.0/16", "--deny", "198.51.100.0/24")
    node = started.node("--name", "berlin", "--tag", "eu", *permit)
    rules = [
        {"domain": "a.example", "use": "exit=paris"},
        {"domain": "b.example", "use": "exit=berlin,tag=eu"},
    ]
    client = started.client([node], rules=rules)
    await client.connected()
    of_node = await asyncio.to_thread(doctor, node.folder, "--node", "--json", state=tmp_path)
    assert findings(of_node, "policy") == [
        ("warning", "allow 10.1.0.0/16 does nothing: allow 10.0.0.0/8 has it")
    ]
    # names come on a link, a moment after it
    await until(
        lambda: (
            "berlin"
            in run("bethrou", "status", "--client", cwd=tmp_path, XDG_STATE_HOME=str(tmp_path)).stdout
        )
    )
    of_client = await asyncio.to_thread(doctor, client.folder, "--client", "--json", state=tmp_path)
    assert findings(of_client, "rules") == [
        (
            "warning",
            "requests for which rules[0] (domain: a.example, use: exit=paris) decides are refused: "
            "no exit that is known has exit=paris",
        )
    ]


# -- Redis ------------------------------------------------------------------------------------------------------------


def test_redis(machine: Path, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    discovery = {"enabled": True, "address": server.url}
    write(machine, "client.yaml", discovery=discovery, server={"listen": f"127.0.0.1:{free_port()}"})
    where = f"Redis at 127.0.0.1:{server.port}"
    away = doctor(machine, "--json")
    assert away.returncode == 1
    assert findings(away, "redis") == [("problem", f"{where}: Connection refused")]

    server.start()
    try:
        there = doctor(machine, "--json")
        assert there.returncode == 0
        ((level, text),) = findings(there, "redis")
        assert level == "ok"
        assert re.fullmatch(re.escape(where) + r" lets us in, within [\d.]+ m?s", text)
        assert findings(there, "clock") == [("ok", "within 1 s of Redis")]

        # a member's rights, as README gives them, do not reach so far as the time
        server.do(
            "ACL",
            "SETUSER",
            "member",
            "on",
            ">word",
            "resetchannels",
            "&*",
            "+subscribe",
            "+publish",
            "+ping",
        )
        member = {**discovery, "user": "member", "pass": "word"}
        write(machine, "client.yaml", discovery=member, server={"listen": f"127.0.0.1:{free_port()}"})
        limited = doctor(machine, "--json")
        assert [level for level, _ in findings(limited, "redis")] == ["ok"]
        assert findings(limited, "clock") == []

        write(machine, "client.yaml", discovery={**member, "pass": "wrong"})
        refused = doctor(machine, "--json")
        assert findings(refused, "redis") == [
            ("problem", f'{where} does not accept the password of user "member", or knows no such user')
        ]
    finally:
        server.kill()
