"""docs/guides/troubleshooting.md: what it quotes is what the programs say.

What commands print at their start is printed here, what doctor says comes from facts that are written down here.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bethrou.cli.doctor.checks import examine
from bethrou.cli.doctor.facts import Facts, FileFact, PortFact, RedisFact
from bethrou.cli.doctor.report import as_lines
from bethrou.config import client_config, node_config
from bethrou.discovery.member_sync import TURNED_AWAY
from bethrou.net.upgrade import KEY_HINT
from bethrou.snapshots import (
    AddressReachability,
    ClockSnapshot,
    ExitSnapshot,
    NatSnapshot,
    RelaySnapshot,
)
from bethrou.wire.member_exchange import Standing
from cli.commands import run
from guides.guide import guide
from live.places import Place
from ops.controlled import CONNECTION, EXIT, PEER, REACHABILITY, STATUS

GUIDE = guide("troubleshooting")
BLOCKS, OUTPUTS = GUIDE.blocks, GUIDE.outputs

HERE = "/ip4/203.0.113.7/tcp/4000"
NODES = [{"addrs": [f"{HERE}/p2p/{PEER}"]}]
OURS = ("/bethrou/proxy/1.0.0", "/bethrou/proxy/1.1.0")
BERLIN = replace(EXIT, agent="bethrou-py/0.1.0", protocols=OURS)
PUNCHED = replace(REACHABILITY, punchable=("/ip4/5.5.2.1/tcp/1",))


def client(*exits: ExitSnapshot, rules: tuple[dict[str, Any], ...] = (), **facts: Any) -> Facts:
    """Of a client with these exits."""
    status = replace(STATUS, exits=exits or (BERLIN,), exits_known=len(exits) or 1, sources=())
    config = client_config({"nodes": NODES, "rules": list(rules)})
    return replace(Facts("client", 0, "client.yaml", config, status=status, reach=PUNCHED), **facts)


def away(reason: str) -> Facts:
    return client(replace(BERLIN, state="down", path="", reason=reason))


def node(**facts: Any) -> Facts:
    status = replace(STATUS, role="node", exits=(), sources=(), listening=("/ip4/0.0.0.0/tcp/4000",))
    return replace(Facts("node", 0, status=status, reach=REACHABILITY), **facts)


FACTS: dict[str, Callable[[], Facts]] = {
    "doctor-port": lambda: client(status=None, ports=(PortFact("127.0.0.1:1080", True, ((4711, "ssh"),)),)),
    "refused": lambda: away(f"{HERE}: Connection refused"),
    "swallowed": lambda: away(f"{HERE}: no answer within 5 s"),
    "other-key": lambda: away(f"{HERE}: {KEY_HINT}"),
    "other-identity": lambda: away(f"{HERE}: dialled {PEER}, but {STATUS.id} answered"),
    "removed": lambda: away(TURNED_AWAY[Standing.REMOVED]),
    "no-member": lambda: away(TURNED_AWAY[Standing.UNKNOWN]),
    "clock": lambda: client(reach=replace(PUNCHED, clocks=(ClockSnapshot(PEER, 7200.0, 0.1),))),
    "redis": lambda: client(redis=RedisFact("Redis", "Redis at 127.0.0.1:6379: Connection refused")),
    "rule-exit": lambda: client(rules=({"domain": "corp.example", "use": "exit=paris"},)),
    "rule-shadowed": lambda: client(
        rules=({"domain": "corp.example", "use": "any"}, {"domain": "mail.corp.example", "use": "block"})
    ),
    "policy": lambda: node(config=node_config({"allow": ["10.1.0.0/16"], "deny": ["10.0.0.0/8"]})),
    "circuit": lambda: client(
        replace(
            BERLIN,
            path="circuit",
            addresses=("/ip4/5.5.0.7/tcp/4000",),
            no_direct_way="/ip4/5.5.0.7/tcp/4000: Connection refused",
        )
    ),
    "symmetric": lambda: client(
        reach=replace(PUNCHED, nat=NatSnapshot("symmetric", ("/ip4/5.5.2.1/tcp/30852",), 2))
    ),
    "slow": lambda: client(replace(BERLIN, state="slow", reason="round trip 310 ms, usually 12 ms")),
    "dns": lambda: client(connections=(replace(CONNECTION, destination="192.0.2.1:443"),) * 5),
    "unreachable": lambda: node(
        reach=replace(
            REACHABILITY,
            addresses=(
                AddressReachability("/ip4/203.0.113.9/tcp/4000", "unreachable", 0, 1, 1, (), (PEER,)),
            ),
        )
    ),
    "relay": lambda: node(
        status=replace(
            STATUS,
            role="node",
            listening=(),
            relays=(RelaySnapshot(PEER, False, "Connection refused", (), None, None),),
        )
    ),
    "not-restarted": lambda: client(status=replace(STATUS, version="0.0.9")),
    "older-exit": lambda: client(replace(BERLIN, agent="bethrou-py/0.0.9")),
    "mode": lambda: client(files=(FileFact("network key", "network.key", mode=0o644),)),
}


@pytest.mark.parametrize("name", FACTS)
def test_what_doctor_says(name: str) -> None:
    said = "".join(f"{line}\n" for line, _ in as_lines(examine(FACTS[name]())))
    assert OUTPUTS[name] in said


CONFIG = f"nodes:\n  - addrs: [{HERE}/p2p/{PEER}]\n"
ERRORS: dict[str, tuple[str, list[str]]] = {
    "no-key": (CONFIG, ["bethrou-client", "connect"]),
    "no-config": ("", ["bethrou-client", "connect"]),
    "bad-config": ("nodse: []\n", ["bethrou-client", "connect"]),
    "open": (CONFIG, ["bethrou-client", "connect", "--listen", "0.0.0.0:1080"]),
    "damaged-link": ("", ["bethrou", "join", "bethrou://join/abc", "x"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_commands_say(name: str, tmp_path: Path) -> None:
    config, command = ERRORS[name]
    if config:
        (tmp_path / "client.yaml").write_text(config)
    done = run(*command, cwd=tmp_path)
    assert (done.stderr, done.returncode) == (OUTPUTS[name], 2)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    run("bethrou", "key", "new", cwd=tmp_path)
    (tmp_path / "client.yaml").write_text(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        done = run("bethrou-client", "connect", "--listen", where, cwd=tmp_path)
    assert (done.stderr.replace(where, "127.0.0.1:1080"), done.returncode) == (OUTPUTS["port-taken"], 2)


def test_a_link_that_is_used() -> None:
    """test_team_of_five.py has a second device come by one."""
    said = OUTPUTS["used-link"].removeprefix("bethrou: ").strip()
    assert f"`{said}`" in " ".join(guide("team-of-five").text.split())


def test_the_first_command(tmp_path: Path) -> None:
    run("bethrou", "key", "new", cwd=tmp_path)
    (tmp_path / "client.yaml").write_text(CONFIG)
    (tmp_path / "scratch").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = Place(tmp_path, tmp_path / "scratch", PATH=path).run(BLOCKS["doctor"])
    assert said.splitlines()[-1] == "0 problems, 1 warning"
