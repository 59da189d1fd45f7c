"""An exit behind a real nginx, configured as README says, and one that does TLS itself: programs as users run them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from conftest import needs
from e2e.test_real_clients import run
from e2e.web import Web, web_server
from live.certificates import CertificateFiles, write_certificates
from live.documents import README_PATH, Document
from live.payload import MIB, Payload
from live.processes import ClientProgram, Programs
from live.waiting import wait_until

NAME = "exit.example.org"
PAYLOAD = Payload(20 * MIB, seed=1)
ALONE = {"members": False}
"""Or the client hears of other ways to the exit."""


def block(name: str) -> str:
    return Document(README_PATH).blocks[name]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    with web_server(PAYLOAD, folder) as server:
        yield server


@pytest.fixture
def certificates(tmp_path: Path) -> CertificateFiles:
    return write_certificates(tmp_path, NAME)


async def fetches(client: ClientProgram, web: Web) -> None:
    (curl,) = needs("curl")
    proxy = f"socks5h://{client.proxy[0]}:{client.proxy[1]}"
    body = await run(curl, "-sS", "--fail", "-x", proxy, f"http://127.0.0.1:{web.http}/payload")
    assert hashlib.sha256(body).hexdigest() == PAYLOAD.sha256
    url = f"http://127.0.0.1:{web.http}/hash"
    digest = await run(curl, "-sS", "--fail", "-x", proxy, "-T", "-", url, data=bytes(PAYLOAD))
    assert digest.decode() == PAYLOAD.sha256


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def nginx(
    folder: Path,
    exit_port: int,
    files: CertificateFiles,
    listen: str = "",
    within: Sequence[str] = (),
) -> Iterator[int]:
    """nginx with README's configuration, but other files and ports; where it listens on loopback, if not `listen`."""
    (program,) = needs("nginx")
    port = free_port()
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("a website\n")
    server = block("behind-nginx")
    live = f"/etc/letsencrypt/live/{NAME}"
    for theirs, ours in {
        "listen 443": f"listen {listen or f'127.0.0.1:{port}'}",
        f"{live}/fullchain.pem": str(files.certificate),
        f"{live}/privkey.pem": str(files.key),
        "/var/www/html": str(site),
        "127.0.0.1:8080": f"127.0.0.1:{exit_port}",
    }.items():
        assert server.count(theirs) == 1
        server = server.replace(theirs, ours)
    temporary = "".join(
        f"{kind}_temp_path {folder / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off;\nmaster_process off;\nuser root;\npid {folder / 'nginx.pid'};\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{server}}}\n"
    )
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen([*within, program, "-p", folder, "-c", path, "-e", "stderr"], stderr=log)
    try:
        wait_until(lambda: bool(within) or is_open(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "nginx.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait()


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(ConnectionError), socket.create_connection((host, port)):
        return True
    return False


async def test_an_exit_behind_nginx(
    started: Programs, web: Web, certificates: CertificateFiles, tmp_path: Path
) -> None:
    words = block("behind-nginx-node").replace("\\\n", "").split()
    assert words[:3] == ["bethrou", "node", "start"]
    assert words[3::2] == ["--listen", "--announce"]
    listen, announced = words[4::2]
    assert listen == "/ip4/127.0.0.1/tcp/8080/ws"
    (entry,) = yaml.safe_load(block("behind-nginx-client-yaml"))["nodes"]
    assert entry["addrs"] == [announced]
    node = started.node("--announce", announced, listen="/ip4/127.0.0.1/tcp/0/ws")
    assert node.said(r"^ +- (/dns4\S+)$") == f"{announced}/p2p/{node.id}"
    folder = tmp_path / "nginx"
    folder.mkdir()
    with nginx(folder, int(node.address.split("/")[4]), certificates) as port:
        # the name of README is nobody's here
        address = announced.replace(
            f"/dns4/{NAME}/tcp/443/wss", f"/ip4/127.0.0.1/tcp/{port}/tls/sni/{NAME}/ws"
        )
        client = started.client_of(
            [f"{address}/p2p/{node.id}"], discovery=ALONE, tls_ca=str(certificates.ca), punch=False
        )
        up = await client.logged("exit up")
        assert up["address"] == address
        await fetches(client, web)
        (curl,) = needs("curl")
        url = f"https://{NAME}:{port}"
        trusted = ("--cacert", str(certificates.ca), "--resolve", f"{NAME}:{port}:127.0.0.1")
        assert await run(curl, "-sS", "--fail", *trusted, url) == b"a website\n"
        visited = await run(curl, "-sS", "-i", *trusted, f"{url}/bethrou")
        assert visited.startswith(b"HTTP/1.1 426 ")
        assert await asyncio.to_thread(client.stop) == 0
        # nobody is trusted with another certificate, and there is a reason to read
        stranger = started.client_of([f"{address}/p2p/{node.id}"], discovery=ALONE, punch=False)
        away = await stranger.logged("exit cannot be reached")
        assert "TLS: unable to get local issuer certificate" in str(away)
    assert not node.lines_of("error")


async def test_an_exit_that_does_tls_itself(
    started: Programs, web: Web, certificates: CertificateFiles, tmp_path: Path
) -> None:
    node = started.node(
        *("--tls-certificate", str(certificates.certificate), "--tls-key", str(certificates.key)),
        listen="/ip4/127.0.0.1/tcp/0/wss",
    )
    address = node.address.replace("/wss/", f"/tls/sni/{NAME}/ws/")
    client = started.client_of([address], discovery=ALONE, tls_ca=str(certificates.ca), punch=False)
    await client.logged("exit up")
    await fetches(client, web)
    folder = tmp_path / "renewed"
    folder.mkdir()
    renewed = write_certificates(folder, NAME)
    certificates.certificate.write_bytes(renewed.certificate.read_bytes())
    certificates.key.write_bytes(renewed.key.read_bytes())
    node.signal(signal.SIGHUP)
    await node.logged("configuration obeyed anew: tls_certificate")
    later = started.client_of([address], discovery=ALONE, tls_ca=str(renewed.ca), punch=False)
    await later.logged("exit up")
    await fetches(client, web)
