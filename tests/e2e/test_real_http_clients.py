"""Programs that people use with HTTP proxies and SOCKS4: what test_real_clients.py is for SOCKS5."""

from __future__ import annotations

import getpass
import gzip
import hashlib
import io
import json
import os
import shlex
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import missing, needs
from e2e.conftest import Network
from e2e.test_real_clients import PAYLOAD, run, sha256, ssh_server
from e2e.web import NAME, Web, web_server
from live.payload import MIB, Payload
from live.processes import Programs
from live.targets import echo, target
from proxy.dns_server import DnsServerForTests


@pytest.fixture
def web(tmp_path: Path, names: DnsServerForTests) -> Iterator[Web]:
    """At a name that only the exit can look up."""
    names.zone[NAME] = ["127.0.0.1"]
    folder = tmp_path / "web"
    folder.mkdir()
    with web_server(PAYLOAD, folder) as server:
        yield server


def folder_of(web: Web) -> Path:
    return web.authority.parent


# -- curl and wget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "http"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_curl(network: Network, web: Web, scheme: str, tls: bool) -> None:
    (curl,) = needs("curl")
    host = "127.0.0.1" if scheme == "socks4" else NAME
    base = f"https://{host}:{web.https}" if tls else f"http://{host}:{web.http}"
    usual = (curl, "-sS", "--fail", "-x", f"{scheme}://{network.host_and_port}", "--cacert", web.authority)
    assert sha256(await run(*usual, f"{base}/payload")) == PAYLOAD.sha256
    answer = await run(*usual, "-T", "-", f"{base}/hash", data=bytes(PAYLOAD))
    assert answer.decode() == PAYLOAD.sha256
    uploaded = await run(*usual, "-T", folder_of(web) / "certificate.pem", f"{base}/hash")
    assert uploaded.decode() == sha256(web.authority.read_bytes())
    twice = await run(*usual, f"{base}/payload", "-o", "/dev/null", f"{base}/payload")
    assert sha256(twice) == PAYLOAD.sha256


@pytest.mark.parametrize("scheme", ["socks4a", "socks5h", "http"])
async def test_curl_says_by_user_name_where_it_wants_to_go(started: Programs, web: Web, scheme: str) -> None:
    (curl,) = needs("curl")
    one, other = started.node(), started.node()
    client = started.client([one, other])
    await client.connected(2)
    where = f"{client.proxy[0]}:{client.proxy[1]}"
    for number, exit_ in enumerate((one, other) * 2):
        proxy = f"{scheme}://exit={exit_.id}@{where}"
        got = await run(curl, "-sS", "--fail", "-x", proxy, f"http://127.0.0.1:{web.http}/certificate.pem")
        assert got == web.authority.read_bytes()
        line = await client.logged("request", count=number + 1)
        assert client.lines_of("request")[number]["exit"] == exit_.short, line


async def test_curl_logs_in(started: Programs, web: Web) -> None:
    (curl,) = needs("curl")
    server = {"user": "alice", "pass": "open sesame"}
    client = started.client([started.node()], server=server)
    proxy = f"http://{client.proxy[0]}:{client.proxy[1]}"
    usual = (curl, "-sS", "--fail", "-x", proxy, "--cacert", web.authority)
    for url in (f"http://127.0.0.1:{web.http}/payload", f"https://127.0.0.1:{web.https}/payload"):
        for how in ((), ("--proxy-anyauth",)):
            right = (*usual, *how, "--proxy-user", "alice,session=1:open sesame", url)
            assert sha256(await run(*right)) == PAYLOAD.sha256
        with pytest.raises(AssertionError, match=r"407|status 22"):
            await run(*usual, "--proxy-user", "alice:guess", url)
    assert len(client.lines_of("application refused")) == 2
    assert "open sesame" not in str(client.lines)


