"""README.md as its reader uses it: its commands are run, its output is compared, its tables are held against the code.

A shell block has a mark above it (`block: NAME`), and so has the output that it shows (`output: NAME`). Server and
laptop are two folders here; `ssh`, `scp` and `sudo` are small stand-ins, ports are free ones of loopback.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bethrou.config import (
    ClientConfig,
    HostPort,
    NodeConfig,
    ResolverChoice,
    Strategy,
    load_node_config,
    parse_address_rule,
)
from bethrou.config.fields import Block
from conftest import needs
from live.documents import README_PATH, ROOT, Document
from live.places import (
    PATIENCE,
    PEER,
    Place,
    a_clone,
    a_home,
    a_page,
    can_connect,
    free_port,
    is_set_up,
    neutral,
    quiet,
    says,
    without_ours,
    write_program,
)
from live.waiting import wait_until

README = Document(README_PATH)
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]

BLOCKS, OUTPUTS, TABLES = README.blocks, README.outputs, README.tables

clone, here, page = pytest.fixture(a_clone), pytest.fixture(a_home), pytest.fixture(a_page)

RUN_ELSEWHERE = {
    "up": "local-up is the same command with an option",
    "test": "it is what runs this file",
    "development": "likewise",
    "behind-nginx": "tests/e2e/test_web_server.py has nginx run it",
    "behind-nginx-node": "so it does with this",
    "behind-nginx-client-yaml": "and this",
}

# -- the commands ---------------------------------------------------------------------------------------------------


def test_every_command_is_marked() -> None:
    assert README.unmarked("sh") == []
    here = Path(__file__)
    sources = [here.read_text(), *(path.read_text() for path in (here.parent / "guides").glob("*.py"))]
    run = {
        name for source in sources for name in re.findall(r'(?:BLOCKS|README\.blocks)\["(\S+?)"\]', source)
    }
    assert [name for name in BLOCKS if name not in run and name not in RUN_ELSEWHERE] == []


def test_the_first_command(clone: Path, tmp_path: Path) -> None:
    needs("curl", "python3")
    here = Place(clone, tmp_path, XDG_STATE_HOME=str(tmp_path), PATH=without_ours(os.environ["PATH"]))
    web_port, closed_port = free_port(), free_port()
    web_block = BLOCKS["local-web"].replace("8000", str(web_port))
    with (
        here.running("up", BLOCKS["local-up"], "--socks", f"127.0.0.1:{free_port()}") as up,
        here.running("web", web_block),
    ):
        proxy = up.wait_for(r"^ +curl -x socks5h://(\S+) https://example\.com/$")
        up.wait_for(r"^(Ctrl-C) ")
        setting_up, *shown_then = neutral(OUTPUTS["up"])
        assert setting_up.startswith("Setting up .venv")  # not here: see is_set_up
        assert neutral(up.output) == shown_then

        curl = quiet(BLOCKS["local-curl"]).replace("127.0.0.1:1080", proxy)
        assert wait_until(lambda: can_connect(web_port), PATIENCE)
        assert here.run(curl.replace("8000", str(web_port))) == (clone / "README.md").read_text()
        assert "(5)" in here.run(curl.replace("8000", str(closed_port)), status=97)
        assert "(2)" in here.run(curl.replace("127.0.0.1:8000", "10.1.2.3"), status=97)
        up.wait_for(r"result=(denied) ")  # its line is written at the end of a turn of the loop
        logged = [line for line in neutral(up.output) if re.match("TIME info +(exit up|request)", line)]
        up.interrupt()
    assert [line.replace("/README.md", "") for line in logged] == neutral(OUTPUTS["log"])


STAND_INS = {
    "ssh": 'shift; cd "$SERVER_HOME"; exec sh -c "$*"',
    "scp": 'exec cp "$1" "$SERVER_HOME/${2#*:}"',
    "sudo": 'case $1 in tee) exec tee "$SERVER_HOME/${2##*/}";; systemctl) ;; *) exit 1;; esac',
}


@pytest.fixture
def laptop_and_server(clone: Path, tmp_path: Path) -> tuple[Place, Place]:
    """Two places: the clone, with the usual programs in PATH, and an empty home."""
    stand_ins, home = tmp_path / "bin", tmp_path / "home"
    for folder in (stand_ins, home):
        folder.mkdir()
    for name, script in STAND_INS.items():
        write_program(stand_ins / name, script)
    path = f"{stand_ins}:{clone}/.venv/bin:{os.environ['PATH']}"
    laptop = Place(clone, tmp_path, PATH=path, SERVER_HOME=str(home))
    server = Place(home, tmp_path, PATH=path, HOME=str(home), SERVER_HOME=str(home), USER="you")
    return laptop, server


def test_joining_in_a_minute(laptop_and_server: tuple[Place, Place], page: str) -> None:
    needs("curl")
    laptop, server = laptop_and_server
    init = BLOCKS["join-init"].rstrip() + f" --listen /ip4/127.0.0.1/tcp/{free_port()}"
    assert neutral(server.run(init)) == neutral(OUTPUTS["join-init"])
    with server.running("first-node", BLOCKS["join-node"], "--allow", "127.0.0.0/8") as node:
        node.wait_for("^(Exit node) ")
        said = server.run(BLOCKS["join-invite"])
        assert neutral(said) == neutral(OUTPUTS["join-invite"])
        (link,) = re.findall(r"^bethrou://\S+$", said, re.MULTILINE)
        join = "echo " + link + " | " + BLOCKS["join-join"]
        assert neutral(laptop.run(join)) == neutral(OUTPUTS["join-join"])
        with laptop.running("joined", BLOCKS["join-client"], "--listen", "127.0.0.1:0") as client:
            client.wait_for("(exit up)")
            proxy = client.wait_for(r"^SOCKS5 on (\S+),")
            curl = quiet(BLOCKS["join-curl"]).replace("127.0.0.1:1080", proxy)
            curl = curl.replace("https://example.com/", page)
            assert laptop.run(curl) == "It works"
            server.run(BLOCKS["join-remove"])
            client.wait_for("(this device was removed from the network)")
            laptop.run(curl, status=97)
            client.interrupt()
        node.interrupt()


def test_a_server_and_a_laptop(laptop_and_server: tuple[Place, Place], page: str) -> None:
    needs("curl", "tar")
    laptop, server = laptop_and_server
    permit = ("--allow", "127.0.0.0/8")
    any_port = ("--listen", "127.0.0.1:0")

    assert neutral(laptop.run(BLOCKS["laptop-install"])) == neutral(OUTPUTS["laptop-install"])
    laptop.run(BLOCKS["laptop-copy"])
    server.folder /= "bethrou"
    assert (server.folder / "network.key").read_bytes() == (laptop.folder / "network.key").read_bytes()
    is_set_up(server.folder)
    server.run(BLOCKS["server-install"].replace("cd bethrou", "cd ../bethrou"))

    with server.running("node", BLOCKS["server-start"], "--listen", "/ip4/127.0.0.1/tcp/0", *permit) as exit_:
        address = exit_.wait_for(r"^ +- (/ip4/127\.0\.0\.1/tcp/\d+)/p2p/")
        peer = exit_.wait_for(r"^Exit node (\S+)$")
        beyond_loopback = "      - ADDRESS/p2p/PEER"
        assert neutral(exit_.output) == [
            line for line in neutral(OUTPUTS["server-start"]) if line != beyond_loopback
        ]

        assert BLOCKS["client-yaml"] in OUTPUTS["server-start"]
        lines = PEER.sub(peer, BLOCKS["client-yaml"]).replace("/ip4/203.0.113.7/tcp/4000", address)
        (laptop.folder / "client.yaml").write_text(lines)
        with laptop.running("client", BLOCKS["laptop-connect"], *any_port) as connected:
            connected.wait_for("(exit up)")
            assert neutral(connected.output) == neutral(OUTPUTS["laptop-connect"])
            proxy = connected.wait_for(r"^SOCKS5 on (\S+),")
            curl = quiet(BLOCKS["laptop-curl"]).replace("127.0.0.1:1080", proxy)
            assert laptop.run(curl.replace("https://example.com/", page)) == "It works"
            connected.interrupt()
        exit_.interrupt()

    server.run(BLOCKS["server-systemd"])
    unit = dict(
        line.split("=", 1)
        for line in (server.folder.parent / "bethrou-node.service").read_text().splitlines()
        if "=" in line
    )
    assert unit["WorkingDirectory"] == str(server.folder)
    assert unit["ExecStart"].endswith(BLOCKS["server-start"].strip())
    assert Path(unit["ExecStart"].split()[0]).exists()
    assert all(Path(path).is_dir() for path in unit["ReadWritePaths"].split())


# -- several exits ---------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"/ip4/203\.0\.113\.7/tcp/4000/p2p/\w+")


def test_exits_that_members_tell_of(here: Place) -> None:
    def more(name: str) -> tuple[str, ...]:
        return ("--instance", name, "--identity", f"{name}.key", "--listen", "/ip4/127.0.0.1/tcp/0")

    with here.running("first", "bethrou node start", *more("first")) as first:
        address = first.wait_for(r"^ +- (/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+)")
        (here.folder / "client.yaml").write_text(_ADDRESS.sub(address, BLOCKS["members-client-yaml"]))
        with here.running("second", _ADDRESS.sub(address, BLOCKS["members-node"]), *more("second")):
            told = says(here, "bethrou status --node --instance first --json", '"exits_known": 1')
            wait_until(told, PATIENCE)  # a client that asks before that asks again a minute later
            with here.running("client", "bethrou client connect", "--listen", "127.0.0.1:0"):
                both_serve = says(here, "bethrou status --client --check", "2 of 2 exits can be used")
                wait_until(both_serve, PATIENCE)


def test_a_node_with_a_file(here: Place) -> None:
    path = here.folder / "node.yaml"
    path.write_text(BLOCKS["node-yaml"])
    config = load_node_config(path, {})
    assert (config.name, config.tags, len(config.peers)) == ("berlin", ("eu",), 1)
    near = BLOCKS["node-yaml"].replace("/ip4/0.0.0.0/tcp/4000", "/ip4/127.0.0.1/tcp/0")
    path.write_text(
        _ADDRESS.sub(f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{config.peers[0].peer_id}", near).replace(
            "rediss://redis.example.org:6379", f"redis://127.0.0.1:{free_port()}"
        )
    )
    with here.running("node", BLOCKS["node-config"]) as node:
        node.wait_for("^(Exit node) ")


# -- the reference --------------------------------------------------------------------------------------------------


def shown(default: object) -> str:
    """A default as README writes it."""
    if default is None or default is PydanticUndefined or default in ((), {}) or default == ResolverChoice():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}s`"
    if isinstance(default, tuple) and not isinstance(default, HostPort):
        return ", ".join(f"`{item}`" for item in default)
    return f"`{default}`"


def block_in(annotation: object) -> type[BaseModel] | None:
    """The block of keys that a field consists of, or each of whose items is one."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    return next((block for part in get_args(annotation) if (block := block_in(part))), None)


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a block and of those inside it, with its default."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        block = block_in(field.annotation)
        if block is None:
            yield key, shown(field.default)
        elif isinstance(field.default, tuple):
            yield key, shown(field.default)
            yield from keys_of(block, f"{key}[].")
        else:
            yield from keys_of(block, f"{key}.")


