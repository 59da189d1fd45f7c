"""`bethrou doctor` behind real NATs: a relay and an exit on the Internet, an exit and the client at home.

All four are processes in network namespaces. The relay sets a limit to time, which whoever uses it has to be told.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bethrou.assembly import keyfiles
from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from cli.commands import argv
from live.documents import README_PATH, Document
from live.namespaces import Internet, Namespace, Nat, an_internet_for_a_test
from live.processes import ClientProgram, Program

internet = pytest.fixture(an_internet_for_a_test)

_FOLDERS_IN_README = (
    ("/home/you/.local/state", "FOLDER"),
    ("/home/you/client.yaml", "FOLDER/client/client.yaml"),
    ("/home/you", "FOLDER"),
)

CLIENT = "client"
EVERYWHERE = "/ip4/0.0.0.0/tcp/4001"
RELAY, OPEN_EXIT, THEIR_HOME, OUR_HOME = "5.5.0.1", "5.5.0.2", "5.5.1.1", "5.5.2.1"


class Town:
    """Programs of one network, each in a place of its own."""

    def __init__(self, folder: Path, internet: Internet) -> None:
        self.internet = internet
        self._folder = folder
        self.programs: dict[str, Program] = {}
        self.names: dict[str, str] = {}
        """What the ends of peer IDs are called in transcripts."""
        key = folder / "network.key"
        key.write_bytes(NetworkKey.generate(os.urandom).format())
        key.chmod(0o600)

    def node(self, name: str, place: Namespace, **config: Any) -> str:
        """Start one; its peer ID. `name` is what it is called in transcripts."""
        folder = self._new_folder(name)
        # identities that stay the same, so that lists of peers have the same order
        keyfiles.write_private(folder / "node.key", Identity(name.encode().ljust(32, b".")).to_protobuf())
        config = {"listen": [EVERYWHERE], "name": name, **config}
        (folder / "node.yaml").write_text(json.dumps(config))
        program = Program("node", folder, "--config", "node.yaml", "--instance", name, within=place.command())
        self.programs[name] = program
        peer = program.said(r"^(?:Exit|Relay) node (\S+)$")
        self.names[peer[-8:]] = name
        return peer

    def client(self, place: Namespace, addresses: list[str], **config: Any) -> ClientProgram:
        """Start one."""
        program = ClientProgram(
            self._new_folder(CLIENT),
            addresses,
            within=place.command(),
            server={"listen": "127.0.0.1:1080"},
            **config,
        )
        self.programs[CLIENT] = program
        return program

    async def doctor(self, name: str, place: Namespace, *arguments: str) -> tuple[int, str]:
        """Its status and what it prints, asked about the program `name`, which runs at `place`."""
        folder = self._folder / name
        which = ["--client"] if name == CLIENT else ["--node", "--instance", name]
        command = place.command(*argv("bethrou", "doctor", *which, *arguments))
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": str(folder.parent)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def transcript(self, name: str, place: Namespace) -> list[str]:
        """Its lines, without what differs from one run to the next, and without blanks that only line them up."""
        status, out = await self.doctor(name, place)
        return [f"status {status}", *(self.neutral(line) for line in out.splitlines())]

    def neutral(self, line: str) -> str:
        """A line without what differs."""
        for end, name in self.names.items():
            line = line.replace(f"..{end}", name)
        for pattern, word in _DIFFERENT_EACH_TIME:
            line = pattern.sub(word, line)
        return line.replace(str(self._folder), "FOLDER").strip()

    def close(self) -> None:
        for program in reversed(self.programs.values()):
            program.stop()

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder


_DIFFERENT_EACH_TIME = (
    (re.compile(r"\b[\d.]+ m?s\b"), "TIME"),
    (re.compile(r"\b[\d.]+ k?B so far"), "BYTES so far"),
    (re.compile(r"\bprocess \d+ "), "process N "),
    (re.compile(r"/tcp/(?!4001\b)\d+"), "/tcp/PORT"),
    (re.compile(r"in \d rounds?\b"), "in N rounds"),
    # a member that is just busy for others is no help
    (re.compile(r"\d of \d members? (got through|tried in vain): [a-z, ]+"), r"some members \1"),
    (re.compile(r"members: (\d) exits?, .*"), r"members: \1 known"),
    # it is counted when it is written, a moment after an exit was reached
    (re.compile(r"cache: \d exits?,"), "cache: N exits,"),
    (re.compile(r" {2,}"), "  "),
)


@pytest.fixture
async def town(tmp_path: Path, internet: Internet) -> AsyncIterator[Town]:
    town = Town(tmp_path, internet)
    yield town
    town.close()


def beginning(name: str) -> list[str]:
    """What stands first in the transcript of a program that is well."""
    file = "client.yaml" if name == CLIENT else "node.yaml"
    return [
        "status 0",
        f"ok  config  FOLDER/{name}/{file} can be used",
        "ok  running  version 0.1.0, up TIME",
        "ok  keys  the network key FOLDER/network.key is its owner's alone (mode 0600)",
        *(
            [f"ok  keys  the identity FOLDER/{name}/node.key is its owner's alone (mode 0600)"]
            if name != CLIENT
            else []
        ),
    ]


def ending(others: str, warnings: int) -> list[str]:
    """What stands last, where the clocks of `others` were read."""
    return [
        f"ok  clock  within TIME of {others}",
        f"0 problems, {warnings} warning{'' if warnings == 1 else 's'}",
    ]


CLIENT_PORT = "ok  ports  127.0.0.1:1080 is held by this client, process N (python)"
NODE_PORT = "ok  ports  /ip4/0.0.0.0/tcp/4001 is held by this node, process N (python)"
NO_NAMES = "unknown  dns  0 connections open: too few to see whether names are looked up here"
OPEN_THE_EXIT = (
    "at the exit, open its port to the Internet, or forward one in its router, "
    "and have clients told of that address"
)
ALLOW_MORE = "-> have its operator allow more (--relay-duration, --relay-data), or use another relay"


def cache(name: str) -> str:
    """The line about the list of exits that worked."""
    state = name if name == CLIENT else f"node-{name}"
    return (
        f"ok  discovery  cache: N exits, keeps those that were reached in FOLDER/bethrou/{state}/cache.json"
    )


def assert_readme_shows(town: Town, transcript: list[str]) -> None:
    """README's example is this very transcript, of somebody whose folder is /home/you."""
    shown = Document(README_PATH).outputs["doctor"]
    for place, where in _FOLDERS_IN_README:
        shown = shown.replace(place, where)
    assert [town.neutral(line) for line in shown.splitlines()] == transcript[1:]


