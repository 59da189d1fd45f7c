"""The last-known-good list at work: real files, and time that the tests move."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bethrou.discovery.cache import LIFETIME, SOURCE, STEP, WRITE_INTERVAL, Cache
from bethrou.discovery.cache_file import MAX_ADDRESSES, MAX_MEMBERS, Good, decode, encode
from bethrou.discovery.directory import Directory
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord
from net.clock import Clock, turns

from .members import ALICE, BOB, NOW, UnixClock, at, crowd, record, seen

PEER, OTHER = ALICE.peer_id, BOB.peer_id
LOOPBACK = at(9, host="127.0.0.1")[0]


class AtOnce(ThreadPoolExecutor):
    """A thread that is always done: what it would do is done in the call."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except OSError as error:
            future.set_exception(error)
        return future


class Lab:
    """A cache with its file, directory, time, and what it warns of."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "cache.json"
        self.clock = UnixClock()
        self.warnings: list[str] = []
        self.directory = Directory(self.clock, lambda _: None)
        self.cache = self.another()

    def another(self) -> Cache:
        loop = asyncio.get_running_loop()
        return Cache(loop, self.path, self.directory, self.clock, self.warnings.append)

    def write(self, *members: Good) -> None:
        self.path.write_bytes(encode(members))

    def file(self) -> list[Good]:
        return [good for good, _ in decode(self.path.read_bytes()).members]

    def names(self) -> set[str]:
        return {path.name for path in self.path.parent.iterdir()}


@pytest.fixture
async def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
async def at_once() -> None:
    asyncio.get_running_loop().set_default_executor(AtOnce(1))


async def test_a_program_that_starts_again_finds_its_network(lab: Lab) -> None:
    lab.directory.seen(seen("members", PEER, 1, seq=7, record=record(7, 1, 2, name="berlin")))
    lab.cache.start()
    lab.cache.note_good(PEER, at(1)[0].with_peer(PEER))
    while not lab.path.exists():
        await asyncio.sleep(0)
    await lab.cache.close()
    assert lab.path.stat().st_mode & 0o777 == 0o600
    assert lab.names() == {"cache.json"}
    lab.directory.gone("members", PEER)

    cache = lab.another()
    cache.start()
    while not lab.directory.entries:
        await asyncio.sleep(0)
    entry = lab.directory.entries[PEER]
    assert (entry.sources, entry.addresses, entry.name, entry.seq) == ((SOURCE,), at(1, 2), "berlin", 7)
    assert entry.record == record(7, 1, 2, name="berlin")
    assert entry.expires == NOW + LIFETIME
    assert cache.snapshot().known == cache.snapshot().heard == 1
    await cache.close()
    assert lab.warnings == []


async def test_without_a_file_there_is_nothing_to_say(lab: Lab, at_once: None) -> None:
    lab.cache.start()
    await turns()
    assert lab.cache.snapshot().ok
    assert str(lab.path) in lab.cache.snapshot().detail
    await lab.cache.close()
    assert lab.names() == set()
    assert lab.warnings == []


async def test_an_expired_record_is_a_hint_but_not_passed_on(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW - 20 * 86400, (LOOPBACK, *at(1)), record(7, 2, expires=NOW, name="berlin")))
    lab.cache.start()
    await turns()
    entry = lab.directory.entries[PEER]
    assert entry.addresses == (LOOPBACK, *at(1, 2))
    assert (entry.name, entry.record) == ("berlin", None)
    assert entry.expires == NOW + 10 * 86400
    await lab.cache.close()


async def test_addresses_of_another_machine_in_a_record_are_no_hint(lab: Lab, at_once: None) -> None:
    envelope = NodeRecord(PEER, 1, int(NOW) + 60, (LOOPBACK, *at(2))).seal(ALICE)
    lab.write(Good(PEER, NOW, at(1), envelope))
    lab.cache.start()
    await turns()
    assert lab.directory.entries[PEER].addresses == at(1, 2)
    await lab.cache.close()


async def test_after_a_month_a_member_is_forgotten(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW - LIFETIME, at(1)), Good(OTHER, NOW - LIFETIME + 1, at(1)))
    lab.cache.start()
    await turns()
    assert set(lab.directory.entries) == {OTHER}
    lab.clock.now += 1
    lab.directory.expire()
    assert not lab.directory.entries
    await lab.cache.close()


async def test_a_clock_that_was_set_back_makes_nothing_good_for_longer(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW + 10 * LIFETIME, at(1)))
    lab.cache.start()
    await turns()
    assert lab.directory.entries[PEER].expires == NOW + LIFETIME
    await lab.cache.close()


# -- what is good ------------------------------------------------------------------------------------------------


async def test_the_latest_good_address_is_the_first(lab: Lab, at_once: None) -> None:
    lab.cache.start()
    await turns()
    circuit = Multiaddr.parse(f"/ip4/8.8.4.4/tcp/1/p2p/{OTHER}/p2p-circuit")
    for address in (*at(*range(1, MAX_ADDRESSES + 2)), circuit.with_peer(PEER), *at(3)):
        lab.cache.note_good(PEER, address)
    await lab.cache.close()
    (good,) = lab.file()
    assert good == Good(PEER, NOW, (*at(3), circuit, *at(9, 8, 7, 6, 5, 4)))


async def test_a_record_is_kept_when_the_directory_has_forgotten_it(lab: Lab, at_once: None) -> None:
    lab.directory.seen(seen("redis", PEER, 1, record=record(1)))
    lab.cache.start()
    await turns()
    lab.cache.note_good(PEER, at(1)[0])
    lab.directory.gone("redis", PEER)
    lab.cache.note_good(PEER, at(2)[0])
    await lab.cache.close()
    assert lab.file() == [Good(PEER, NOW, at(2, 1), record(1))]


async def test_the_newest_record_is_kept(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW, at(1), record(1)))
    lab.directory.seen(seen("redis", PEER, 1, seq=2, record=record(2)))
    lab.cache.start()
    await turns()
    lab.cache.note_good(PEER, at(1)[0])
    await lab.cache.close()
    assert lab.file() == [Good(PEER, NOW, at(1), record(2))]


async def test_what_only_the_configuration_names_is_not_kept(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW, at(1)))
    lab.directory.seen(seen("static", PEER, 1))
    lab.directory.seen(seen("static", OTHER, 1))
    lab.directory.seen(seen("members", OTHER, 1))
    lab.cache.start()
    await turns()
    assert lab.directory.entries[PEER].sources == ("static", SOURCE)
    lab.cache.note_good(PEER, at(1)[0])
    lab.cache.note_good(OTHER, at(1)[0])
    assert lab.directory.entries[PEER].sources == ("static",)
    await lab.cache.close()
    assert [good.peer for good in lab.file()] == [OTHER]


@pytest.mark.parametrize("early", [True, False], ids=["before the file was read", "after it"])
async def test_those_that_were_good_last_are_kept(lab: Lab, at_once: None, early: bool) -> None:
    peers = crowd(MAX_MEMBERS + 1)
    lab.write(*(Good(peer, NOW - 1000 + index, at(1)) for index, peer in enumerate(peers[:MAX_MEMBERS])))
    lab.cache.start()
    if not early:
        await turns()
    lab.cache.note_good(peers[0], at(2)[0])
    lab.cache.note_good(peers[-1], at(1)[0])
    await turns()
    await lab.cache.close()
    assert lab.cache.snapshot().known == MAX_MEMBERS
    assert {good.peer for good in lab.file()} == set(peers) - {peers[1]}


async def test_what_is_noted_before_the_file_was_read_is_newer(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW - 100, at(1)), Good(OTHER, NOW - 100, at(1)))
    lab.cache.start()
    lab.cache.note_good(PEER, at(2)[0])
    await turns()
    await lab.cache.close()
    assert lab.file() == [Good(PEER, NOW, at(2)), Good(OTHER, NOW - 100, at(1))]


# -- when it is written ------------------------------------------------------------------------------------------


async def test_it_is_written_at_most_every_30_seconds(lab: Lab, clock: Clock, at_once: None) -> None:
    lab.cache.start()
    await turns()
    lab.cache.note_good(PEER, at(1)[0])
    await turns()
    assert [good.addresses for good in lab.file()] == [at(1)]
    for port in (2, 3):
        lab.cache.note_good(PEER, at(port)[0])
        await clock.forward(WRITE_INTERVAL / 2 - 1)
        assert [good.addresses for good in lab.file()] == [at(1)]
    await clock.forward(2)
    assert [good.addresses for good in lab.file()] == [at(3, 2, 1)]
    before = lab.path.stat().st_ino
    await clock.forward(10 * WRITE_INTERVAL)
    assert lab.path.stat().st_ino == before
    await lab.cache.close()
    assert lab.path.stat().st_ino == before


async def test_being_good_still_is_written_once_an_hour(lab: Lab, clock: Clock, at_once: None) -> None:
    lab.cache.start()
    await turns()
    lab.cache.note_good(PEER, at(1)[0])
    await clock.forward(WRITE_INTERVAL)
    for later, written in ((1, NOW), (STEP - 1, NOW), (STEP, NOW + STEP), (STEP + 1, NOW + STEP), (0, NOW)):
        lab.clock.now = NOW + later
        lab.cache.note_good(PEER, at(1)[0])
        await clock.forward(WRITE_INTERVAL)
        assert [good.at for good in lab.file()] == [written]
    await lab.cache.close()


async def test_the_end_waits_for_the_thread_and_writes_the_rest(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, may_go = threading.Event(), threading.Event()
    writing: list[Path] = []
    together = []

    def slowly(path: Path, data: bytes) -> None:
        writing.append(path)
        together.append(len(writing))
        going.set()
        assert may_go.wait(10)
        path.write_bytes(data)
        writing.pop()

    monkeypatch.setattr("bethrou.discovery.cache.replace_file", slowly)
    lab.cache.start()
    lab.cache.note_good(PEER, at(1)[0])
    while not going.is_set():
        await asyncio.sleep(0)
    lab.cache.note_good(OTHER, at(2)[0])
    closing = asyncio.ensure_future(lab.cache.close())
    await turns()
    assert not closing.done()
    may_go.set()
    await closing
    assert {good.peer for good in lab.file()} == {PEER, OTHER}
    assert together == [1, 1]


async def test_an_end_before_the_beginning_loses_nothing(lab: Lab) -> None:
    lab.write(Good(PEER, NOW, at(1)))
    for start in (True, False):
        cache = lab.another()
        if start:
            cache.start()
        cache.note_good(OTHER, at(1)[0])
        await cache.close()
        assert PEER in [good.peer for good in lab.file()]


# -- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, b'{"members":[', b"x" * (3 << 20)], ids=lambda data: repr(data[:9])
)
async def test_a_damaged_file_is_put_aside_with_one_warning(lab: Lab, at_once: None, data: bytes) -> None:
    lab.path.write_bytes(data)
    lab.cache.start()
    await turns()
    (warning,) = lab.warnings
    assert warning.startswith(f"{lab.path}: cannot be used: ")
    assert warning.endswith("; kept as cache.json.bad")
    lab.cache.note_good(PEER, at(1)[0])
    await lab.cache.close()
    assert (lab.path.parent / "cache.json.bad").read_bytes() == data
    assert [good.peer for good in lab.file()] == [PEER]
    assert len(lab.warnings) == 1


async def test_what_is_left_of_a_damaged_file_is_used(lab: Lab, at_once: None) -> None:
    lab.write(Good(PEER, NOW, at(1), record(1)[:-1] + b"\0"), Good(OTHER, NOW, at(2)))
    damaged = lab.path.read_bytes()
    lab.cache.start()
    await turns()
    assert set(lab.directory.entries) == {OTHER}
    assert lab.warnings == [f"{lab.path}: has 1 entries that make no sense; kept as cache.json.bad"]
    assert lab.cache.snapshot().skipped == 1
    await lab.cache.close()
    assert (lab.path.parent / "cache.json.bad").read_bytes() == damaged
    assert [good.peer for good in lab.file()] == [OTHER]


async def test_a_directory_in_its_place(lab: Lab, at_once: None) -> None:
    lab.path.mkdir()
    lab.cache.start()
    await turns()
    assert lab.warnings == [f"{lab.path}: cannot be used: Is a directory; kept as cache.json.bad"]
    await lab.cache.close()


async def test_a_full_disk_is_said_once_and_tried_again(
    lab: Lab, clock: Clock, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("bethrou.discovery.cache.replace_file", full)
        lab.cache.start()
        lab.cache.note_good(PEER, at(1)[0])
        await clock.forward(3 * WRITE_INTERVAL)
    assert lab.warnings == [f"{lab.path}: cannot be written: No space left on device"]
    assert not lab.cache.snapshot().ok
    assert lab.cache.snapshot().detail == lab.warnings[0]
    await clock.forward(WRITE_INTERVAL)
    assert lab.cache.snapshot().ok
    assert [good.peer for good in lab.file()] == [PEER]
    await lab.cache.close()
    assert len(lab.warnings) == 1
