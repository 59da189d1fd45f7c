"""README.md as its reader uses it: its commands are run, its output is compared, its tables are held against the code.

A shell block has a mark above it (`block: NAME`), and so has the output that it shows (`output: NAME`). Server and
laptop are two folders here; `ssh`, `scp` and `sudo` are small stand-ins, ports are free ones of loopback. Redis is a
real one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
from live.redis_server import program as redis_program
from live.waiting import wait_until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

_MARKED = re.compile(r"<!-- (block|output): (\S+) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"<!-- table: (\S+) -->\n((?:\|.*\n)+)")

BLOCKS = {name: text for kind, name, text in _MARKED.findall(README) if kind == "block"}
OUTPUTS = {name: text for kind, name, text in _MARKED.findall(README) if kind == "output"}
TABLES: dict[str, list[list[str]]] = {
    name: [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[2:]]
    for name, table in _TABLE.findall(README)
}

RUN_ELSEWHERE = {
    "up": "local-up is the same command with an option",
    "test": "it is what runs this file",
    "development": "likewise",
    "behind-nginx": "tests/e2e/test_web_server.py has nginx run it",
    "behind-nginx-node": "so it does with this",
    "behind-nginx-client-yaml": "and this",
    "relay-copy": "tests/nat/test_readme_guide.py needs namespaces",
    "relay-node": "likewise",
    "relayed-node": "likewise",
    "relayed-client-yaml": "likewise",
    "relayed-client": "likewise",
    "relayed-curl": "likewise",
    "doctor": "likewise",
}

PATIENCE = 30.0  # for programs of README to say what is awaited

_PEER = re.compile(r"12D3KooW\w{44}")
_DIFFERENT_EACH_TIME = (
    (re.compile(r"^\d{4}-\d\d-\d\dT\S+Z "), "TIME "),
    (_PEER, "PEER"),
    (re.compile(r"\b(exit|member)=\w{8}\b"), r"\1=PEER"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "FINGERPRINT"),
    (re.compile(r"\bid=[0-9a-f]{16}\b"), "id=ID"),
    (re.compile(r"\b(sent|received|seconds)=[\d.]+"), r"\1=NUMBER"),
    (re.compile(r"[^\s=]+(?=/(?:network|node)\.key\b)"), "FOLDER"),
    (re.compile(r"/ip4/[\d.]+/tcp/\d+"), "ADDRESS"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "HOST:PORT"),
    (re.compile(r"\S+(?=/bethrou-client )"), "FOLDER"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\(invite \w{8}\)"), "(invite ID)"),
    (re.compile(r"bethrou://join/\S+"), "LINK"),
)


def neutral(text: str) -> list[str]:
    """Lines of output without what differs from one run to the next."""
    lines = []
    for line in text.splitlines():
        for pattern, word in _DIFFERENT_EACH_TIME:
            line = pattern.sub(word, line)
        lines.append(line)
    return lines


class Running:
    """A program of README that goes on until it is stopped."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self.process = process
        self._out = out

    @property
    def output(self) -> str:
        """What it has printed and logged so far."""
        return self._out.read_text()

    def wait_for(self, pattern: str) -> str:
        """What the first group of `pattern` matches in the output, once it is there."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.output
            return re.search(pattern, self.output, re.MULTILINE)

        return wait_until(found, PATIENCE)[1]

    def interrupt(self) -> None:
        """Press Ctrl-C; it must end well."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0, self.output


