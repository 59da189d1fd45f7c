"""The TLS 1.3 handshake of libp2p, by OpenSSL on buffers in memory (libp2p/specs tls/tls.md; RFC 8446).

Both sides show a certificate that only its libp2p extension makes worth anything. The standard library's ssl cannot ask
a client for one that no authority has signed, so this is pyOpenSSL, whose verification is ours to decide.

OpenSSL is given one record at a time and stops behind the peer's Finished. Its traffic secrets (the lines of its key
log, which stay in memory) become the link's two ciphers (records.py), and it is let go. Session tickets, which it makes
behind its own end of the handshake, are never sent: nobody resumes a session here.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from OpenSSL import SSL, crypto

from bethrou.errors import HandshakeError, IdentityMismatch
from bethrou.printable import printable
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import Keystream
from bethrou.wire.public_key import PublicKey
from bethrou.wire.secure_channel import SecureSession
from bethrou.wire.tls.certificate import make_certificate, proven_identity
from bethrou.wire.tls.records import (
    APPLICATION_DATA,
    HEADER_SIZE,
    MAX_CIPHERTEXT,
    SUITES,
    RecordOpener,
    RecordSealer,
)

ALPN = "libp2p"
"""Offered behind the muxers; agreed on, it leaves the muxer to multistream-select."""

MAX_HANDSHAKE = 32 * 1024
"""Bytes of the peer's in a handshake; the usual certificate makes it one or two thousand."""

MAX_HANDSHAKE_RECORDS = 64
"""Records of the peer's in a handshake; five are usual."""

_CHANGE_CIPHER_SPEC = 20  # the first of the four content types
_MAX_PROTOCOLS = 32
"""More names than that in a peer's list are no list of muxers."""

_TOO_WEAK = frozenset({66, 67, 68})
"""OpenSSL's X509_V_ERR codes for a small key and a weak hash."""

_BIO_SIZE = 64 * 1024


class TlsIdentity:
    """What OpenSSL needs to know for all handshakes of an identity: a certificate, and how much is allowed.

    `fast_aes` says whether this machine's processor has instructions for AES; ChaCha20 is preferred where it has not.
    """

    def __init__(self, identity: Identity, fast_aes: bool = True) -> None:
        key, certificate = make_certificate(identity)
        self.context = context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        if not fast_aes:
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        names = list(SUITES) if fast_aes else list(reversed(SUITES))
        context.set_tls13_ciphersuites(":".join(names).encode())
        context.use_privatekey(key)
        context.use_certificate(x509.load_der_x509_certificate(certificate))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
        context.set_alpn_select_callback(_select)
        context.set_keylog_callback(_keep_secret)


