"""httpx and aiohttp over exits, each with its own pool, against a real web server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import ssl
from pathlib import Path

import aiohttp
import httpx
import pytest

from api.conftest import PAYLOAD, embedded
from api.test_network import trusting
from bethrou.events import RequestEnded
from e2e.web import Web
from live.members import Node
from live.payload import MIB, Payload
from live.targets import endless, silent, target

BODY = Payload(3 * MIB + 17, seed=5)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_httpx(key_file: Path, node: Node, web: Web, secure: bool) -> None:
    base = f"https://127.0.0.1:{web.https}" if secure else f"http://127.0.0.1:{web.http}"
    async with embedded(key_file, node) as (network, events):
        transport = network.httpx_transport(verify=trusting(web))
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            for _ in range(2):
                page = await http.get("/payload")
                assert hashlib.sha256(page.content).hexdigest() == PAYLOAD.sha256
            put = await http.put("/hash", content=bytes(BODY))
            assert put.text == BODY.sha256
            pages = await asyncio.gather(*(http.get("/payload") for _ in range(5)))
            assert {hashlib.sha256(page.content).hexdigest() for page in pages} == {PAYLOAD.sha256}
        ended = events.of(RequestEnded)
        assert len(ended) <= 6, "connections are kept and used again"


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_aiohttp(key_file: Path, node: Node, web: Web, secure: bool) -> None:
    base = f"https://127.0.0.1:{web.https}" if secure else f"http://127.0.0.1:{web.http}"
    async with embedded(key_file, node) as (network, events):
        connector = network.aiohttp_connector(ssl=trusting(web))
        async with aiohttp.ClientSession(base, connector=connector) as http:
            for _ in range(2):
                async with http.get("/payload") as page:
                    assert hashlib.sha256(await page.read()).hexdigest() == PAYLOAD.sha256
            async with http.put("/hash", data=io.BytesIO(bytes(BODY))) as put:
                assert await put.text() == BODY.sha256
        assert len(events.of(RequestEnded)) <= 1, "connections are kept and used again"


async def test_their_own_errors(key_file: Path, node: Node, web: Web) -> None:
    async with embedded(key_file, node) as (network, _):
        async with target(silent) as gone:
            pass
        async with httpx.AsyncClient(transport=network.httpx_transport()) as http:
            with pytest.raises(httpx.ConnectError, match=f"127.0.0.1:{gone.port}"):
                await http.get(f"http://{gone.address}/")
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await http.get(f"https://127.0.0.1:{web.https}/")
            async with target(silent) as mute:
                with pytest.raises(httpx.ReadTimeout):
                    await http.get(f"http://{mute.address}/", timeout=httpx.Timeout(5.0, read=0.05))
            async with (
                target(endless(b"HTTP/1.1 200 OK\r\n\r\n")) as far,
                http.stream("GET", f"http://{far.address}/") as page,
            ):
                parts = page.aiter_bytes()
                await anext(parts)
                for link in node.links:
                    link.close("the test says so")
                with pytest.raises(httpx.ReadError):
                    async for _ in parts:
                        pass
        async with aiohttp.ClientSession(connector=network.aiohttp_connector()) as session:
            with pytest.raises(aiohttp.ClientConnectorError, match=f"127.0.0.1:{gone.port}"):
                await session.get(f"http://{gone.address}/")
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"https://127.0.0.1:{web.https}/")
            fingerprint = hashlib.sha256(_certificate_of(web)).digest()
            async with session.get(
                f"https://127.0.0.1:{web.https}/payload", ssl=aiohttp.Fingerprint(fingerprint)
            ) as page:
                assert hashlib.sha256(await page.read()).hexdigest() == PAYLOAD.sha256
            with pytest.raises(aiohttp.ServerFingerprintMismatch):
                await session.get(f"https://127.0.0.1:{web.https}/", ssl=aiohttp.Fingerprint(bytes(32)))


async def test_the_exit_is_chosen_by_the_user_name(key_file: Path, node: Node, web: Web) -> None:
    async with embedded(key_file, node) as (network, _):
        await network.ready()
        elsewhere = network.httpx_transport(user="exit=elsewhere")
        async with httpx.AsyncClient(transport=elsewhere) as http:
            with pytest.raises(httpx.ConnectError, match="fits exit=elsewhere"):
                await http.get(f"http://127.0.0.1:{web.http}/")
        here = network.aiohttp_connector(user=f"exit={node.app.host.peer_id}")
        async with (
            aiohttp.ClientSession(connector=here) as session,
            session.get(f"http://127.0.0.1:{web.http}/payload") as page,
        ):
            assert page.status == 200


def _certificate_of(web: Web) -> bytes:
    pem = web.authority.read_text()
    return ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])