def test_the_reference_has_every_key_of_client_yaml() -> None:
    written = [(key.strip("`"), default) for key, _, default, _ in TABLES["client.yaml"]]
    assert written == list(keys_of(ClientConfig))


_LIST_OPTIONS = """
import importlib, json, sys, typer.main
command = typer.main.get_command(importlib.import_module("bethrou.cli." + sys.argv[1]).app).commands[sys.argv[2]]
print(json.dumps([(option.opts[0], option.metavar or "", option.multiple)
                  for option in command.params if option.opts[0].startswith("--")]))
"""


def options_of(module: str, command: str) -> list[tuple[str, str, bool]]:
    """Name, metavar and whether it is repeatable, of each option of a command.

    A process of its own reads them, because not every version of typer can be loaded without a warning.
    """
    listed = subprocess.run(
        [sys.executable, "-c", _LIST_OPTIONS, module, command], stdout=subprocess.PIPE, timeout=60, check=True
    )
    return [tuple(option) for option in json.loads(listed.stdout)]


ELSEWHERE_IN_NODE_CONFIG = {
    "--tag": "tags",
    "--peer": "peers",
    "--hide-destinations": "log.hide_destinations",
    "--log-level": "log.level",
    "--log-format": "log.format",
    "--discover": "discovery.enabled",
    "--no-punch": "punch",
    "--no-auto-relay": "auto_relay",
    "--discover-user": "discovery.user",
    "--discover-pass": "discovery.pass",
    "--discover-topic": "discovery.topic",
    "--discover-sealed": "discovery.sealed",
    "--discover-ca": "discovery.ca",
}
OUTSIDE_NODE_CONFIG = {
    "--config": "none",
    "--discover-address": "`redis://localhost:6379`",
    "--dir": "none",
    "--instance": "none",
}


