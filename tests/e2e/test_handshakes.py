"""The conversation at the start: in any pieces, too slow, in masses, or in another language altogether."""

from __future__ import annotations

import asyncio
import resource
import socket
import time

import pytest

from bethrou.events import StrangerRefused
from bethrou.proxy import application as application_module
from bethrou.wire.psk import NetworkKey
from e2e.conftest import Network
from live.applications import GREETING, application, connect_request
from live.members import Client, running_client, running_node
from live.payload import Payload
from live.processes import Programs
from live.targets import Target, echo, target
from live.waiting import until

USER = {"user": "alice", "pass": "secret"}
LOGIN = b"\x05\x01\x02" + b"\x01\x05alice\x06secret"


HOSTS = {"ipv4": "127.0.0.1", "ipv6": "::1", "name": "localhost"}


async def turns() -> None:
    """Let everybody read what was sent."""
    for _ in range(4):
        await asyncio.sleep(0)


async def say(client: Client, far: Target, pieces: list[bytes]) -> None:
    """Send `pieces` in a packet each, the payload `hello` last; check that it comes back, and arrived once."""
    reader, writer = await asyncio.open_connection(*client.proxy)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seen = len(far.visits)
    for piece in pieces:
        writer.write(piece)
        await turns()
    async with asyncio.timeout(10):
        method = await reader.readexactly(2)
        if method == b"\x05\x02":
            assert await reader.readexactly(2) == b"\x01\x00"
        answer = await reader.readexactly(4)
        assert answer[:3] == b"\x05\x00\x00"
        await reader.readexactly(6 if answer[3] == 1 else 18)
        assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    assert [visit.received for visit in far.visits[seen:]] == [5]


@pytest.mark.parametrize("kind", ["ipv4", "ipv6", "name"])
@pytest.mark.parametrize("login", [False, True], ids=["anonymous", "login"])
async def test_it_may_come_in_any_pieces(key: NetworkKey, kind: str, login: bool) -> None:
    server = {"listen": "127.0.0.1:0", **(USER if login else {})}
    async with (
        running_node(key, allow=["127.0.0.0/8", "::1"]) as node,
        running_client(key, [node.address], server=server) as client,
        target(echo, "::1" if kind == "ipv6" else "127.0.0.1") as far,
    ):
        start = LOGIN if login else GREETING
        whole = start + connect_request(HOSTS[kind], far.port) + b"hello"
        await say(client, far, [whole])
        await say(client, far, [bytes([byte]) for byte in whole])
        for cut in range(1, len(whole)):
            await say(client, far, [whole[:cut], whole[cut:]])
        assert not client.events.of(StrangerRefused)
        await until(lambda: client.app.active == node.app.active == 0)


async def test_a_large_payload_right_behind_the_request_arrives_once(key: NetworkKey) -> None:
    payload = Payload(3_000_000, seed=1)
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(echo) as far,
        application(client.proxy, "127.0.0.1", far.port, behind=bytes(payload)) as app,
    ):
        assert await app.receive(payload.size) == (payload.size, payload.sha256)
        assert [visit.received for visit in far.visits] == [payload.size]


@pytest.mark.parametrize("said", [b"", b"\x05", GREETING, GREETING + b"\x05\x01\x00\x03\x20half-a-na"])
async def test_a_stalled_handshake_is_ended(
    key: NetworkKey, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(application_module, "HANDSHAKE_TIMEOUT", 0.5)
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        start = time.monotonic()
        reader, writer = await asyncio.open_connection(*client.proxy)
        writer.write(said)
        async with asyncio.timeout(5):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        assert 0.45 < time.monotonic() - start < 4
        assert answer in (b"", b"\x05\x00")
        refused = await client.events.wait(StrangerRefused)
        assert "no request within" in refused.reason
        await until(lambda: client.app.active == 0)
        writer.close()


async def test_a_connection_may_last_longer_than_a_handshake(
    key: NetworkKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application_module, "HANDSHAKE_TIMEOUT", 0.3)
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(echo) as far,
        application(client.proxy, "127.0.0.1", far.port) as app,
    ):
        await asyncio.sleep(0.8)  # longer than a handshake may take
        await app.send([b"still here"])
        assert await app.reader.readexactly(10) == b"still here"


async def test_5000_stalled_handshakes_leave_the_client_serving(started: Programs) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6000:
        pytest.skip(f"a process may have only {hard} files open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    client = started.client([started.node()])
    stalled = []
    try:
        for _ in range(5000):
            sock = socket.socket()
            stalled.append(sock)
            sock.connect(client.proxy)
            sock.send(GREETING)
        async with target(echo) as far:
            start = time.monotonic()
            for _ in range(20):
                async with application(client.proxy, "127.0.0.1", far.port) as app:
                    await app.send([b"x"])
                    assert await app.reader.readexactly(1) == b"x"
            assert time.monotonic() - start < 5
        assert client.sockets > 5000
    finally:
        for sock in stalled:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await until(lambda: client.sockets < 50)


@pytest.mark.parametrize(
    ("said", "answer", "name"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", b"HTTP/1.1 505 ", "HTTP/2.0"),
        (b"GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404 ", "web server"),
        (b"EHLO example.com\r\n", b"HTTP/1.1 400 ", "EHLO"),
        (bytes.fromhex("16030102000100") + bytes(500), b"", "TLS"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", b"", "SSH"),
        (b"\x04\x02\x00\x50\x7f\x00\x00\x01\x00", b"\x00\x5b", "BIND"),
        (b"\xff\xfe\x00garbage\x1b[31m\n", b"", "0xff"),
        (b"hello\n", b"", "0x68"),
    ],
)
async def test_other_languages_make_one_readable_log_line(
    network: Network, said: bytes, answer: bytes, name: str
) -> None:
    await network.client.connected()
    before = len(network.client.lines)
    reader, writer = await asyncio.open_connection(*network.proxy)
    where = writer.get_extra_info("sockname")
    writer.write(said)
    async with asyncio.timeout(5):
        try:
            got = await reader.read()
        except ConnectionResetError:
            got = b""
    writer.close()
    assert got.startswith(answer) and bool(got) == bool(answer)
    line = await network.client.logged("application refused", address=f"{where[0]}:{where[1]}")
    assert name in line["reason"]
    assert line["reason"].isprintable()
    assert len(network.client.lines) == before + 1
