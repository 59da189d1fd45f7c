"""Programs that people use, through a client and a node as they run them."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import io
import os
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import aiohttp_socks
import httpx
import pytest
import requests

from conftest import needs
from e2e.conftest import Network
from e2e.web import NAME, Web, web_server
from live.payload import MIB, Payload
from live.processes import Programs
from live.targets import echo, target
from proxy.dns_server import DnsServerForTests

PAYLOAD = Payload(16 * MIB, seed=1)


async def run(*command: str | Path, env: dict[str, str] | None = None, data: bytes | None = None) -> bytes:
    """What a program prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(data)
    assert process.returncode == 0, f"{command[0]}: status {process.returncode}: {err.decode()}"
    return out


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def web(tmp_path: Path, names: DnsServerForTests) -> Iterator[Web]:
    names.zone[NAME] = ["127.0.0.1"]
    folder = tmp_path / "web"
    folder.mkdir()
    with web_server(PAYLOAD, folder) as server:
        yield server


# -- curl -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "host"), [("socks5", "127.0.0.1"), ("socks5h", "127.0.0.1"), ("socks5h", NAME)]
)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_curl(network: Network, web: Web, scheme: str, host: str, tls: bool) -> None:
    (curl,) = needs("curl")
    base = f"https://{host}:{web.https}" if tls else f"http://{host}:{web.http}"
    usual = (curl, "-sS", "--fail", "-x", f"{scheme}://{network.host_and_port}", "--cacert", web.authority)
    assert sha256(await run(*usual, f"{base}/payload")) == PAYLOAD.sha256
    answer = await run(*usual, "-T", "-", f"{base}/hash", data=bytes(PAYLOAD))
    assert answer.decode() == PAYLOAD.sha256


async def test_curl_with_user_and_password(started: Programs, web: Web) -> None:
    (curl,) = needs("curl")
    server = {"user": "alice", "pass": "open sesame"}
    client = started.client([started.node()], server=server)
    url = f"http://127.0.0.1:{web.http}/payload"
    usual = (curl, "-sS", "--fail", "-x", f"socks5://{client.proxy[0]}:{client.proxy[1]}", url)
    assert sha256(await run(*usual, "--proxy-user", "alice:open sesame")) == PAYLOAD.sha256
    for wrong in (("--proxy-user", "alice:guess"), ("--proxy-user", "bob:open sesame"), ()):
        with pytest.raises(AssertionError, match="status 97"):
            await run(*usual, *wrong)
    assert len(client.lines_of("application refused")) == 3
    assert "open sesame" not in str(client.lines)
    assert len(client.lines_of("request")) == 1


async def test_curl_hears_why(network: Network, web: Web) -> None:
    (curl,) = needs("curl")
    proxy = f"socks5h://{network.host_and_port}"
    async with target(echo) as gone:
        pass
    for url, reason in (
        (f"http://127.0.0.1:{gone.port}/", "(5)"),
        ("http://nobody.test/", "(4)"),
        ("http://192.168.77.7/", "(2)"),
    ):
        with pytest.raises(AssertionError) as failed:
            await run(curl, "-sS", "-x", proxy, url)
        assert reason in str(failed.value)


# -- netcat and ssh -------------------------------------------------------------------------------------------------


def netcat(kind: str, network: Network, host: str, port: str) -> list[str]:
    """A netcat that speaks SOCKS5, with its arguments."""
    (program,) = needs(kind)
    if kind == "ncat":
        return [program, "--proxy-type", "socks5", "--proxy", network.host_and_port, host, port]
    return [program, "-N", "-X", "5", "-x", network.host_and_port, host, port]


@pytest.mark.parametrize("kind", ["nc", "ncat"])
@pytest.mark.parametrize("host", ["127.0.0.1", NAME])
async def test_netcat(network: Network, names: DnsServerForTests, kind: str, host: str) -> None:
    names.zone[NAME] = ["127.0.0.1"]
    payload = bytes(Payload(4 * MIB, seed=2))
    async with target(echo) as far:
        back = await run(*netcat(kind, network, host, str(far.port)), data=payload)
        assert sha256(back) == sha256(payload)
        assert [visit.received for visit in far.visits] == [len(payload)]


