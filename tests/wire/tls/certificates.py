"""Certificates of every kind, good and bad, by cryptography's own builder: nothing here is the product's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bethrou.wire.keys import Identity

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIBP2P = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
EVE = Identity(b"e" * 32)

Key = Any
"""A private key of cryptography's, or what else has a public key."""


def octets(tag: int, body: bytes) -> bytes:
    """A DER value of less than 256 bytes."""
    return bytes((tag, len(body)) if len(body) < 128 else (tag, 0x81, len(body))) + body


def spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def signed_key(identity: Identity, key: Key) -> bytes:
    """What belongs into the libp2p extension."""
    signature = identity.sign(b"libp2p-tls-handshake:" + spki(key))
    return octets(0x30, octets(4, identity.public_key.to_protobuf()) + octets(4, signature))


def p256() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Made:
    """A certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def make(
    identity: Identity = EVE,
    *,
    key: Key = None,
    begin: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
    extension: bytes | None = None,
    critical: bool = False,
    also: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    without: bool = False,
    signer: Key = None,
    issuer: str = "libp2p",
) -> Made:
    """A certificate that proves `identity`, except for what is asked for."""
    key = key or p256()
    name = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in ("libp2p", issuer)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name[0])
        .issuer_name(name[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if not without:
        value = signed_key(identity, key) if extension is None else extension
        builder = builder.add_extension(x509.UnrecognizedExtension(LIBP2P, value), critical)
    for extra, is_critical in also:
        builder = builder.add_extension(extra, is_critical)
    signer = signer or key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    return Made(builder.sign(signer, algorithm), key)


def unknown(size: int = 10) -> x509.ExtensionType:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.53594.9.9"), bytes(size))


def with_broken_signature() -> Made:
    """One bit of its own signature is another one."""
    made = make()
    der = bytearray(made.der)
    der[-1] ^= 1
    return Made(x509.load_der_x509_certificate(bytes(der)), made.key)


def of_another_key_type() -> Made:
    """Its identity is a secp256k1 key (KeyType 2)."""
    key = p256()
    public = b"\x08\x02\x12\x21\x02" + bytes(32)
    return make(key=key, extension=octets(0x30, octets(4, public) + octets(4, bytes(70))))


def _signed_by_another() -> Made:
    key = p256()
    signed = signed_key(EVE, p256())  # the signature is for another certificate's key
    return make(key=key, extension=signed)


def _stolen() -> Made:
    """Somebody else's public key, with a signature of our own."""
    key = p256()
    victim = Identity(b"v" * 32).public_key.to_protobuf()
    signature = EVE.sign(b"libp2p-tls-handshake:" + spki(key))
    return make(key=key, extension=octets(0x30, octets(4, victim) + octets(4, signature)))


def _extended(extra: bytes) -> Made:
    key = p256()
    return make(key=key, extension=signed_key(EVE, key) + extra)


BAD: dict[str, tuple[Callable[[], Made], str]] = {
    "expired": (lambda: make(end=NOW - timedelta(minutes=1)), "it expired at 2026-11-28 11:59 UTC"),
    "not yet valid": (
        lambda: make(begin=NOW + timedelta(minutes=1)),
        "it is not valid before 2026-11-28 12:01",
    ),
    "signed for another key": (_signed_by_another, "the signature in it does not match its identity"),
    "another's identity": (_stolen, "the signature in it does not match its identity"),
    "key of another type": (of_another_key_type, "is of type Secp256k1; only Ed25519 keys are supported"),
    "no extension": (lambda: make(without=True), "it lacks the libp2p extension"),
    "empty extension": (
        lambda: make(extension=b""),
        "its libp2p extension is malformed: DER value ends too early",
    ),
    "extension of text": (lambda: make(extension=b"\x0c\x05hello"), "DER value has tag 0xc instead of 0x30"),
    "half an extension": (
        lambda: make(extension=octets(0x30, octets(4, EVE.public_key.to_protobuf()))),
        "its libp2p extension is malformed: DER value ends too early",
    ),
    "extension with more behind it": (lambda: _extended(b"\x00"), "something follows it"),
    "signed by another": (lambda: make(signer=p256()), "it did not sign itself"),
    "issued by another": (lambda: make(issuer="authority"), "it did not sign itself"),
    "broken signature": (with_broken_signature, "its own signature is wrong"),
    "unknown critical extension": (lambda: make(also=((unknown(), True),)), "1.3.6.1.4.1.53594.9.9"),
}
"""Certificates that prove nothing at `NOW`, and what is said of them."""

GOOD: dict[str, Callable[[], Made]] = {
    "P-256": make,
    "P-384": lambda: make(key=ec.generate_private_key(ec.SECP384R1())),
    "Ed25519": lambda: make(key=ed25519.Ed25519PrivateKey.generate()),
    "RSA": lambda: make(key=rsa.generate_private_key(65537, 2048)),
    "critical": lambda: make(critical=True),
    "with an unknown extension": lambda: make(also=((unknown(), False),)),
    "with usual extensions": lambda: make(
        also=(
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName("example.com")]), False),
        )
    ),
}
"""Certificates that prove `EVE` at `NOW`."""