async def test_behind_symmetric_nats_and_on_the_internet(town: Town, internet: Internet) -> None:
    hub_place, open_place = internet.host(RELAY), internet.host(OPEN_EXIT)
    theirs, ours = (internet.home(address, Nat.SYMMETRIC) for address in (THEIR_HOME, OUR_HOME))
    theirs.refuse()
    ours.refuse()
    their, our = theirs.member(), ours.member()
    hub = town.node("hub", hub_place, relay_mode=True, no_exit=True, relay_duration="1h", relay_data="5GB")
    relay = f"/ip4/{RELAY}/tcp/4001/p2p/{hub}"
    open_exit = town.node("open", open_place, peers=[relay])
    home_exit = town.node("home", their, connect_relay=[relay])
    ways = [f"/ip4/{OPEN_EXIT}/tcp/4001/p2p/{open_exit}", f"{relay}/p2p-circuit/p2p/{home_exit}"]
    client = town.client(our, ways)
    await client.connected(2)
    for program in (client, town.programs["home"]):
        await program.logged("no direct way")

    # two at a time: a member tries the addresses of two others at once, and no more
    of_hub, of_open = await asyncio.gather(
        town.transcript("hub", hub_place), town.transcript("open", open_place)
    )
    of_client, of_home = await asyncio.gather(town.transcript(CLIENT, our), town.transcript("home", their))
    assert of_client == [
        *beginning(CLIENT),
        CLIENT_PORT,
        "warning  exits  home: by circuit, TIME; no direct way: hole punching failed in N rounds "
        "(/ip4/5.5.1.1/tcp/PORT: Connection refused), as it must behind this symmetric NAT",
        f"-> {OPEN_THE_EXIT}",
        "ok  exits  open: direct, TIME",
        "ok  versions  2 exits: bethrou-py/0.1.0, proxy 1.1.0",
        NO_NAMES,
        "ok  reachability  /ip4/5.5.2.1/tcp/PORT is not reachable (some members tried in vain); a client need not be",
        "ok  reachability  /ip4/5.5.2.1/tcp/PORT is not reachable (some members tried in vain); a client need not be",
        "warning  nat  symmetric NAT: each place sees another port (/ip4/5.5.2.1/tcp/PORT, /ip4/5.5.2.1/tcp/PORT); "
        "holes cannot be punched",
        "-> forward a TCP port in the router, or give one side of each pair a public address",
        "ok  punching  peers are told of /ip4/5.5.2.1/tcp/PORT, /ip4/5.5.2.1/tcp/PORT; direct ways to 0 of 1 peer",
        "warning  relays  relay hub carries circuits of this client, and cuts a circuit off after 1 h, 5.0 GB each way",
        ALLOW_MORE,
        "ok  discovery  static: 2 exits, named in the configuration",
        "ok  discovery  members: 3 known",
        cache(CLIENT),
        *ending("open, hub, home", 3),
    ]
    assert_readme_shows(town, of_client)
    assert of_home == [
        *beginning("home"),
        NODE_PORT,
        "warning  reachability  /ip4/5.5.1.1/tcp/PORT is not reachable (some members tried in vain); "
        "members come through a relay",
        "-> forward a TCP port of the router to port 4001 of this machine, and open it in its firewall",
        "unknown  nat  NAT of unknown kind: one port is seen at /ip4/5.5.1.1/tcp/PORT, from 1 place; "
        "two that agree would tell",
        "ok  punching  peers are told of /ip4/5.5.1.1/tcp/PORT; direct ways to 0 of 1 peer",
        "warning  relays  relay hub brings members here for 59 min unless renewed, and cuts a circuit off after "
        "1 h, 5.0 GB each way",
        ALLOW_MORE,
        "ok  discovery  members: 2 known",
        cache("home"),
        *ending("hub", 2),
    ]
    assert of_open == [
        *beginning("open"),
        NODE_PORT,
        "ok  reachability  /ip4/5.5.0.2/tcp/4001 is reachable (some members got through)",
        "ok  nat  none: members see this machine's own address /ip4/5.5.0.2/tcp/4001",
        "ok  punching  peers are told of /ip4/5.5.0.2/tcp/4001",
        "ok  discovery  members: 1 known",
        cache("open"),
        *ending("hub", 0),
    ]
    assert of_hub == [
        *beginning("hub"),
        NODE_PORT,
        "ok  reachability  /ip4/5.5.0.1/tcp/4001 is reachable (some members got through)",
        "ok  nat  none: members see this machine's own address /ip4/5.5.0.1/tcp/4001",
        "ok  punching  peers are told of /ip4/5.5.0.1/tcp/4001",
        "ok  relaying  relays for 1 of 2048 nodes, 1 of 4096 circuits, BYTES so far; a circuit: 1 h, 5.0 GB each way",
        "ok  discovery  members: 2 known",
        cache("hub"),
        *ending("open, home", 0),
    ]


