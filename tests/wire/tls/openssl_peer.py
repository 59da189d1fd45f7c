"""A peer that is OpenSSL and nothing else: any certificates, its own records, no rules of libp2p."""

from __future__ import annotations

from collections.abc import Sequence

from OpenSSL import SSL

from .certificates import Made, make

YAMUX = "/yamux/1.0.0"


def records(data: bytes) -> list[bytes]:
    """The TLS records that `data` consists of."""
    found = []
    while data:
        end = 5 + int.from_bytes(data[3:5], "big")
        assert len(data) >= end
        found.append(data[:end])
        data = data[end:]
    return found


class OpenSslPeer:
    """One side of a session. `presented` is its certificate, `more` what it sends behind that; None: it has none."""

    def __init__(
        self,
        initiator: bool,
        presented: Made | None = None,
        *,
        more: Sequence[Made] = (),
        anonymous: bool = False,
        alpn: Sequence[str] = (YAMUX, "libp2p"),
        version: int = SSL.TLS1_3_VERSION,
        suites: bytes = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256",
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_tls13_ciphersuites(suites)
        if not anonymous:
            made = presented or make()
            context.use_privatekey(made.key)
            context.use_certificate(made.certificate)
            for each in more:
                context.add_extra_chain_cert(each.certificate)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        names = [name.encode() for name in alpn]
        context.set_alpn_select_callback(
            lambda _, offered: next((name for name in names if name in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
        self.connection = SSL.Connection(context, None)
        self.done = False
        if initiator:
            if names:
                self.connection.set_alpn_protos(names)
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()

    def start(self) -> bytes:
        """ClientHello."""
        return self.receive(b"")

    def receive(self, data: bytes) -> bytes:
        """Go on with the handshake; what to send back. Raises `SSL.Error`."""
        if data:
            self.connection.bio_write(data)
        if not self.done:
            try:
                self.connection.do_handshake()
                self.done = True
            except SSL.WantReadError:
                pass
        return self.output()

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt data."""
        self.connection.sendall(plaintext)
        return self.output()

    def open(self, data: bytes) -> bytes:
        """Decrypt all data of whole records. Raises `SSL.ZeroReturnError` at close_notify, `SSL.Error`."""
        self.connection.bio_write(data)
        plaintext = b""
        while True:
            try:
                plaintext += self.connection.recv(1 << 20)
            except SSL.WantReadError:
                return plaintext

    def output(self) -> bytes:
        try:
            return self.connection.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""
