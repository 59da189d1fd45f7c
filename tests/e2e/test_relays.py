"""An exit that its client reaches through a relay only: programs as users run them, and curl."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import needs
from e2e.test_real_clients import run
from e2e.web import Web, web_server
from live.payload import MIB, Payload
from live.processes import ClientProgram, NodeProgram, Programs

PAYLOAD = Payload(20 * MIB, seed=1)
RELAY = ("--relay-mode", "--no-exit")
ALONE = {"members": False}
"""Or the client hears from the relay that its exit is on this machine."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    with web_server(PAYLOAD, folder) as server:
        yield server


def client_of(started: Programs, relay: NodeProgram, exit_: NodeProgram) -> ClientProgram:
    return started.client_of([f"{relay.address}/p2p-circuit/p2p/{exit_.id}"], discovery=ALONE)


async def fetches(client: ClientProgram, web: Web) -> None:
    (curl,) = needs("curl")
    proxy = f"socks5h://{client.proxy[0]}:{client.proxy[1]}"
    body = await run(curl, "-sS", "--fail", "-x", proxy, f"http://127.0.0.1:{web.http}/payload")
    assert hashlib.sha256(body).hexdigest() == PAYLOAD.sha256
    url = f"http://127.0.0.1:{web.http}/hash"
    digest = await run(curl, "-sS", "--fail", "-x", proxy, "-T", "-", url, data=bytes(PAYLOAD))
    assert digest.decode() == PAYLOAD.sha256


async def test_curl_through_a_circuit(started: Programs, web: Web) -> None:
    relay = started.node(*RELAY)
    exit_ = started.node("--connect-relay", relay.address)
    said = await exit_.logged("reachable through relay")
    assert said["addresses"] == f"{relay.address}/p2p-circuit"
    client = client_of(started, relay, exit_)
    up = await client.logged("exit up", path="circuit")
    assert up["exit"] == exit_.short
    await fetches(client, web)
    assert await asyncio.to_thread(client.stop) == 0
    circuit = await relay.logged("circuit", target=exit_.short)
    assert circuit["sent"] > PAYLOAD.size
    assert circuit["received"] > PAYLOAD.size
    assert not relay.lines_of("request")
    for program in (exit_, relay):
        assert await asyncio.to_thread(program.stop) == 0


async def test_a_relay_that_restarts_has_everybody_back(started: Programs, web: Web) -> None:
    relay = started.node(*RELAY)
    exit_ = started.node("--connect-relay", relay.address)
    await exit_.logged("reachable through relay")
    client = client_of(started, relay, exit_)
    await client.logged("exit up", path="circuit")
    relay.kill()
    await exit_.logged("not reachable through relay")
    relay = started.again(relay, *RELAY)
    await exit_.logged("reachable through relay", count=2)
    await client.logged("exit up", path="circuit", count=2)
    await fetches(client, web)