class Place:
    """A folder in which README's blocks are run. Output of programs goes to files in `scratch`."""

    def __init__(self, folder: Path, scratch: Path, **environment: str) -> None:
        self.folder = folder
        self.within: Sequence[str] = ()
        """The command that runs others where this is, on another machine, say."""
        self._scratch = scratch
        self._environment = {**os.environ, **environment}

    def run(self, script: str, status: int = 0) -> str:
        """Run a script to its end; what it printed."""
        done = subprocess.run(
            [*self.within, "/bin/sh", "-euc", script],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{script}\n{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def running(self, name: str, block: str, *more: str) -> Iterator[Running]:
        """Start the one command of a block, with more arguments behind it."""
        (command,) = block.replace("\\\n", "").splitlines()
        out = self._scratch / f"{name}.out"
        with out.open("wb") as file:
            process = subprocess.Popen(
                [*self.within, "/bin/sh", "-euc", f"exec {' '.join((command, *more))}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield Running(process, out)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


# -- the commands ---------------------------------------------------------------------------------------------------


def test_every_command_is_marked() -> None:
    before_shell_blocks = re.findall(r"^(.*)\n```sh$", README, re.MULTILINE)
    assert all(line.startswith("<!-- block: ") for line in before_shell_blocks)
    source = Path(__file__).read_text()
    assert [name for name in BLOCKS if f'BLOCKS["{name}"]' not in source and name not in RUN_ELSEWHERE] == []


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the project that is set up."""
    if not (ROOT / ".git").exists():
        pytest.skip("the sources are no git clone")
    (git,) = needs("git")
    folder = tmp_path / "clone"
    subprocess.run([git, "clone", "-q", ROOT, folder], check=True)
    is_set_up(folder)
    return folder


def is_set_up(folder: Path) -> None:
    """As if scripts/venv had run there; it needs the network, and scripts/test has run it."""
    write_program(folder / "scripts" / "venv", "exit 0")
    (folder / ".venv").symlink_to(sys.prefix)


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def without_ours(path: str) -> str:
    """PATH of somebody who has not installed Bethrou."""
    folders = path.split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if not (Path(folder) / "bethrou-client").exists())


def quiet(curl: str) -> str:
    return curl.replace("curl ", "curl -sS ", 1)


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


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The URL of a page on loopback that says "It works"."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("It works")
    server = ThreadingHTTPServer(("0.0.0.0", 0), functools.partial(QuietHandler, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


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
        lines = _PEER.sub(peer, BLOCKS["client-yaml"]).replace("/ip4/203.0.113.7/tcp/4000", address)
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

    swapped = BLOCKS["swap-node"].replace("/ip4/0.0.0.0/tcp/4000", address)
    with (
        server.running("swapped-node", swapped, *permit) as exit_,
        laptop.running("swapped-client", BLOCKS["swap-client"], *any_port) as connected,
    ):
        assert exit_.wait_for(r"^Exit node (\S+)$") == peer
        connected.wait_for("(exit up)")


# -- several exits --------------------------------------------------------------------------------------------------

_MEASURED = re.compile(r"\b\d+(\.\d+)? (s|ms|min)\b|\b\d+%")
_ADDRESS = re.compile(r"/ip4/203\.0\.113\.7/tcp/4000/p2p/\w+")


def table(text: str) -> list[str]:
    """Lines of tables that a program has printed, without what is measured, in no order."""
    return sorted(_MEASURED.sub("TIME", " ".join(line.split())) for line in neutral(text))


@pytest.fixture
def here(clone: Path, tmp_path: Path) -> Iterator[Place]:
    """The clone, with its programs in PATH, a network key, and a home of its own.

    The home's name is as short as people's: a Unix socket's path has 107 bytes. As XDG_STATE_HOME is none, state is in
    the home.
    """
    path = f"{clone}/.venv/bin:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        place = Place(clone, tmp_path, PATH=path, HOME=home, XDG_STATE_HOME="")
        place.run("bethrou key new")
        yield place


def says(place: Place, command: str, expected: str) -> Callable[[], bool]:
    """Whether a command prints `expected`."""
    return lambda: expected in place.run(f"{command} || true")


def test_several_exits_with_redis(here: Place, page: str) -> None:
    needs("curl")
    redis_program()  # or skip
    redis_port = str(free_port())

    def on_free_ports(block: str) -> str:
        block = block.replace("6379", redis_port).replace("redis-cli ", f"redis-cli -p {redis_port} ")
        return re.sub(r"/tcp/400\d", "/tcp/0", block)

    starts = {
        "berlin": on_free_ports(BLOCKS["redis-berlin"]),
        "paris": on_free_ports(BLOCKS["redis-paris"]),
        "tokyo": on_free_ports(BLOCKS["redis-tokyo"]),
    }
    configuration = here.folder / "client.yaml"
    configuration.write_text(on_free_ports(BLOCKS["redis-client-yaml"]))
    all_serve = says(here, "bethrou status --client --check", "3 of 3 exits can be used, 0 connections")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(here.running("redis", on_free_ports(BLOCKS["redis-server"])))
        redis.wait_for("(Ready to accept connections)")
        assert here.run(on_free_ports(BLOCKS["redis-acl"])) == "OK\n"
        starts["paris"] = starts["paris"].rstrip() + " --discover-user bethrou --discover-pass PASSWORD"
        nodes = {name: stack.enter_context(here.running(name, start)) for name, start in starts.items()}
        for node in nodes.values():
            node.wait_for("^(Exit node) ")
        client = stack.enter_context(
            here.running("client", BLOCKS["redis-client"], "--listen", "127.0.0.1:0")
        )
        proxy = client.wait_for(r"^SOCKS5 on (\S+),")
        wait_until(all_serve, PATIENCE)
        status = here.run(BLOCKS["redis-status"])
        exits, sources = status.split("\n\nSOURCE ")
        assert table(exits) == table(OUTPUTS["redis-status"])
        assert re.search("^redis +ok +3 ", sources, re.MULTILINE)

        def fetch(curl: str) -> str:
            commands = curl.replace("127.0.0.1:1080", proxy).replace("https://example.com/", page)
            return here.run(commands.replace("curl ", "curl -sS "))

        wishes = BLOCKS["user-name"]
        assert fetch(wishes) == "It works" * len(wishes.splitlines())

        elsewhere = page.replace("127.0.0.1", "127.0.0.2")  # the variables except 127.0.0.1
        before = len(re.findall("info  request", client.output))
        assert here.run(BLOCKS["run"].replace("https://example.com/", elsewhere)) == "It works" * 2
        wait_until(lambda: len(re.findall("info  request", client.output)) == before + 2, PATIENCE)

        here.run(BLOCKS["redis-kill"])
        nodes["tokyo"].process.wait(PATIENCE)
        any_exit = "curl -x socks5h://127.0.0.1:1080 https://example.com/\n"
        assert fetch(any_exit * 5) == "It works" * 5
        wait_until(says(here, "bethrou status --client", "tokyo   down"), PATIENCE)
        stack.enter_context(here.running("tokyo", starts["tokyo"]))
        wait_until(all_serve, PATIENCE)

        here.run(BLOCKS["redis-drain"])
        assert nodes["berlin"].process.wait(PATIENCE) == 0
        assert fetch(any_exit * 5) == "It works" * 5
        stack.enter_context(here.running("berlin", starts["berlin"]))
        wait_until(all_serve, PATIENCE)

        with configuration.open("a") as file:
            file.write(BLOCKS["rules-yaml"])
        assert here.run("bethrou reload --client") == "rules: 5 instead of 0\n"
        assert table(here.run(BLOCKS["ask"])) == table(OUTPUTS["ask"])
        asked = json.loads(here.run(quiet(BLOCKS["control-socket"])))
        assert asked["listening"] == [proxy]


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
    assert [name for name, _, _ in options if f"`{name}" not in README] == []


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
    assert set(re.findall(r"^\| `(BETHROU_[A-Z_]+)` \|", README, re.MULTILINE)) == used


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []
