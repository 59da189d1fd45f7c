"""The file of the last-known-good list: what is written, and what is made of files that are none."""

import base64
import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.discovery.cache_file import MAX_ADDRESSES, MAX_FILE, MAX_MEMBERS, Good, decode, encode
from bethrou.errors import DecodeError
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord

from .members import ALICE, BOB, NOW, at, crowd, record

RECORD = record(7, 1, 2, name="berlin")
WITH_RECORD = Good(ALICE.peer_id, NOW, at(1, 3), RECORD)
WITHOUT = Good(BOB.peer_id, NOW - 10, at(4))


def entry(**changed: Any) -> dict[str, Any]:
    return {"id": str(ALICE.peer_id), "good": int(NOW), "addrs": ["/ip4/8.8.8.8/tcp/1"]} | changed


def file_of(*entries: Any) -> bytes:
    return json.dumps({"members": entries}).encode()


def test_what_is_written() -> None:
    text = base64.b64encode(RECORD).decode()
    assert encode([WITHOUT, WITH_RECORD]).decode() == (
        '{"members":[\n'
        f'{{"id":"{ALICE.peer_id}","good":1800000000,'
        f'"addrs":["/ip4/8.8.8.8/tcp/1","/ip4/8.8.8.8/tcp/3"],"record":"{text}"}},\n'
        f'{{"id":"{BOB.peer_id}","good":1799999990,"addrs":["/ip4/8.8.8.8/tcp/4"]}}\n'
        "]}\n"
    )


def test_what_was_written_is_read() -> None:
    found = decode(encode([WITHOUT, WITH_RECORD]))
    assert found.members == ((WITH_RECORD, NodeRecord.open(RECORD)), (WITHOUT, None))
    assert found.damaged == 0
    assert decode(encode([])).members == ()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 65535)), max_size=20))
def test_round_trip(said: list[tuple[int, int]]) -> None:
    members = [
        Good(peer, float(good), at(port)) for peer, (good, port) in zip(crowd(len(said)), said, strict=True)
    ]
    newest = sorted(members, key=lambda member: -member.at)
    assert decode(encode(members)).members == tuple((member, None) for member in newest)


def test_an_expired_record_is_read_and_another_peers_is_not() -> None:
    expired = Good(ALICE.peer_id, NOW, at(1), record(expires=1))
    assert decode(encode([expired])).members[0][0] == expired
    others = decode(encode([replace(WITH_RECORD, peer=BOB.peer_id), WITHOUT]))
    assert (others.members, others.damaged) == (((WITHOUT, None),), 1)


@pytest.mark.parametrize(
    "damaged",
    [
        5,
        None,
        [],
        {},
        entry(id=None),
        entry(id="12D3KooW"),
        entry(good=None),
        entry(good=-1),
        entry(good=1.5),
        entry(good=10**400),
        entry(addrs=None),
        entry(addrs=[]),
        entry(addrs=["nonsense"]),
        entry(addrs=[f"/ip4/8.8.8.8/tcp/1/p2p/{BOB.peer_id}"]),
        entry(record=5),
        entry(record="no base64"),
        entry(record="YQ=="),
        entry(record=base64.b64encode(RECORD[:-1] + b"\0").decode()),
    ],
    ids=lambda damaged: repr(damaged)[:50],
)
def test_one_bad_entry_does_not_spoil_the_others(damaged: object) -> None:
    good = {"id": str(BOB.peer_id), "good": int(WITHOUT.at), "addrs": ["/ip4/8.8.8.8/tcp/4"], "new": 1}
    found = decode(file_of(damaged, good))
    assert (found.members, found.damaged) == (((WITHOUT, None),), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"[]",
        b"{}",
        b'{"members":{}}',
        b'{"members":[',
        b"[" * 100_000,
        b'{"members":[' + b" " * MAX_FILE + b"]}",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_file_of_ours(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_every_cut_and_every_damaged_byte() -> None:
    data = encode([WITH_RECORD, WITHOUT])
    for place in range(len(data) - 1):  # the last byte is only a newline
        with contextlib.suppress(DecodeError):
            assert decode(data[:place]).damaged
        damaged = data[:place] + bytes((data[place] ^ 0x01,)) + data[place + 1 :]
        with contextlib.suppress(DecodeError):
            found = decode(damaged)
            # What is proved stays what it was, or is not there.
            assert {good.record for good, _ in found.members} <= {RECORD, None}


def test_of_too_many_members_the_latest_are_kept() -> None:
    members = [Good(peer, float(index), at(1)) for index, peer in enumerate(crowd(MAX_MEMBERS + 10))]
    kept = [good for good, _ in decode(encode(members)).members]
    assert kept == members[:9:-1]
    everything = [json.loads(encode([member]))["members"][0] for member in members]
    assert len(decode(file_of(*everything)).members) == MAX_MEMBERS


def test_the_file_is_bounded_in_bytes() -> None:
    long = tuple(
        Multiaddr.parse(f"/dns4/{'a' * 255}/dns4/{'b' * 255}/dns4/{'c' * 255}/tcp/{port}")
        for port in range(8)
    )
    members = [
        Good(ALICE.peer_id if index else peer, float(index), long, b"x" * 4000)
        for index, peer in enumerate(crowd(MAX_MEMBERS))
    ]
    data = encode(members)
    assert MAX_FILE - 15_000 < len(data) <= MAX_FILE
    assert len(json.loads(data)["members"]) < MAX_MEMBERS


def test_an_entry_has_no_more_addresses_than_are_kept() -> None:
    addresses = [f"/ip4/8.8.8.8/tcp/{port}" for port in range(1, 100)]
    ((good, _),) = decode(file_of(entry(addrs=addresses))).members
    assert good.addresses == at(*range(1, MAX_ADDRESSES + 1))


def test_a_member_that_is_there_twice_is_read_once() -> None:
    ((good, _),) = decode(file_of(entry(), entry(good=1))).members
    assert good.at == NOW
