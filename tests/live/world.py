"""Machines on an Internet in a box, with a site named example.com: commands are run as they are written.

Each machine has a network and a home of its own; all have the programs of this machine, ours among them. Names are
looked up by /etc/hosts, which only servers know example.com from: what a laptop reaches by name, it reaches through an
exit. https://example.com/ has a certificate of an authority that curl and git are told of.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from conftest import needs
from live.certificates import write_certificates
from live.namespaces import Internet, Namespace, an_internet
from live.places import Place, write_program
from live.waiting import wait_until

SITE = "example.com"
SITE_ADDRESS, GIT_ADDRESS = "5.5.0.99", "5.5.0.98"
GIT_HOST = f"git.{SITE}"
_HERE = "127.0.0.1 localhost\n"
_EVERYWHERE = f"{_HERE}{SITE_ADDRESS} {SITE}\n{GIT_ADDRESS} {GIT_HOST}\n"
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


class World:
    """One of them. `site` is the folder that https://example.com/ shows."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.internet = internet
        self.folder = folder
        self.site = folder / "site"
        self.site.mkdir()
        (self.site / "index.html").write_text("It works\n")
        certificates = folder / "certificates"
        certificates.mkdir()
        self._certificates = write_certificates(certificates, SITE)

    def server(self, name: str, address: str) -> Place:
        """A machine with a public address, which can look names up."""
        return self.server_at(name, self.internet.host(address))

    def server_at(self, name: str, place: Namespace) -> Place:
        """The same at a place that is there already."""
        return self._machine(name, place, _EVERYWHERE)

    def laptop(self, name: str, place: Namespace) -> Place:
        """A machine that knows no name but its own, at `place`."""
        return self._machine(name, place, _HERE)

    def _machine(self, name: str, place: Namespace, names: str) -> Place:
        home, scratch = self.folder / name, self.folder / f"{name}-output"
        home.mkdir()
        scratch.mkdir()
        hosts = self.folder / f"{name}-hosts"
        hosts.write_text(names)
        authority = str(self._certificates.ca)
        return Place(
            home,
            scratch,
            [*place.command("unshare", "--mount", "sh", "-c", _WITH_HOSTS, str(hosts))],
            HOME=str(home),
            XDG_STATE_HOME="",
            COLUMNS="120",
            PATH=f"{home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            CURL_CA_BUNDLE=authority,
            GIT_SSL_CAINFO=authority,
            GIT_CONFIG_GLOBAL="/dev/null",
        )

    # -- the site ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def site_running(self) -> Iterator[None]:
        """Serve it for the length of a block."""
        place = self.internet.host(SITE_ADDRESS)
        handler = partial(_Handler, directory=str(self.site))
        plain, secure = (
            place.within(lambda port=port: _Server((SITE_ADDRESS, port), handler)) for port in (80, 443)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificates.certificate, self._certificates.key)
        secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
        threads = [threading.Thread(target=each.serve_forever, args=(0.02,)) for each in (plain, secure)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for server, thread in zip((plain, secure), threads, strict=True):
                server.shutdown()
                thread.join()
                server.server_close()

    # -- ssh --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def ssh_running(self, place: Namespace | None = None, home: Place | None = None) -> Iterator[Path]:
        """A real sshd at git.example.com, or at `place` on the machine `home`; the private key that it lets in."""
        sshd, keygen = needs("sshd", "ssh-keygen")
        place = place or self.internet.host(GIT_ADDRESS)
        within = home.within if home is not None else place.command()
        folder = self.folder / f"sshd-{place.address}"
        folder.mkdir()
        for name in ("host_key", "user_key"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "config").write_text(
            f"ListenAddress {place.address}:22\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nLogLevel ERROR\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*within, sshd, "-D", "-e", "-f", str(folder / "config")],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            wait_until(lambda: place.within(lambda: _answers(place.address, 22)))
            yield folder / "user_key"
        finally:
            process.terminate()
            process.wait()


def ssh_for(machine: Place, key: Path) -> None:
    """Have `ssh` on a machine log in with `key`, as this machine's user, wherever it goes."""
    (ssh,) = needs("ssh")
    options = {
        "User": getpass.getuser(),
        "IdentityFile": str(key),
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "BatchMode": "yes",
    }
    # ssh takes no notice of HOME
    config, folder = machine.folder / ".ssh-config", machine.folder / "bin"
    config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    folder.mkdir(exist_ok=True)
    write_program(folder / "ssh", f'exec {ssh} -F {config} "$@"')


@contextlib.contextmanager
def a_world() -> Iterator[World]:
    """One for the length of a block, with its site. Skips the test where none can be had."""
    needs("unshare", "mount")
    with (
        an_internet() as internet,
        # a short name: the path of a Unix socket has 107 bytes
        tempfile.TemporaryDirectory(prefix="w-", ignore_cleanup_errors=True) as folder,
    ):
        world = World(internet, Path(folder))
        with world.site_running():
            yield world


def a_world_for_a_test() -> Iterator[World]:
    """The body of a fixture."""
    with a_world() as world:
        yield world


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # downloads without an end

    def handle_error(self, *_: object) -> None:
        """Somebody who hangs up is no news."""


class _Handler(SimpleHTTPRequestHandler):
    """Files, and /endless."""

    def do_GET(self) -> None:
        if self.path != "/endless":
            super().do_GET()
            return
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        while True:  # until whoever reads has gone
            self.wfile.write(bytes(64 * 1024))

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
