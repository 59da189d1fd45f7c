"""docs/guides/with-redis.md as its reader uses it, with a real Redis; and what README does with several exits."""

from __future__ import annotations

import contextlib
import json
import re

from conftest import needs
from guides.guide import README, guide
from live.places import PATIENCE, Place, free_port, quiet, says, table
from live.redis_server import program as redis_program
from live.waiting import wait_until

GUIDE = guide("with-redis")
BLOCKS, OUTPUTS = GUIDE.blocks, GUIDE.outputs


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

        wishes = README.blocks["user-name"]
        assert fetch(wishes) == "It works" * len(wishes.splitlines())

        elsewhere = page.replace("127.0.0.1", "127.0.0.2")  # the variables except 127.0.0.1
        before = len(wishes.splitlines())  # a request's line comes after its answer
        wait_until(lambda: len(re.findall("info  request", client.output)) == before, PATIENCE)
        assert here.run(README.blocks["run"].replace("https://example.com/", elsewhere)) == "It works" * 2
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
            file.write(README.blocks["rules-yaml"])
        assert here.run("bethrou reload --client") == "rules: 5 instead of 0\n"
        assert table(here.run(README.blocks["ask"])) == table(README.outputs["ask"])
        asked = json.loads(here.run(quiet(README.blocks["control-socket"])))
        assert asked["listening"] == [proxy]
