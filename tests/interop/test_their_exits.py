"""Applications' traffic through our client and exits of other implementations."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from bethrou.events import RequestEnded
from bethrou.net import link as link_module
from bethrou.wire.psk import NetworkKey
from interop.peers import Peer, Peers, each_exit, each_go_peer
from live.applications import Refused, application, open_application, refusal
from live.members import Client, running_client, running_node
from live.obstacles import deaf_listener
from live.payload import MIB, Payload
from live.targets import (
    banner,
    echo,
    endless,
    fingerprint,
    hashes,
    leaves_after,
    request_then_slow_answer,
    source,
    target,
)
from live.waiting import until

BULK = 100 * MIB


async def all_streams_gone(client: Client, exit_: Peer) -> None:
    """Wait until no stream is left on our side."""
    await until(lambda: client.link_to(exit_.id).stream_count == exit_.standing, what="streams that end")


@each_exit
async def test_bytes_come_back(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client, target(echo) as far:
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send([b"hello"])
            assert await app.reader.readexactly(5) == b"hello"
        ended = await client.events.wait(RequestEnded)
        assert (ended.peer, ended.destination, ended.sent) == (exit_.id, far.address, 5)
        served = await exit_.event("served")
        assert served["status"] == "ok"
        await all_streams_gone(client, exit_)


@each_exit
async def test_100_mib_arrive_downwards(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    payload = Payload(BULK, seed=1)
    async with running_client(key, [exit_.address]) as client, target(source(payload)) as far:
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            assert await app.receive() == (BULK, payload.sha256)
        await all_streams_gone(client, exit_)


@each_exit
async def test_100_mib_arrive_upwards(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    payload = Payload(BULK, seed=2)
    async with running_client(key, [exit_.address]) as client, target(hashes(BULK)) as far:
        async with application(client.proxy, "127.0.0.1", far.port) as app:
            await app.send(payload)
            assert (await app.reader.readexactly(64)).decode() == payload.sha256
        await all_streams_gone(client, exit_)


@each_exit
async def test_both_directions_flow_at_once(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    payload = Payload(8 * MIB, seed=3)
    async with (
        running_client(key, [exit_.address]) as client,
        target(echo) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        sending = asyncio.create_task(app.send(payload))
        assert await app.receive(payload.size) == (payload.size, payload.sha256)
        await sending


@each_exit
async def test_failures_reach_the_application(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    async with target(echo) as gone:
        pass
    async with running_client(key, [exit_.address]) as client:
        assert await refusal(client.proxy, "127.0.0.1", gone.port) == 0x05
        if names_are_denied_here():
            assert await refusal(client.proxy, "no-such-name.invalid", 80) == 0x04
        assert client.app.core.pool.exits[exit_.id].health.suspicion.failures == 0
        await all_streams_gone(client, exit_)


@each_exit
async def test_a_destination_that_never_answers_is_not_the_exits_fault(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    """A 1.0.0 exit says nothing while it dials, and Go's sets no limit to that."""
    exit_ = await peers.exit(name, "--mode", mode)
    async with (
        running_client(key, [exit_.address], routing={"timeout": "500ms"}) as client,
        target(echo) as far,
    ):
        with deaf_listener() as deaf:
            asking = [refusal(client.proxy, "127.0.0.1", deaf.port) for _ in range(10)]
            assert await asyncio.gather(*asking) == [0x06] * 10
        assert client.app.core.pool.exits[exit_.id].health.suspicion.failures == 0
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0
        await all_streams_gone(client, exit_)