class TlsHandshake:
    """One side of a handshake, from records to records (wire/secure_channel.py, Handshake).

    `now` is the time of day in Unix seconds.
    """

    header_size = HEADER_SIZE

    def __init__(
        self,
        presented: TlsIdentity,
        *,
        initiator: bool,
        expected: PeerId | None,
        muxers: Sequence[str],
        now: float,
    ) -> None:
        self.session: SecureSession | None = None
        self.muxers = tuple(muxers)
        self.secrets: dict[str, bytes] = {}
        """Traffic secrets by the labels of OpenSSL's key log."""
        self._initiator = initiator
        self._expected = expected
        self._now = now
        self._proven: PublicKey | None = None
        self._received = 0
        self._records = 0
        self._suite = ""
        self._connection = connection = SSL.Connection(presented.context, None)
        connection.set_app_data(self)
        if initiator:
            connection.set_alpn_protos([name.encode() for name in (*muxers, ALPN)])
            connection.set_connect_state()
        else:
            connection.set_accept_state()

    def start(self) -> bytes:
        """ClientHello."""
        self._advance()
        return self._drain()

    def body_size(self, header: bytes) -> int:
        """Bytes of a record behind its header."""
        size = int.from_bytes(header[3:], "big")
        if not _CHANGE_CIPHER_SPEC <= header[0] <= APPLICATION_DATA or header[1] != 3:
            raise HandshakeError("TLS handshake: what the peer sends is no TLS record")
        if size > MAX_CIPHERTEXT:
            raise HandshakeError(
                f"TLS handshake: record of {size} bytes; at most {MAX_CIPHERTEXT} are allowed"
            )
        return size

    def receive(self, message: bytes) -> bytes:
        """Take the peer's next record; return the records to send back, or b"".

        Raises `HandshakeError` or `IdentityMismatch`.
        """
        self._received += len(message)
        self._records += 1
        if self._received > MAX_HANDSHAKE or self._records > MAX_HANDSHAKE_RECORDS:
            raise HandshakeError(
                f"TLS handshake: the peer sends more than {MAX_HANDSHAKE // 1024} KiB "
                f"or {MAX_HANDSHAKE_RECORDS} records"
            )
        self._connection.bio_write(message)
        if not self._advance():
            return self._drain()
        self.session = self._finish()
        return self._drain() if self._initiator else b""  # the responder's last words would be tickets

    def last_words(self) -> bytes:
        """The alert that says what is wrong with the peer."""
        return self._drain() if self.session is None else b""

    def records(self, keystream: Keystream) -> tuple[RecordSealer, RecordOpener]:
        """What encrypts and decrypts from now on."""
        ours, theirs = "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"
        if not self._initiator:
            ours, theirs = theirs, ours
        suite = SUITES[self._suite]
        sealer = RecordSealer(suite, self.secrets[ours], keystream)
        return sealer, RecordOpener(suite, self.secrets[theirs], sealer)

    # -- what OpenSSL asks for --------------------------------------------------------------------------------------

    def verify(self, certificate: bytes, error: int) -> None:
        """Hold the peer's certificate against what is allowed; what OpenSSL thinks of its issuer does not matter.

        Raises `HandshakeError` or `IdentityMismatch`. Called for each `error` that OpenSSL finds, and at last for none.
        """
        if error in _TOO_WEAK:
            raise HandshakeError(
                "TLS handshake: the peer's certificate is refused: its key or hash is too weak"
            )
        if self._proven is not None:
            return
        proven = proven_identity(certificate, self._now)
        peer_id = PeerId.from_public_key(proven)
        if self._expected is not None and peer_id != self._expected:
            raise IdentityMismatch(f"dialled {self._expected}, but {peer_id} answered")
        self._proven = proven

    def select(self, offered: list[bytes]) -> bytes:
        """The responder's choice: the initiator's first muxer that we have, else what leaves it to multistream-select.

        Raises `HandshakeError` if neither is offered (specs/tls, ALPN).
        """
        names = [name.decode("utf-8", "replace") for name in offered[:_MAX_PROTOCOLS]]
        chosen = next((name for name in names if name in (*self.muxers, ALPN)), None)
        if chosen is None:
            raise HandshakeError(
                f"TLS handshake: the peer speaks only {printable(', '.join(names), 200)} (ALPN)"
            )
        return chosen.encode()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Have OpenSSL go on with what is there; True when the handshake is over."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise HandshakeError(f"TLS handshake: {_describe(error)}") from None
        return True

    def _finish(self) -> SecureSession:
        connection = self._connection
        others = len(connection.get_peer_cert_chain() or ()) - self._initiator
        if others:
            raise HandshakeError(f"TLS handshake: the peer sent {others + 1} certificates; one is allowed")
        self._suite = connection.get_cipher_name() or ""
        alpn = connection.get_alpn_proto_negotiated().decode("utf-8", "replace")
        if self._proven is None or self._suite not in SUITES:
            raise HandshakeError("TLS handshake: the peer proved no identity")
        return SecureSession(
            peer_id=PeerId.from_public_key(self._proven),
            public_key=self._proven,
            muxer=alpn if alpn in self.muxers else None,
        )

    def _drain(self) -> bytes:
        try:
            return self._connection.bio_read(_BIO_SIZE)
        except SSL.WantReadError:
            return b""


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, preverified: int
) -> bool:
    handshake = _handshake_of(connection)
    handshake.verify(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate), error)
    return True


def _select(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    return _handshake_of(connection).select(offered)


def _keep_secret(connection: SSL.Connection, line: bytes) -> None:
    """Keep a line of the key log: LABEL, client random, secret."""
    label, _, secret = line.decode("ascii").split()
    if label.endswith("_TRAFFIC_SECRET_0"):
        _handshake_of(connection).secrets[label] = bytes.fromhex(secret)


def _handshake_of(connection: SSL.Connection) -> TlsHandshake:
    handshake = connection.get_app_data()
    assert isinstance(handshake, TlsHandshake)
    return handshake


def _describe(error: SSL.Error) -> str:
    """OpenSSL's reasons, in its own words."""
    details = error.args[0] if error.args else ()
    reasons = [str(detail[2]) for detail in details if len(detail) == 3]
    return "; ".join(reasons) or "OpenSSL gives no reason"