async def test_curl_hears_why(network: Network, web: Web) -> None:
    (curl,) = needs("curl")
    async with target(echo) as gone:
        pass
    for url, status in ((f"http://127.0.0.1:{gone.port}/", 502), ("http://192.168.77.7/", 403)):
        usual = (
            curl,
            "-sS",
            "-w",
            "%{http_code}%{http_connect}",
            "-x",
            f"http://{network.host_and_port}",
            url,
        )
        said = (await run(*usual)).decode()
        assert said.startswith("bethrou: ")
        assert said.endswith(f"\n{status}000")
        with pytest.raises(AssertionError, match=str(status)):
            await run(*usual, "--proxytunnel")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_wget(network: Network, web: Web, tls: bool) -> None:
    (wget,) = needs("wget")
    url = f"https://{NAME}:{web.https}/payload" if tls else f"http://{NAME}:{web.http}/payload"
    proxy = f"http://{network.host_and_port}"
    env = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": ""}
    usual = (wget, "-q", "--no-config", "--tries=1", f"--ca-certificate={web.authority}", "-O", "-")
    assert sha256(await run(*usual, url, url, env=env)) == sha256(bytes(PAYLOAD) * 2)


# -- git and ssh ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_git(network: Network, web: Web, tmp_path: Path, tls: bool) -> None:
    (git,) = needs("git")
    source, copy = tmp_path / "source", tmp_path / "copy"
    who = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "Test", f"GIT_{role}_EMAIL": "test@web.test"}
    await run(git, "init", "-q", source, env=who)
    (source / "payload").write_bytes(bytes(PAYLOAD)[: 3 * MIB])
    await run(git, "-C", source, "add", "payload", env=who)
    await run(git, "-C", source, "commit", "-qm", "Add a payload", env=who)
    await run(git, "clone", "-q", "--bare", source, folder_of(web) / "project.git", env=who)
    await run(git, "-C", folder_of(web) / "project.git", "update-server-info", env=who)
    who["GIT_SSL_CAINFO"] = str(web.authority)
    options = ("-c", f"http.proxy=http://{network.host_and_port}")
    url = f"https://{NAME}:{web.https}" if tls else f"http://{NAME}:{web.http}"
    await run(git, *options, "clone", "-q", f"{url}/project.git", copy, env=who)
    assert sha256((copy / "payload").read_bytes()) == sha256((source / "payload").read_bytes())