@pytest.mark.parametrize("kind", ["nc", "ncat"])
async def test_ssh(network: Network, tmp_path: Path, kind: str) -> None:
    ssh, _ = needs("ssh", "ssh-keygen")
    proxy = shlex.join(netcat(kind, network, "HOST", "PORT")).replace("HOST", "%h").replace("PORT", "%p")
    payload = bytes(Payload(4 * MIB, seed=3))
    async with ssh_server(tmp_path) as (port, key):
        options = {
            "ProxyCommand": proxy,
            "IdentityFile": str(key),
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
        }
        given = [f"-o{name}={value}" for name, value in options.items()]
        command = [ssh, "-F", "none", *given, "-p", str(port), f"{getpass.getuser()}@127.0.0.1"]
        assert sha256(await run(*command, "cat", data=payload)) == sha256(payload)


class ssh_server:  # noqa: N801
    """sshd on loopback with keys of its own: its port, and the key that it lets in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> tuple[int, Path]:
        sshd, keygen = needs("sshd", "ssh-keygen")
        host_key, user_key = self._folder / "host_key", self._folder / "user_key"
        for path in (host_key, user_key):
            await run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", path)
        async with target(echo) as free:
            port = free.port
        config = self._folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {user_key}.pub\n"
            f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nLogLevel ERROR\n"
        )
        log = self._folder / "sshd.log"
        with log.open("wb") as stderr:  # no pipe: its sessions hold it open for longer than it lives itself
            self._process = await asyncio.create_subprocess_exec(
                sshd, "-D", "-e", "-f", config, stdin=subprocess.DEVNULL, stderr=stderr
            )
        async with asyncio.timeout(10):
            while True:
                assert self._process.returncode is None, log.read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return port, user_key
                except OSError:
                    await asyncio.sleep(0.02)

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await self._process.wait()


# -- git ------------------------------------------------------------------------------------------------------------


async def test_git_clone(network: Network, web: Web, tmp_path: Path) -> None:
    (git,) = needs("git")
    folder = web.authority.parent
    source, copy = tmp_path / "source", tmp_path / "copy"
    who = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "Test", f"GIT_{role}_EMAIL": "test@web.test"}
    await run(git, "init", "-q", source, env=who)
    (source / "payload").write_bytes(bytes(PAYLOAD)[: 3 * MIB])
    await run(git, "-C", source, "add", "payload", env=who)
    await run(git, "-C", source, "commit", "-qm", "Add a payload", env=who)
    await run(git, "clone", "-q", "--bare", source, folder / "project.git", env=who)
    await run(git, "-C", folder / "project.git", "update-server-info", env=who)

    proxy = f"http.proxy=socks5h://{network.host_and_port}"
    url = f"http://{NAME}:{web.http}/project.git"
    await run(git, "-c", proxy, "clone", "-q", url, copy, env=who)
    assert sha256((copy / "payload").read_bytes()) == sha256((source / "payload").read_bytes())


# -- Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_requests(network: Network, web: Web, scheme: str) -> None:
    host = NAME if scheme == "socks5h" else "127.0.0.1"
    url = f"{scheme}://{network.host_and_port}"

    def fetch_and_put() -> tuple[str, str]:
        with requests.Session() as session:
            session.trust_env = False
            session.proxies = {"http": url, "https": url}
            session.verify = str(web.authority)
            got = session.get(f"https://{host}:{web.https}/payload", timeout=20)
            put = session.put(f"http://{host}:{web.http}/hash", data=iter(PAYLOAD), timeout=20)
            return sha256(got.content), put.text

    assert await asyncio.to_thread(fetch_and_put) == (PAYLOAD.sha256, PAYLOAD.sha256)


async def test_httpx(network: Network, web: Web) -> None:
    trust = ssl.create_default_context(cafile=str(web.authority))

    async def blocks() -> AsyncIterator[bytes]:
        for block in PAYLOAD:
            yield block

    proxy = f"socks5h://{network.host_and_port}"
    async with httpx.AsyncClient(proxy=proxy, verify=trust, trust_env=False, timeout=20) as client:
        got = await client.get(f"https://{NAME}:{web.https}/payload")
        put = await client.put(f"http://{NAME}:{web.http}/hash", content=blocks())
    assert (sha256(got.content), put.text) == (PAYLOAD.sha256, PAYLOAD.sha256)


async def test_aiohttp(network: Network, web: Web) -> None:
    trust = ssl.create_default_context(cafile=str(web.authority))
    connector = aiohttp_socks.ProxyConnector.from_url(
        f"socks5://{network.host_and_port}", rdns=True, ssl=trust
    )
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"https://{NAME}:{web.https}/payload") as response:
            assert sha256(await response.read()) == PAYLOAD.sha256
        async with session.put(f"http://{NAME}:{web.http}/hash", data=io.BytesIO(bytes(PAYLOAD))) as response:
            assert await response.text() == PAYLOAD.sha256
