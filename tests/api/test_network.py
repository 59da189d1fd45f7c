"""`bethrou.connect`: connections from within a Python program, on both event loops."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import bethrou
from api.conftest import PAYLOAD, embedded
from bethrou.errors import BethrouError, ConfigError, ConnectionCut, Failure, NotConnected
from bethrou.events import RequestEnded
from e2e.web import NAME, Web
from live.members import Node
from live.payload import MIB, Payload
from live.targets import answers_after_fin, banner, echo, endless, fingerprint, silent, target
from live.waiting import until


def trusting(web: Web) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(web.authority))


async def body_of(reader: asyncio.StreamReader) -> str:
    """The SHA-256 of an HTTP answer's body that ends with the connection."""
    await reader.readuntil(b"\r\n\r\n")
    digest = hashlib.sha256()
    while data := await reader.read(MIB):
        digest.update(data)
    return digest.hexdigest()


GET = b"GET /payload HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


async def test_bytes_go_both_ways_and_half_close_passes(key_file: Path, node: Node) -> None:
    sent, answer = Payload(5 * MIB + 3, seed=1), Payload(3 * MIB + 1, seed=2)
    async with embedded(key_file, node) as (network, events), target(answers_after_fin(answer)) as far:
        reader, writer = await network.open_connection(far.host, far.port)
        assert writer.get_extra_info("peername") == (far.host, far.port)
        assert writer.get_extra_info("exit") == str(node.app.host.peer_id)
        for block in sent:
            writer.write(block)
            await writer.drain()
        writer.write_eof()
        digest = hashlib.sha256()
        while data := await reader.read(MIB):
            digest.update(data)
        assert digest.hexdigest() == answer.sha256
        assert far.visits[0].sha256 == sent.sha256
        writer.close()
        await writer.wait_closed()
        ended = await events.wait(RequestEnded)
        assert (ended.result, ended.sent, ended.received) == ("ok", sent.size, answer.size)


async def test_whoever_speaks_first_is_heard(key_file: Path, node: Node) -> None:
    async with embedded(key_file, node) as (network, _), target(banner(b"hello\n")) as far:
        for _ in range(20):
            reader, writer = await network.open_connection(far.host, far.port)
            assert await reader.readline() == b"hello\n"
            writer.close()


async def test_a_reader_that_waits_holds_the_sender_back(key_file: Path, node: Node) -> None:
    async with embedded(key_file, node) as (network, _), target(endless()) as far:
        reader, writer = await network.open_connection(far.host, far.port)
        await reader.readexactly(MIB)
        await until(lambda: not writer.transport.is_reading())
        await reader.readexactly(4 * MIB)
        writer.transport.abort()
        await until(lambda: far.open_visits == 0)


async def test_tls_to_the_destination(key_file: Path, node: Node, web: Web) -> None:
    async with embedded(key_file, node) as (network, _):
        reader, writer = await network.open_connection(
            "127.0.0.1", web.https, ssl=trusting(web), server_hostname=NAME
        )
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.write(GET)
        assert await body_of(reader) == PAYLOAD.sha256
        writer.close()
        await writer.wait_closed()