@each_exit
async def test_payload_in_the_packet_of_the_request_arrives_once(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    payload = bytes(Payload(30_000))
    async with running_client(key, [exit_.address]) as client, target(echo) as far:
        async with application(client.proxy, "127.0.0.1", far.port, behind=payload) as app:
            assert await app.reader.readexactly(len(payload)) == payload
            await app.send([b"more"])
            assert await app.reader.readexactly(4) == b"more"
        assert [visit.received for visit in far.visits] == [len(payload) + 4]


@each_exit
async def test_a_server_may_speak_first(peers: Peers, key: NetworkKey, name: str, mode: str) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    words = bytes(Payload(600, seed=4))
    async with (
        running_client(key, [exit_.address]) as client,
        target(banner(words)) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        assert await app.reader.readexactly(len(words)) == words


@each_exit
@pytest.mark.parametrize("wait", ["10s", "500ms"])
async def test_an_application_may_end_first_and_still_gets_its_whole_answer(
    peers: Peers, key: NetworkKey, name: str, mode: str, wait: str
) -> None:
    """The answer takes longer than the wait for silence, but is never silent for so long."""
    exit_ = await peers.exit(name, "--mode", mode)
    question, answer = Payload(100_000, seed=5), Payload(2 * MIB, seed=6)
    habit = request_then_slow_answer(question.size, answer, pieces=10, pause=0.1)
    async with (
        running_client(key, [exit_.address], half_close_wait=wait) as client,
        target(habit) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        await app.send(question, end=True)
        assert await app.receive() == (answer.size, answer.sha256)
        await all_streams_gone(client, exit_)


@pytest.mark.parametrize("name", ["go-v0.42", "go-newest", "js"])
async def test_the_end_is_passed_on_after_silence(peers: Peers, key: NetworkKey, name: str) -> None:
    """A destination that answers only after the end gets it, when the exit keeps half-closed connections."""
    exit_ = await peers.exit(name, "--mode", "proper")
    question = Payload(100_000, seed=7)
    async with (
        running_client(key, [exit_.address], half_close_wait="200ms") as client,
        target(fingerprint) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        await app.send(question, end=True)
        assert await app.reader.read() == question.sha256.encode()
        await all_streams_gone(client, exit_)


@each_exit
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_an_aborted_download_leaves_nothing_behind(
    peers: Peers, key: NetworkKey, name: str, mode: str, how: str
) -> None:
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client, target(endless()) as far:
        app = await open_application(client.proxy, "127.0.0.1", far.port)
        await app.receive(3 * MIB)
        if how == "reset":
            app.abort()
        else:
            app.writer.close()
        served = await exit_.event("served")
        assert served["status"] == "ok"
        await all_streams_gone(client, exit_)
        await until(lambda: far.open_visits == 0)


@each_exit
async def test_an_upload_ends_when_its_destination_goes_away(
    peers: Peers, key: NetworkKey, name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bethrou in Go ends its direction then, and takes no more bytes without saying so."""
    monkeypatch.setattr(link_module, "_STALL_LIMIT", 0.5)
    monkeypatch.setattr(link_module, "PING_INTERVAL", 0.2)
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client, target(leaves_after(100_000)) as far:
        app = await open_application(client.proxy, "127.0.0.1", far.port)
        with pytest.raises(ConnectionError):
            await app.send(Payload(1000 * MIB))
        app.writer.close()
        await all_streams_gone(client, exit_)
        await until(lambda: client.app.active == 0)


@each_exit
async def test_200_streams_at_once_are_served_or_refused(
    peers: Peers, key: NetworkKey, name: str, mode: str
) -> None:
    """go-libp2p's own limits refuse some: the application hears so at once."""
    exit_ = await peers.exit(name, "--mode", mode)
    async with running_client(key, [exit_.address]) as client, target(echo) as far:
        outcomes = await echo_at_once(client, far.port, 200)
        assert set(outcomes) <= {0x00, 0x01}
        if name in ("js", "rust"):
            assert outcomes[0x00] == 200
        else:
            assert outcomes[0x00] >= 64
        await all_streams_gone(client, exit_)
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0x00


@each_go_peer
async def test_streams_that_one_exit_refuses_go_to_another(peers: Peers, key: NetworkKey, name: str) -> None:
    exit_ = await peers.exit(name)
    async with running_node(key) as node, running_client(key, [exit_.address, node.address]) as client:
        async with target(echo) as far:
            assert await echo_at_once(client, far.port, 300) == {0x00: 300}
            await until(lambda: len(client.events.of(RequestEnded)) == 300)
        carried = Counter(event.peer for event in client.events.of(RequestEnded))
        assert carried[exit_.id] >= 64


def names_are_denied_here() -> bool:
    """Whether the system's resolver says of a name that it does not exist; without a network it says nothing."""
    try:
        socket.getaddrinfo("no-such-name.invalid", 80)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    return False


async def echo_at_once(client: Client, port: int, count: int) -> Counter[int]:
    """Open `count` connections, hold all, then have bytes echoed on each: how often which reply came."""
    opened = await asyncio.gather(
        *(open_application(client.proxy, "127.0.0.1", port) for _ in range(count)), return_exceptions=True
    )
    outcomes: Counter[int] = Counter()
    for number, app in enumerate(opened):
        if isinstance(app, Refused):
            outcomes[app.code] += 1
            continue
        assert not isinstance(app, BaseException), app
        outcomes[0] += 1
        await app.send([b"%08d" % number])
        assert await app.reader.readexactly(8) == b"%08d" % number
    for app in opened:
        if not isinstance(app, BaseException):
            app.writer.close()
    return outcomes
