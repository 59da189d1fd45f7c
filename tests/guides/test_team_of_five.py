"""docs/guides/team-of-five.md: two servers, and two of the five, on machines of their own."""

from __future__ import annotations

import re

import pytest

from conftest import needs
from guides.guide import guide
from live.namespaces import Nat
from live.places import PATIENCE, Place, neutral, quiet
from live.waiting import wait_until
from live.world import World, a_world_for_a_test

GUIDE = guide("team-of-five")
BLOCKS, OUTPUTS = GUIDE.blocks, GUIDE.outputs
PARIS = "curl -sS -x socks5h://exit=paris@127.0.0.1:1080 https://example.com/"

world = pytest.fixture(a_world_for_a_test)


def send(link: str, source: Place, target: Place) -> None:
    (target.folder / link).write_bytes((source.folder / link).read_bytes())


@pytest.mark.timeout(180)
def test_it(world: World) -> None:
    needs("curl")
    berlin, paris = world.server("berlin", "5.5.0.1"), world.server("paris", "5.5.0.2")
    home = world.internet.home("5.5.1.1", Nat.PRESERVING)
    ann, eve = (world.laptop(name, home.member()) for name in ("ann", "eve"))
    berlin.run(BLOCKS["init"])
    with berlin.running("node", BLOCKS["node"]) as node:
        node.wait_for("^(Exit node) ")
        berlin.run(BLOCKS["invites"])
        assert len(list(berlin.folder.glob("*.link"))) == 5
        for name, place in (("ann", ann), ("eve", eve)):
            send(f"{name}.link", berlin, place)
            place.run(BLOCKS["join"].replace("ann", name))
        send("ann.link", berlin, eve)
        (said,) = re.findall("A used link is refused: `(.*?)`", GUIDE.text)
        assert said in eve.run("bethrou join ann.link twice", status=2)

        with (
            ann.running("client", BLOCKS["client"]) as of_ann,
            eve.running("client", BLOCKS["client"]) as of_eve,
        ):
            for place, client in ((ann, of_ann), (eve, of_eve)):
                client.wait_for("(exit up)")
                assert place.run(quiet(BLOCKS["curl"])) == "It works\n"

            berlin.run(BLOCKS["invite-node"])
            send("paris.link", berlin, paris)
            paris.run(BLOCKS["join-node"])
            with paris.running("node", BLOCKS["node-paris"]) as second:
                second.wait_for("^(Exit node) ")
                wait_until(lambda: "It works" in ann.run(f"{PARIS} || true"), 2 * PATIENCE + 60)
                listed = berlin.run(BLOCKS["list"])
                assert rows(listed) == rows(OUTPUTS["list"])

                left = berlin.run(BLOCKS["leave"])
                assert re.search(r"^eve is removed: list 2$", left, re.MULTILINE)
                of_eve.wait_for("(this device was removed from the network)")
                eve.run(quiet(BLOCKS["curl"]), status=97)
                assert ann.run(quiet(BLOCKS["curl"])) == "It works\n"

                withdrawn = re.findall(r"\(invite (\w+)\)", left)[0]
                berlin.run(f"bethrou members remove {withdrawn} team")
                send("ann.link", berlin, eve)
                assert "removed" in eve.run("bethrou join ann.link again", status=2)

                away = berlin.run(BLOCKS["away"])
                assert not (berlin.folder / "team" / "operator.key").exists()
                assert "ann-old" in away


def rows(text: str) -> list[str]:
    """The lines of a table, without identities, in no order."""
    return sorted(" ".join(line.split()) for line in neutral(text))
