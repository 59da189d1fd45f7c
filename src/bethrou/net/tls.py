"""TLS below a WebSocket (`/wss`): whom we trust, and who we say we are. libp2p's own security runs inside it anyway."""

from __future__ import annotations

import ssl
from pathlib import Path

from bethrou.errors import ConfigError

HANDSHAKE_TIMEOUT = 10.0
"""Seconds."""


class TlsIdentity:
    """Certificates from files. `certificate` (with its chain) and `key`, PEM, are for listening; `ca` holds the
    certificates by which servers are known, in place of the system's.

    Raises ConfigError when a file that is needed cannot be used.
    """

    def __init__(
        self, certificate: Path | None = None, key: Path | None = None, ca: Path | None = None
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._ca = ca
        self._client: ssl.SSLContext | None = None
        self._server: ssl.SSLContext | None = None

    @property
    def client(self) -> ssl.SSLContext:
        """For dialling. The system's certificates are read when this is first needed: they take time and memory."""
        if self._client is None:
            try:
                self._client = ssl.create_default_context(cafile=self._ca)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"cannot use the certificates in {self._ca}: {said_by_tls(error)}"
                ) from None
            self._client.set_alpn_protocols(["http/1.1"])
        return self._client

    @property
    def server(self) -> ssl.SSLContext:
        """For listening."""
        if self._server is None:
            self._server = self._load()
        return self._server

    def check(self) -> None:
        """Read the files for listening. Raises ConfigError."""
        self._server = self._load()

    def reload(self) -> None:
        """Read the files of what is in use again; connections that are there stay.

        Raises ConfigError; then all is as before.
        """
        server = self._load() if self._server is not None else None
        self._server, self._client = server, None

    def _load(self) -> ssl.SSLContext:
        if self._certificate is None:
            raise ConfigError("listening on /wss needs a certificate: --tls-certificate and --tls-key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # A key with a passphrase would have OpenSSL ask on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as error:
            files = f"{self._certificate} with the key {self._key or 'in it'}"
            raise ConfigError(f"cannot use the certificate {files}: {said_by_tls(error)}") from None
        return context


def said_by_tls(error: Exception) -> str:
    """What OpenSSL or the system says, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason.lower().replace("_", " ") if error.reason else "there is no PEM in it"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
