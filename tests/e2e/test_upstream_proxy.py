"""Peers reached through a real proxy in front of us: Dante, microsocks, tinyproxy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conftest import needs
from e2e.test_real_clients import run
from e2e.test_web_server import NAME, fetches, free_port, is_open, nginx
from e2e.web import Web, web_server
from live.certificates import write_certificates
from live.namespaces import an_internet
from live.payload import MIB, Payload
from live.processes import Programs
from live.waiting import wait_until

PAYLOAD = Payload(20 * MIB, seed=1)
USER, PASSWORD = "alice", "s3cret"
LOGIN = f"{USER}:{PASSWORD}@"
ALONE = {"members": False}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    with web_server(PAYLOAD, folder) as server:
        yield server


@contextlib.contextmanager
def proxy(
    kind: str,
    folder: Path,
    *,
    login: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
    within: Sequence[str] = (),
    only_ports: Sequence[int] = (),
) -> Iterator[str]:
    """A proxy; its URL without credentials. `only_ports`: the only ones that tinyproxy connects to."""
    folder.mkdir()
    port = port or free_port()
    (program,) = needs(kind)
    config = folder / "config"
    if kind == "microsocks":
        argv = [program, "-i", host, "-p", str(port)]
        argv += ["-u", USER, "-P", PASSWORD] if login else []
    elif kind == "danted":
        everybody = "{ from: 0.0.0.0/0 to: 0.0.0.0/0 }"
        config.write_text(
            f"logoutput: stderr\ninternal: {host} port = {port}\nexternal: {host}\nsocksmethod: none\n"
            f"clientmethod: none\nuser.privileged: root\nuser.unprivileged: root\n"
            f"client pass {everybody}\nsocks pass {everybody}\n"
        )
        argv = [program, "-f", str(config), "-p", str(folder / "pid")]
    else:
        basic = f"BasicAuth {USER} {PASSWORD}\n" if login else ""
        config.write_text(
            f"User root\nGroup root\nPort {port}\nListen {host}\nTimeout 600\nMaxClients 50\nLogLevel Error\n"
            f"{basic}{''.join(f'ConnectPort {number}{chr(10)}' for number in only_ports)}"
        )
        argv = [program, "-d", "-c", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*within, *argv], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: bool(within) or is_open(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"{'http' if kind == 'tinyproxy' else 'socks5'}://{host}:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Dante's children, too
        process.wait()


def with_login(url: str) -> str:
    return url.replace("://", f"://{LOGIN}")


@pytest.mark.parametrize("inside", ["", "/ws"], ids=["tcp", "ws"])
@pytest.mark.parametrize("kind", ["danted", "microsocks", "tinyproxy"])
async def test_an_exit_through_a_proxy(
    started: Programs, web: Web, tmp_path: Path, kind: str, inside: str
) -> None:
    node = started.node(listen=f"/ip4/127.0.0.1/tcp/0{inside}")
    with proxy(kind, tmp_path / "proxy") as url:
        client = started.client_of([node.address], discovery=ALONE, proxy=url)
        await client.logged("exit up")
        await fetches(client, web)
        seen = node.lines_of("member connected")
        assert seen
    # the link ran through it: without it there is none
    await client.logged("exit down")


@pytest.mark.parametrize("kind", ["microsocks", "tinyproxy"])
async def test_a_user_and_a_password(started: Programs, tmp_path: Path, kind: str) -> None:
    node = started.node()
    with proxy(kind, tmp_path / "proxy", login=True) as url:
        client = started.client_of([node.address], discovery=ALONE, proxy=with_login(url))
        await client.logged("exit up")
        assert PASSWORD not in str(client.lines)
        arguments = Path(f"/proc/{client.pid}/cmdline").read_bytes()
        assert PASSWORD.encode() not in arguments
        without = started.client_of([node.address], discovery=ALONE, proxy=url)
        said = await without.logged("exit cannot be reached")
        assert "wants a user and a password, and none is configured" in said["reason"]
        wrong = started.client_of(
            [node.address], discovery=ALONE, proxy=url.replace("://", "://alice:other@")
        )
        said = await wrong.logged("exit cannot be reached")
        assert "does not accept this user and password" in said["reason"]


async def test_names_are_looked_up_by_the_proxy(started: Programs, tmp_path: Path) -> None:
    node = started.node()
    by_name = node.address.replace("/ip4/127.0.0.1/", "/dns4/nobody.invalid/")
    with proxy("tinyproxy", tmp_path / "proxy") as url:
        client = started.client_of([by_name], discovery=ALONE, proxy=url)
        said = await client.logged("exit cannot be reached")
        assert "through the proxy http://127.0.0.1" in said["reason"]
        assert "no such host" in said["reason"]
        known = started.client_of(
            [node.address.replace("/ip4/127.0.0.1/", "/dns4/localhost/")], discovery=ALONE, proxy=url
        )
        await known.logged("exit up")


async def test_a_proxy_that_is_not_there(started: Programs) -> None:
    node = started.node()
    client = started.client_of([node.address], discovery=ALONE, proxy=f"socks5://127.0.0.1:{free_port()}")
    said = await client.logged("exit cannot be reached")
    assert "cannot be reached: " in said["reason"]
    assert "Connection refused" in said["reason"]


@pytest.mark.parametrize("kind", ["tinyproxy", "microsocks"])
async def test_an_exit_that_is_not_there(started: Programs, tmp_path: Path, kind: str) -> None:
    node = started.node()
    gone = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{node.id}"
    with proxy(kind, tmp_path / "proxy") as url:
        client = started.client_of([gone], discovery=ALONE, proxy=url)
        said = await client.logged("exit cannot be reached")
        assert "could not connect" in said["reason"] or "connection refused" in said["reason"]


async def test_100_mib_out_of_a_network_that_knows_only_its_proxy(started: Programs, tmp_path: Path) -> None:
    """Only the proxy's port is open to the client; behind it, an exit behind nginx, reached by wss."""
    (curl,) = needs("curl")
    payload = Payload(100 * MIB, seed=5)
    files = write_certificates(tmp_path, NAME)
    with an_internet() as internet:
        server, gate, inside = (internet.host(f"5.5.0.{number}") for number in (1, 2, 3))
        for way, end in (("OUTPUT", "d"), ("INPUT", "s")):
            device = {"OUTPUT": "-o", "INPUT": "-i"}[way]
            inside.run("iptables", "-w", "-A", way, device, "lo", "-j", "ACCEPT")
            only = ("-p", "tcp", f"-{end}", gate.address, f"--{end}port", "3128")
            inside.run("iptables", "-w", "-A", way, *only, "-j", "ACCEPT")
            inside.run("iptables", "-w", "-P", way, "DROP")
        node = started.node(
            "--allow", f"{server.address}/32", listen="/ip4/127.0.0.1/tcp/8080/ws", within=server.command()
        )
        folder = tmp_path / "nginx"
        (folder / "site").mkdir(parents=True)
        with (folder / "site" / "payload").open("wb") as file:
            for block in payload:
                file.write(block)
        with (
            nginx(folder, 8080, files, listen=f"{server.address}:443", within=server.command()),
            proxy(
                "tinyproxy",
                tmp_path / "proxy",
                host=gate.address,
                port=3128,
                within=gate.command(),
                only_ports=[443],
            ) as url,
        ):
            wait_until(lambda: server.within(lambda: is_open(443, server.address)))
            wait_until(lambda: gate.within(lambda: is_open(3128, gate.address)))
            address = f"/ip4/{server.address}/tcp/443/tls/sni/{NAME}/ws/http-path/bethrou/p2p/{node.id}"
            client = started.client_of(
                [address], discovery=ALONE, tls_ca=str(files.ca), proxy=url, within=inside.command()
            )
            up = await client.logged("exit up")
            assert "/tls/sni/" in up["address"]
            direct = inside.command(curl, "-sS", "-m", "2", "-k", f"https://{server.address}/payload")
            assert subprocess.run(direct, capture_output=True, check=False).returncode != 0
            through = ("-x", f"socks5h://127.0.0.1:{client.proxy[1]}")
            fetch = (curl, "-sS", "--fail", *through, "-k", f"https://{server.address}/payload")
            body = await run(*inside.command(*fetch))
            assert hashlib.sha256(body).hexdigest() == payload.sha256
