"""A web server for real clients: a payload to fetch, a place to put something, a folder; over HTTP and HTTPS."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from live.payload import Payload

NAME = "web.test"
"""The name that the certificate is for, besides 127.0.0.1."""


@dataclass(frozen=True)
class Web:
    """Where it is. `authority` is the certificate that HTTPS clients must trust."""

    http: int
    https: int
    authority: Path


class _Handler(SimpleHTTPRequestHandler):
    """GET /payload, or /payload/20 for twenty times it, PUT /hash (answers with the body's SHA-256), files."""

    protocol_version = "HTTP/1.1"
    payload: Payload

    def do_GET(self) -> None:
        _, what, *times = self.path.split("/")
        if what != "payload":
            super().do_GET()
            return
        repeat = int(times[0]) if times else 1
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(self.payload.size * repeat))
        self.end_headers()
        for _ in range(repeat):
            for block in self.payload:
                self.wfile.write(block)

    def do_PUT(self) -> None:
        digest = hashlib.sha256()
        for block in self._body():
            digest.update(block)
        answer = digest.hexdigest().encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _body(self) -> Iterator[bytes]:
        """The body of a request, in chunks of the sender's own or of a known length."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers["Content-Length"]))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextlib.contextmanager
def web_server(payload: Payload, folder: Path, host: str = "127.0.0.1") -> Iterator[Web]:
    """Serves `payload` and `folder` at `host`, in threads of its own, over HTTP and HTTPS."""
    handler = type("Handler", (_Handler,), {"payload": payload})
    authority = _write_certificate(folder)
    servers = [_Server((host, 0), partial(handler, directory=str(folder))) for _ in range(2)]
    # the handshake is done by the thread that serves the connection
    servers[1].socket = _tls(authority).wrap_socket(
        servers[1].socket, server_side=True, do_handshake_on_connect=False
    )
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield Web(servers[0].server_port, servers[1].server_port, authority)
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _write_certificate(folder: Path) -> Path:
    """A self-signed certificate with its key, for `NAME` and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