async def test_behind_nats_that_keep_ports(town: Town, internet: Internet) -> None:
    their, our = (internet.home(address, Nat.PRESERVING).member() for address in (THEIR_HOME, OUR_HOME))
    hub = town.node("hub", internet.host(RELAY), relay_mode=True, no_exit=True)
    relay = f"/ip4/{RELAY}/tcp/4001/p2p/{hub}"
    open_exit = town.node("open", internet.host(OPEN_EXIT), peers=[relay])
    home_exit = town.node("home", their, connect_relay=[relay])
    ways = [f"/ip4/{OPEN_EXIT}/tcp/4001/p2p/{open_exit}", f"{relay}/p2p-circuit/p2p/{home_exit}"]
    client = town.client(our, ways)
    await client.connected(2)
    await client.logged("direct way found")
    assert await town.transcript(CLIENT, our) == [
        *beginning(CLIENT),
        CLIENT_PORT,
        "ok  exits  open: direct, TIME",
        "ok  exits  home: direct, TIME",
        "ok  versions  2 exits: bethrou-py/0.1.0, proxy 1.1.0",
        NO_NAMES,
        "ok  reachability  /ip4/5.5.2.1/tcp/PORT is not reachable (some members tried in vain); a client need not be",
        "ok  nat  port-preserving NAT: from 3 places one port is seen at /ip4/5.5.2.1/tcp/PORT; holes can be punched",
        "ok  punching  peers are told of /ip4/5.5.2.1/tcp/PORT; direct ways to 1 of 1 peer",
        "ok  relays  relay hub carries circuits of this client; no limits",
        "ok  discovery  static: 2 exits, named in the configuration",
        "ok  discovery  members: 3 known",
        cache(CLIENT),
        *ending("open, hub, home", 0),
    ]


async def test_where_one_side_punches_no_holes(town: Town, internet: Internet) -> None:
    theirs, ours = (internet.home(address, Nat.PRESERVING) for address in (THEIR_HOME, OUR_HOME))
    ours.refuse()
    their, our = theirs.member(), ours.member()
    hub = town.node("hub", internet.host(RELAY), relay_mode=True, no_exit=True)
    relay = f"/ip4/{RELAY}/tcp/4001/p2p/{hub}"
    home_exit = town.node("home", their, connect_relay=[relay], punch=False)
    client = town.client(our, [f"{relay}/p2p-circuit/p2p/{home_exit}"])
    await client.connected()
    status, out = await town.doctor(CLIENT, our, "--json")
    assert status == 0
    report = json.loads(out)
    findings = {each["check"]: each for each in report["findings"]}
    assert list(report) == ["format", "role", "running", "id", "network", "findings"]
    assert (report["format"], report["role"], report["running"]) == (1, "client", True)
    told = re.sub(r"circuit, [\d.]+ m?s", "circuit, TIME", findings["exits"].pop("text"))
    assert told == (
        "home: by circuit, TIME; no direct way: the exit lists no public address, and it punches no holes"
    )
    assert findings["exits"] == {
        "check": "exits",
        "level": "warning",
        "fix": f"{OPEN_THE_EXIT}; or see that it does not run with --no-punch",
        "subject": home_exit,
    }
    (address,) = (each["subject"] for each in report["findings"] if each["check"] == "reachability")
    assert findings["reachability"]["text"] == (
        f"{address} is not reachable (1 of 1 member tried in vain: ..{hub[-8:]}); a client need not be"
    )
    assert findings["punching"]["text"] == f"peers are told of {address}"
