"""A web server for real clients: a payload to fetch, a place to put something, a folder; over HTTP and HTTPS."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
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


@contextlib.asynccontextmanager
async def web_server(payload: Payload, folder: Path) -> AsyncIterator[Web]:
    """Serves GET /payload, PUT /hash (answers with the SHA-256 of the body) and `folder` under /files."""

    async def fetch(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = payload.size
        await response.prepare(request)
        for block in payload:
            await response.write(block)
        return response

    async def put(request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for block in request.content.iter_chunked(1 << 16):
            digest.update(block)
        return web.Response(text=digest.hexdigest())

    app = web.Application()
    app.router.add_get("/payload", fetch)
    app.router.add_put("/hash", put)
    app.router.add_static("/files", folder)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    authority = _write_certificate(folder)
    try:
        for context in (None, _tls(authority)):
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        ports = [address[1] for address in runner.addresses]
        yield Web(ports[0], ports[1], authority)
    finally:
        await runner.cleanup()


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
