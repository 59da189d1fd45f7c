"""docs/guides/servers-behind-nat.md, as its reader follows it: on three machines, two of them behind NAT.

Ports and addresses are those that it has, but for 203.0.113.7, the page's URL, and the peer IDs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import needs
from faults.figures import Figures
from live.documents import ROOT, Document
from live.namespaces import Internet, Nat
from live.places import PATIENCE, Place, a_clone, quiet, write_program
from live.town import DESTINATION, PAGE, Town
from live.waiting import wait_until
from live.world import World, a_world_for_a_test

GUIDE = Document(ROOT / "docs" / "guides" / "servers-behind-nat.md")
ADDRESS = re.compile(r"/ip4/203\.0\.113\.7/tcp/4000/p2p/\w+")

clone = pytest.fixture(a_clone)

SERVER = "5.5.0.1"

STAND_INS = {
    # scripts/venv needs a registry; what it makes is there already
    "ssh": """cd "$HOMES/${1#*@}"; shift
        case $* in *scripts/venv*) ln -s "$READY" bethrou/.venv;; *) exec sh -c "$*";; esac""",
    "scp": 'exec cp "$1" "$HOMES/$(echo "${2#*@}" | tr : /)"',
}


@dataclass
class Machines:
    laptop: Place
    server: Place
    home: Place


@pytest.fixture
def machines(clone: Path, tmp_path: Path) -> Iterator[Machines]:
    """Three homes with nothing in them but the laptop's clone."""
    stand_ins, homes = tmp_path / "bin", tmp_path / "homes"
    for folder in (stand_ins, homes, homes / "203.0.113.7", homes / "home", homes / "laptop"):
        folder.mkdir()
    for name, script in STAND_INS.items():
        write_program(stand_ins / name, script)
    with contextlib.ExitStack() as stack:
        places = []
        for name, folder in (("laptop", clone), ("203.0.113.7", homes), ("home", homes)):
            # a Unix socket's path has 107 bytes
            short = stack.enter_context(short_home(homes / name))
            path = f"{stand_ins}:{clone}/.venv/bin:{os.environ['PATH']}"
            place = Place(
                folder if name == "laptop" else homes / name,
                tmp_path,
                PATH=path,
                HOME=short,
                XDG_STATE_HOME="",
                HOMES=str(homes),
                READY=str((clone / ".venv").resolve()),
            )
            places.append(place)
        yield Machines(*places)


@contextlib.contextmanager
def short_home(folder: Path) -> Iterator[str]:
    link = Path(f"/tmp/home-{os.getpid()}-{folder.name}")
    link.symlink_to(folder)
    try:
        yield str(link)
    finally:
        link.unlink()


def block(name: str, relay: str = "", exit_: str = "") -> str:
    """What the guide has, with the addresses that have come out."""
    text = ADDRESS.sub(relay, GUIDE.blocks[name]) if relay else GUIDE.blocks[name]
    return re.sub(r"(- id: )\w+", rf"\g<1>{exit_}", text) if exit_ else text


@pytest.mark.parametrize("nat", [Nat.PRESERVING, Nat.SYMMETRIC], ids=["holes", "no-holes"])
def test_as_it_is_written(
    machines: Machines, internet: Internet, town: Town, figures: Figures, nat: Nat
) -> None:
    needs("curl", "tar", "git")
    laptop, server, home = machines.laptop, machines.server, machines.home
    laptop.run("bethrou key new")
    laptop.run(block("relay-copy"))
    server.folder /= "bethrou"
    home.folder /= "bethrou"
    server.within = internet.host(SERVER).command()
    home.within = internet.home("5.5.1.1", nat).member().command()
    laptop.within = internet.home("5.5.2.1", nat).member().command()
    with server.running("relay", block("relay-node")) as relay:
        address = relay.wait_for(rf"(/ip4/{SERVER}/tcp/4000/p2p/\w+)")
        with home.running("exit", block("relayed-node", address)) as exit_:
            peer = exit_.wait_for(r"^Exit node (12D3\w+)$")
            exit_.wait_for("(reachable through relay)")
            (laptop.folder / "client.yaml").write_text(block("relayed-client-yaml", address, peer))
            with laptop.running("client", block("relayed-client")) as client:
                client.wait_for("(exit up.*path=circuit)")
                curl, status = block("relayed-curl").splitlines()
                here = f"http://{DESTINATION}:{town.web.http}"
                page = quiet(curl).replace("https://example.com/", f"{here}/page.txt")
                assert laptop.run(page) == PAGE.decode()
                if nat is Nat.PRESERVING:
                    client.wait_for(f"(direct way found.*exit={peer[-8:]}.* address=/ip4/5.5.1.1/tcp/4000)")
                via = "direct" if nat is Nat.PRESERVING else "circuit"
                wait_until(lambda: f" {via} " in laptop.run(status), PATIENCE)
                figures.note("path", via)
                assert laptop.run(page) == PAGE.decode()
                large = quiet(curl).replace("https://example.com/", f"{here}/payload -o got")
                laptop.run(large)
                digest = hashlib.sha256((laptop.folder / "got").read_bytes()).hexdigest()
                assert digest == town.payload.sha256
                figures.note("6 MiB", "hash right")
                (known,) = json.loads(laptop.run(f"{status} --json"))["exits"]
                assert (known["id"], known["path"]) == (peer, via)
                found = laptop.run(block("ways"))
                assert ("by circuit, " in found) == (via == "circuit")
                assert found.splitlines()[-1].startswith("0 problems, ")
                client.interrupt()
            exit_.interrupt()
        relay.interrupt()


# -- with invites ---------------------------------------------------------------------------------------------------

world = pytest.fixture(a_world_for_a_test)


@pytest.mark.timeout(180)
def test_with_invites(world: World) -> None:
    needs("curl")
    berlin = world.server("berlin", SERVER)
    theirs, ours = (world.internet.home(each, Nat.SYMMETRIC) for each in ("5.5.1.1", "5.5.2.1"))
    for home in (theirs, ours):
        home.refuse()
    attic, laptop = world.server_at("attic", theirs.member()), world.laptop("laptop", ours.member())
    berlin.run(block("auto-init"))
    with berlin.running("relay", block("auto-relay")) as relay:
        relay.wait_for("^(Exit node) ")
        berlin.run(block("auto-invites"))
        for place, link, join in (
            (attic, "attic.link", "auto-join"),
            (laptop, "laptop.link", "auto-join-laptop"),
        ):
            (place.folder / link).write_bytes((berlin.folder / link).read_bytes())
            place.run(block(join))
        with (
            attic.running("exit", block("auto-node")) as exit_,
            laptop.running("client", block("auto-client")) as client,
        ):
            exit_.wait_for("(reachable through relay)")
            client.wait_for("(exit up .*path=circuit)")
            # its name comes on its link, a moment later
            wait_until(lambda: "attic" in laptop.run("bethrou status --client"), PATIENCE)
            assert laptop.run(quiet(block("auto-curl"))) == "It works\n"
            found = laptop.run(block("ways"))
            assert re.search(r"^warning +exits +attic: by circuit, .*; no direct way: ", found, re.MULTILINE)