@pytest.mark.parametrize("kind", ["nc -X connect", "nc -X 4", "ncat http", "ncat socks4"])
async def test_ssh(network: Network, tmp_path: Path, kind: str) -> None:
    ssh, _ = needs("ssh", "ssh-keygen")
    program, *how = kind.split()
    (netcat,) = needs(program)
    if program == "nc":
        proxy = [netcat, *how, "-x", network.host_and_port]
    else:
        proxy = [netcat, "--proxy-type", *how, "--proxy", network.host_and_port]
    payload = bytes(Payload(4 * MIB, seed=3))
    async with ssh_server(tmp_path) as (port, key):
        options = {
            "ProxyCommand": shlex.join(proxy) + " %h %p",
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


# -- package managers -------------------------------------------------------------------------------------------------


async def test_apt(network: Network, web: Web, tmp_path: Path) -> None:
    apt, dpkg_deb = needs("apt-get", "dpkg-deb")
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    control = "Package: thing\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@web.test>\n"
    (package / "DEBIAN" / "control").write_text(control + "Description: a thing\n")
    (package / "payload").write_bytes(bytes(PAYLOAD)[:MIB])
    repository = folder_of(web) / "debian"
    repository.mkdir()
    deb = repository / "thing.deb"
    await run(dpkg_deb, "--build", "--root-owner-group", package, deb)
    index = f"{control}Filename: ./thing.deb\nSize: {deb.stat().st_size}\nSHA256: {file_hash(deb)}\n"
    index += "Description: a thing\n\n"
    (repository / "Packages").write_text(index)
    (repository / "Packages.gz").write_bytes(gzip.compress(index.encode()))

    state = tmp_path / "apt"
    for name in ("lists/partial", "archives/partial", "etc/parts", "out"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [trusted=yes] http://{NAME}:{web.http}/debian ./\n")
    settings = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": state / "etc/parts",
        "Dir::Etc::parts": state / "etc/parts",
        "Dir::Etc::main": "/dev/null",
        "APT::Sandbox::User": getpass.getuser(),
        "Acquire::http::Proxy": f"http://{network.host_and_port}",
        "Acquire::Retries": "0",
        "Acquire::Languages": "none",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    clean = {"http_proxy": "", "no_proxy": "", "APT_CONFIG": "/dev/null"}
    await run(apt, *options, "-q", "-o", "APT::Update::Error-Mode=any", "update", env=clean)
    script = 'cd "$1" && shift && exec "$@"'
    await run("sh", "-c", script, "sh", state / "out", apt, *options, "-q", "download", "thing", env=clean)
    (got,) = (state / "out").glob("*.deb")
    assert file_hash(got) == file_hash(deb)


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_pip(network: Network, web: Web, tmp_path: Path) -> None:
    try:
        await run(sys.executable, "-m", "pip", "--version")
    except AssertionError:
        missing("pip", "no pip in this Python")
    folder = folder_of(web) / "simple" / "thing"
    folder.mkdir(parents=True)
    wheel = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing.py", "answer = 42\n")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("thing-1.0.dist-info/WHEEL", tags)
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    for scheme, port in (("http", web.http), ("https", web.https)):
        out = tmp_path / scheme
        options = ("--isolated", "--disable-pip-version-check", "--no-cache-dir", "--retries", "0", "-q")
        where = ("--index-url", f"{scheme}://{NAME}:{port}/simple", "--trusted-host", NAME)
        proxy = ("--proxy", f"http://{network.host_and_port}", "--cert", web.authority)
        command = (sys.executable, "-m", "pip", *options, "download", *where, *proxy, "-d", out, "thing==1.0")
        await run(*command, env={"no_proxy": "", "PIP_CONFIG_FILE": "/dev/null"})
        assert (out / wheel.name).read_bytes() == wheel.read_bytes()


async def test_npm(network: Network, web: Web, tmp_path: Path) -> None:
    (npm,) = needs("npm")
    manifest = {"name": "thing", "version": "1.0.0"}
    archive = folder_of(web) / "thing-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in (
            ("package.json", json.dumps(manifest).encode()),
            ("payload", bytes(PAYLOAD)[:MIB]),
        ):
            info = tarfile.TarInfo(f"package/{name}")
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    base = f"http://{NAME}:{web.http}"
    dist = {"tarball": f"{base}/{archive.name}", "shasum": hashlib.sha1(archive.read_bytes()).hexdigest()}
    document = {
        "name": "thing",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {**manifest, "dist": dist}},
    }
    (folder_of(web) / "thing").write_text(json.dumps(document))
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "project", "version": "1.0.0"}')
    options = (
        f"--prefix={project}",
        f"--registry={base}/",
        f"--proxy=http://{network.host_and_port}",
        f"--cache={tmp_path / 'cache'}",
        "--userconfig=/dev/null",
        "--globalconfig=/nowhere",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--fetch-retries=0",
    )
    kept = {
        name: "" for name in os.environ if name.lower().startswith(("npm_config", "no_proxy", "http_proxy"))
    }
    await run(npm, *options, "install", "thing", env={**kept, "HOME": str(tmp_path)})
    assert sha256((project / "node_modules/thing/payload").read_bytes()) == sha256(bytes(PAYLOAD)[:MIB])


# -- a browser --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pac", "http"])
async def test_chromium(network: Network, web: Web, tmp_path: Path, how: str) -> None:
    """A page at a name that only the exit can look up, with a script that loads more from there."""
    (chromium,) = needs("chromium")
    page = """<!doctype html><title>page</title><p id=result>nothing</p><script>
        fetch("/hash", {method: "PUT", body: "some text"}).then(answer => answer.text())
            .then(text => document.getElementById("result").textContent = "hash " + text);
    </script>"""
    (folder_of(web) / "page.html").write_text(page)
    proxy = f"http://{network.host_and_port}"
    given = f"--proxy-pac-url={proxy}/proxy.pac" if how == "pac" else f"--proxy-server={proxy}"
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
        given,
    )
    before = len(network.client.lines_of("request"))
    url = f"http://{NAME}:{web.http}/page.html"
    shown = await run(chromium, *options, "--dump-dom", url, env={"HOME": str(tmp_path)})
    assert f"hash {sha256(b'some text')}" in shown.decode()
    await network.client.logged("request", count=before + 1)
    lines = network.client.lines_of("request")[before:]
    assert {(line["destination"], line["result"]) for line in lines} >= {(f"{NAME}:{web.http}", "ok")}
