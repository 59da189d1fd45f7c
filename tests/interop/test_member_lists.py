"""Members in other languages at a node with an operator: they work where the list is not required, and only there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bethrou.wire.keys import Identity
from bethrou.wire.psk import NetworkKey
from interop.peers import Peers
from live.members import running_node
from live.targets import echo, target

each_go_client = pytest.mark.parametrize(
    ("name", "mode"), [("go-v0.42", "faithful"), ("go-newest", "faithful")]
)


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody who has made no list yet, and a folder in which a node may keep one."""
    monkeypatch.chdir(tmp_path)
    return str(Identity.generate(os.urandom).peer_id)


@each_go_client
async def test_a_go_client_is_served_where_the_list_is_not_required(
    peers: Peers, key: NetworkKey, operator: str, name: str, mode: str
) -> None:
    async with running_node(key, operator=operator, members="open") as node, target(echo) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command("request", address=far.address, send_hex=b"hello".hex(), read_bytes=5)
        assert answer["status"] == "ok", answer
        assert bytes.fromhex(answer["received_head"]) == b"hello"


@each_go_client
async def test_a_go_client_gets_nothing_where_it_is_required(
    peers: Peers, key: NetworkKey, operator: str, name: str, mode: str
) -> None:
    async with running_node(key, operator=operator, members="required") as node, target(echo) as far:
        peer = await peers.connected_client(name, node.address, "--mode", mode)
        answer = await peer.command("request", address=far.address, send_hex=b"hello".hex(), read_bytes=5)
        assert answer["status"] != "ok", answer
        assert not far.visits
