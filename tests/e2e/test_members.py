"""Nodes that were told of each other with --peer: whoever knows one of them learns of all."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from bethrou.discovery.directory import Directory, Entry
from bethrou.discovery.member_records import MemberRecords
from bethrou.discovery.members_source import MembersSource
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import RecordCache
from bethrou.wire.psk import NetworkKey
from live.processes import NodeProgram, Programs
from live.waiting import PATIENCE, until
from net.hosts import Member


async def told_by(node: NodeProgram, folder: Path, name: str) -> dict[str, Entry]:
    """What a newcomer of that name learns from its first question to the only node that it knows."""
    member = Member(name, NetworkKey.parse((folder / "network.key").read_bytes()))
    directory = Directory(time.time, lambda peer: None)
    taken = MemberRecords(member.peer_id, directory, RecordCache(), time.time)
    source = MembersSource(asyncio.get_running_loop(), member, taken, random.Random(1))
    source.start()
    try:
        address = Multiaddr.parse(node.address)
        assert address.peer_id is not None
        link = await member.dial(address.peer_id, [address])
        await until(lambda: directory.entries and not link.stream_count, what=source.snapshot)
        return {str(peer): entry for peer, entry in directory.entries.items()}
    finally:
        await source.close()
        await member.close()


async def known_to(node: NodeProgram, folder: Path, *others: NodeProgram) -> dict[str, Entry]:
    """What `node` tells newcomers, as soon as it knows all `others`, which takes it a moment."""
    wanted = {each.id for each in (node, *others)}
    deadline = time.monotonic() + PATIENCE
    known: dict[str, Entry] = {}
    attempt = 0
    while set(known) != wanted:
        assert time.monotonic() < deadline, known
        attempt += 1
        known = await told_by(node, folder, f"newcomer {attempt}")
    return known


async def test_whoever_knows_one_node_learns_of_the_others(started: Programs, tmp_path: Path) -> None:
    first = started.node("--name", "one")
    second = started.node("--peer", first.address, "--name", "two", "--tag", "eu", "--tag", "fast")
    third = started.node("--peer", second.address)
    known = await known_to(second, tmp_path, first, third)
    for node in (first, second, third):
        entry = known[node.id]
        assert [str(address.with_peer(entry.peer)) for address in entry.addresses] == [node.address]
        assert entry.agent.startswith("bethrou-py/")
        assert entry.sources == ("members",)
    assert known[first.id].name == "one"
    assert (known[second.id].name, known[second.id].tags) == ("two", ("eu", "fast"))
    assert all(node.stop() == 0 for node in (first, second, third))


async def test_nodes_that_were_told_of_each_other_find_each_other_again(
    started: Programs, tmp_path: Path
) -> None:
    first = started.node()
    second = started.node("--peer", first.address)
    await first.logged("member connected")
    first.kill()
    await second.logged("exit cannot be reached", exit=first.short)
    first = started.again(first, "--peer", second.address, "--peer", first.address)
    await first.logged("member connected", member=second.short)
    await known_to(first, tmp_path, second)
    for node in (first, second):
        assert not node.lines_of("stranger refused")
