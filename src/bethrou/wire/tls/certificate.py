"""Certificates that prove a libp2p identity (libp2p/specs tls/tls.md, Peer Authentication).

The certificate belongs to a key of its own, and signs itself. An extension carries the public key of the identity and
its signature of the certificate's key; nothing else in the certificate matters. Neither SNI nor names nor authorities
have a part in it.
"""

from __future__ import annotations

import warnings

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from bethrou.errors import DecodeError, HandshakeError
from bethrou.wire.keys import Identity
from bethrou.wire.public_key import PublicKey
from bethrou.wire.tls import der

EXTENSION = "1.3.6.1.4.1.53594.1.1"
"""The libp2p Public Key Extension: SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }."""

SIGNATURE_PREFIX = b"libp2p-tls-handshake:"

_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_COMMON_NAME = "2.5.4.3"
_SERIAL_SIZE = 16
_VALID_FROM, _VALID_UNTIL = b"19750101000000Z", b"40960101000000Z"
"""Rust's: a certificate lives as long as the process, and members' clocks may be anywhere."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
"""Extensions that may be critical besides the libp2p one: they limit what the certificate is good for elsewhere."""


def make_certificate(identity: Identity) -> tuple[EllipticCurvePrivateKey, bytes]:
    """A new key (ECDSA on P-256, which every implementation can verify) and its certificate in DER."""
    key = generate_private_key(SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key, sign_certificate(key, signed_key(identity, public))


def signed_key(identity: Identity, public: bytes) -> bytes:
    """The libp2p extension for a certificate's public key (SubjectPublicKeyInfo in DER)."""
    return der.encode(
        der.SEQUENCE,
        der.encode(der.OCTET_STRING, identity.public_key.to_protobuf()),
        der.encode(der.OCTET_STRING, identity.sign(SIGNATURE_PREFIX + public)),
    )


def sign_certificate(key: EllipticCurvePrivateKey, extension: bytes) -> bytes:
    """A certificate of `key`, signed by itself, with the contents of the libp2p `extension` (RFC 5280, section 4.1)."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(_ECDSA_WITH_SHA256))
    common_name = der.encode(
        der.SEQUENCE, der.encode_oid(_COMMON_NAME), der.encode(der.UTF8_STRING, b"libp2p")
    )
    name = der.encode(der.SEQUENCE, der.encode(der.SET, common_name))
    serial = x509.random_serial_number().to_bytes(20, "big")[-_SERIAL_SIZE:]
    libp2p = der.encode(der.SEQUENCE, der.encode_oid(EXTENSION), der.encode(der.OCTET_STRING, extension))
    to_be_signed = der.encode(
        der.SEQUENCE,
        der.encode(der.explicit(0), der.encode(der.INTEGER, b"\x02")),  # version 3
        der.encode(der.INTEGER, b"\x01" + serial),  # positive, whatever was drawn
        algorithm,
        name,
        der.encode(
            der.SEQUENCE,
            der.encode(der.GENERALIZED_TIME, _VALID_FROM),
            der.encode(der.GENERALIZED_TIME, _VALID_UNTIL),
        ),
        name,
        public,
        der.encode(der.explicit(3), der.encode(der.SEQUENCE, libp2p)),
    )
    signature = key.sign(to_be_signed, ECDSA(SHA256()))
    return der.encode(der.SEQUENCE, to_be_signed, algorithm, der.encode(der.BIT_STRING, b"\x00" + signature))


def proven_identity(certificate: bytes, now: float) -> PublicKey:
    """The identity that a certificate proves, at the time of day `now` (Unix seconds).

    Raises `HandshakeError` with the reason for which it proves none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about numbers that are not positive: nothing depends on them
            found = x509.load_der_x509_certificate(certificate)
        extensions = found.extensions
        begin, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
        public = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise _refused(f"it is malformed: {error}") from None
    if now < begin:
        raise _refused(
            f"it is not valid before {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC (check both clocks)"
        )
    if now > end:
        raise _refused(f"it expired at {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC (check both clocks)")
    _check_own_signature(found)
    extension = _find_extension(extensions)
    key, signature = _read_signed_key(extension)
    if not key.verify(signature, SIGNATURE_PREFIX + public):
        raise _refused("the signature in it does not match its identity")
    return key


def _check_own_signature(certificate: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        raise _refused("it did not sign itself: its own signature is wrong") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refused(f"it did not sign itself: {error}") from None


def _find_extension(extensions: x509.Extensions) -> bytes:
    found: bytes | None = None
    for extension in extensions:
        if extension.oid.dotted_string == EXTENSION:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            found = extension.value.value
        elif extension.critical and extension.oid not in _UNDERSTOOD:
            raise _refused(
                f"it has a critical extension that is not understood ({extension.oid.dotted_string})"
            )
    if found is None:
        raise _refused("it lacks the libp2p extension, so it names no identity")
    return found


def _read_signed_key(extension: bytes) -> tuple[PublicKey, bytes]:
    try:
        body, end = der.decode(der.SEQUENCE, extension)
        key, position = der.decode(der.OCTET_STRING, body)
        signature, last = der.decode(der.OCTET_STRING, body, position)
        if end != len(extension) or last != len(body):
            raise DecodeError("something follows it")
        return PublicKey.from_protobuf(key), signature
    except DecodeError as error:
        raise _refused(f"its libp2p extension is malformed: {error}") from None


def _refused(reason: str) -> HandshakeError:
    return HandshakeError(f"TLS handshake: the peer's certificate is refused: {reason}")