def test_the_reference_has_every_option_of_a_node() -> None:
    defaults = dict(keys_of(NodeConfig))
    expected = []
    for name, metavar, multiple in options_of("node", "start"):
        field = ELSEWHERE_IN_NODE_CONFIG.get(name, name.removeprefix("--").replace("-", "_"))
        default = OUTSIDE_NODE_CONFIG.get(name) or defaults[field]
        expected.append((f"`{name}`{' (rep.)' if multiple else ''}", metavar.strip(), default))
    assert [(name, value, default) for name, value, default, _ in TABLES["node"]] == expected


def test_the_options_of_the_other_commands_are_named() -> None:
    options = [*options_of("client", "connect"), *options_of("node", "drain")]
    commands = ("init", "invite", "join", "up", "status", "doctor", "why", "connections", "events", "reload")
    for command in commands:
        options += options_of("main", command)
    assert [name for name, _, _ in options if f"`{name}" not in README.text] == []


def test_every_strategy_is_explained() -> None:
    assert [name.strip("`") for name, *_ in TABLES["strategies"]] == list(Strategy)


def test_the_rules_of_the_policy_can_be_read() -> None:
    rules = [rule.strip("`").split() for rule, _ in TABLES["rules"]]
    assert {option for option, _ in rules} == {"--allow", "--deny"}
    for _, rule in rules:
        assert str(parse_address_rule(rule)).replace("/32", "") == rule


def test_the_environment_is_listed() -> None:
    sources = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "scripts").iterdir(),
        *(ROOT / "bench").glob("*.py"),
        *(ROOT / "tests").rglob("conftest.py"),
        ROOT / "tests" / "interop" / "build",
        ROOT / ".ci" / "run",
    ]
    used = {name for source in sources for name in re.findall(r"\bBETHROU_[A-Z_]+\b", source.read_text())}
    assert set(re.findall(r"^\| `(BETHROU_[A-Z_]+)` \|", README.text, re.MULTILINE)) == used


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert Document(document).dead_links() == []
