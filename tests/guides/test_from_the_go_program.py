"""docs/guides/from-the-go-program.md: its commands in directories as the Go program leaves them.

That the programs understand each other is what tests/interop is about, with real Go peers.
"""

from __future__ import annotations

import re

import pytest
import yaml

from bethrou.assembly import keyfiles
from bethrou.config import ClientConfig
from bethrou.wire.keys import Identity
from conftest import needs
from guides.guide import README, guide
from live.places import PEER
from live.world import World, a_world_for_a_test

BLOCKS = guide("from-the-go-program").blocks

world = pytest.fixture(a_world_for_a_test)


def test_its_files_are_taken_over(world: World) -> None:
    needs("curl")
    server = world.server("server", "5.5.0.1")
    laptop = world.laptop("laptop", world.internet.host("5.5.1.1"))
    server.run("bethrou key new")
    key = laptop.folder / "network.key"
    key.write_bytes((server.folder / "network.key").read_bytes())
    key.chmod(0o600)
    identity = Identity(b"an identity that Go has made".ljust(32, b"."))
    keyfiles.write_private(server.folder / "node.key", identity.to_protobuf())
    configuration = PEER.sub(str(identity.peer_id), BLOCKS["go-client-yaml"]).replace(
        "203.0.113.7", "5.5.0.1"
    )
    (laptop.folder / "client.yaml").write_text(configuration)
    with server.running("node", BLOCKS["swap-node"]) as node:
        assert node.wait_for(r"^Exit node (\S+)$") == str(identity.peer_id)
        with laptop.running("client", BLOCKS["swap-client"]) as client:
            client.wait_for("(exit up)")
            assert laptop.run("curl -sS -x socks5h://127.0.0.1:1080 https://example.com/") == "It works\n"
            doctor = laptop.run(README.blocks["doctor"])
            assert re.search(r"^ok +config ", doctor, re.MULTILINE)
            assert doctor.splitlines()[-1].startswith("0 problems, ")


def test_the_go_clients_keys_are_not_ours() -> None:
    ours = {key.strip("`") for key, *_, meaning in README.tables["client.yaml"] if meaning.startswith("ours")}
    config = ClientConfig.model_validate(load(BLOCKS["go-client-yaml"]))
    used = set(keys_in(load(BLOCKS["go-client-yaml"])))
    assert config.nodes
    assert used & ours == set()


def load(text: str) -> dict[str, object]:
    return dict(yaml.safe_load(text))


def keys_in(block: object, prefix: str = "") -> list[str]:
    """Every key as README's table writes it."""
    if isinstance(block, dict):
        return [
            each
            for key, value in block.items()
            for each in (prefix + key, *keys_in(value, f"{prefix}{key}."))
        ]
    if isinstance(block, list):
        return [each for item in block for each in keys_in(item, f"{prefix.removesuffix('.')}[].")]
    return []