async def test_a_certificate_that_is_not_trusted_ends_it(key_file: Path, node: Node, web: Web) -> None:
    async with embedded(key_file, node) as (network, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await network.open_connection("127.0.0.1", web.https, ssl=True)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.test'"):
            await network.open_connection(
                "127.0.0.1", web.https, ssl=trusting(web), server_hostname="other.test"
            )


async def test_tls_with_one_who_speaks_none(key_file: Path, node: Node) -> None:
    async with embedded(key_file, node) as (network, _), target(banner(b"220 smtp\r\n")) as far:
        with pytest.raises(ssl.SSLError):
            await network.open_connection(far.host, far.port, ssl=True)
        await until(lambda: far.open_visits == 0)


@pytest.mark.parametrize("secure", [False, True])
async def test_cancelling_leaves_nothing(key_file: Path, node: Node, secure: bool) -> None:
    async with embedded(key_file, node) as (network, _), target(silent) as far:
        opening = asyncio.create_task(network.open_connection(far.host, far.port, ssl=secure or None))
        if secure:
            await until(lambda: far.open_visits == 1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: far.open_visits == 0)


async def test_failures_are_errors_of_connections_too(key_file: Path, node: Node) -> None:
    async with embedded(key_file, node) as (network, events):
        async with target(echo) as gone:
            pass
        with pytest.raises(ConnectionError, match=f"127.0.0.1:{gone.port}: ") as caught:
            await network.open_connection(gone.host, gone.port)
        assert isinstance(caught.value, NotConnected)
        assert (caught.value.failure, caught.value.exit) == (Failure.REFUSED, str(node.app.host.peer_id))
        assert (await events.wait(RequestEnded)).result == "refused"
        with pytest.raises(NotConnected, match="no exit that is known fits exit=elsewhere"):
            await network.open_connection("127.0.0.1", 80, user="exit=elsewhere")
        with pytest.raises(NotConnected, match=r"nobody could ask for that"):
            await network.open_connection("no host", 80)
        with pytest.raises(NotConnected, match=r"10\.0\.0\.1:80: not globally routable"):
            await network.open_connection("10.0.0.1", 80)


async def test_a_link_that_dies_is_no_end(key_file: Path, node: Node) -> None:
    async with embedded(key_file, node) as (network, _), target(endless()) as far:
        reader, writer = await network.open_connection(far.host, far.port)
        await reader.readexactly(1000)
        for link in node.links:
            link.close("the test says so")
        with pytest.raises(ConnectionCut) as caught:
            while await reader.read(MIB):
                pass
        assert isinstance(caught.value, ConnectionResetError)
        writer.close()


async def test_closing_the_network_cuts_what_is_open(key_file: Path, node: Node) -> None:
    async with target(silent) as far:
        async with embedded(key_file, node) as (network, _):
            _, writer = await network.open_connection(far.host, far.port)
        assert writer.transport.is_closing()
        await until(lambda: far.open_visits == 0)
        with pytest.raises(NotConnected, match=r"use it inside its `async with`"):
            await network.open_connection(far.host, far.port)


async def test_what_is_known_of_exits(key_file: Path, node: Node) -> None:
    async with embedded(key_file, node) as (network, _):
        await network.ready()
        assert [(exit_.id, exit_.path) for exit_ in network.exits] == [(str(node.app.host.peer_id), "direct")]


async def test_without_an_exit(key_file: Path, node: Node) -> None:
    nowhere = f"/ip4/127.0.0.1/tcp/1/p2p/{node.app.host.peer_id}"
    given = {"key": str(key_file), "nodes": [{"addrs": [nowhere]}], "routing": {"wait": "100ms"}}
    async with bethrou.connect(given) as network:
        with pytest.raises(NotConnected, match=r"no exit could be reached within 0\.1 s"):
            await network.ready(0.1)
        with pytest.raises(NotConnected, match=r"example\.com:80: the exit cannot be reached"):
            await network.open_connection("example.com", 80)


async def test_a_direct_rule_needs_no_exit(key_file: Path, node: Node) -> None:
    rules = [{"cidr": "127.0.0.0/8", "use": "direct"}]
    sent = Payload(MIB, seed=4)
    async with embedded(key_file, node, rules=rules) as (network, _), target(fingerprint) as far:
        reader, writer = await network.open_connection(far.host, far.port)
        assert writer.get_extra_info("exit") == "direct"
        writer.write(bytes(sent))
        writer.write_eof()
        assert (await reader.read()).decode() == sent.sha256
        writer.close()
        assert node.app.active == 0


async def test_errors_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        async with bethrou.connect(tmp_path / "absent.yaml"):
            pass
    with pytest.raises(BethrouError, match="nodes: no exit node is given"):
        async with bethrou.connect({"key": "network.key"}):
            pass


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys, bethrou; print([name for name in sys.modules if name in ('asyncio', 'pydantic', 'ssl')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
