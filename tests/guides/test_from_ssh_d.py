"""docs/guides/from-ssh-d.md: a server with a real sshd, a laptop, and what goes through both ways."""

from __future__ import annotations

import pytest

from conftest import needs
from guides.guide import guide
from live.places import PATIENCE, quiet
from live.waiting import wait_until
from live.world import SITE, World, a_world_for_a_test, ssh_for

BLOCKS = guide("from-ssh-d").blocks
SERVER = "5.5.0.1"

world = pytest.fixture(a_world_for_a_test)


@pytest.mark.timeout(180)
def test_it(world: World) -> None:
    needs("curl", "ssh", "nc")
    place = world.internet.host(SERVER)
    server = world.server_at("server", place)
    laptop = world.laptop("laptop", world.internet.host("5.5.1.1"))
    curl = quiet(BLOCKS["curl"])
    with world.ssh_running(place, home=server) as key:
        ssh_for(laptop, key)
        by_ssh = BLOCKS["before"].replace("you@203.0.113.7", SERVER)
        with laptop.running("ssh", by_ssh) as old:
            wait_until(lambda: "It works" in laptop.run(f"{curl.strip()} || true"), PATIENCE)
            old.process.terminate()
            old.process.wait(PATIENCE)

        server.run(BLOCKS["init"])
        with server.running("node", BLOCKS["node"]) as node:
            node.wait_for("^(Exit node) ")
            server.run(BLOCKS["invite"])
            fetched = BLOCKS["join"].replace("you@203.0.113.7 cat ", f"{SERVER} cat {server.folder}/")
            laptop.run(fetched)
            with laptop.running("client", BLOCKS["client"]) as client:
                client.wait_for("(exit up)")
                assert laptop.run(curl) == "It works\n"
                with world.ssh_running() as inside:
                    ssh_for(laptop, inside)
                    through = f"{BLOCKS['proxied-ssh'].strip()} echo through the exit"
                    assert laptop.run(through) == "through the exit\n"
                assert "(2)" in laptop.run(curl.replace(f"https://{SITE}/", "http://127.0.0.1:1/"), 97)
