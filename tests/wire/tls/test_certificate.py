import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError, HandshakeError
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId
from bethrou.wire.tls import der
from bethrou.wire.tls.certificate import make_certificate, proven_identity
from wire.support import load

from .certificates import BAD, EVE, GOOD, LIBP2P, NOW, spki

VECTORS = {each["title"]: each for each in load("tls_certificates.json")["certificates"]}
ALICE = Identity(b"a" * 32)


def test_the_specifications_ed25519_certificate() -> None:
    vector = VECTORS["Valid certificate authenticating an ED25519 Peer ID"]
    key = proven_identity(bytes.fromhex(vector["certificate"]), NOW.timestamp())
    assert str(PeerId.from_public_key(key)) == vector["peer_id"]


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Valid certificate authenticating an ECDSA Peer ID", "ECDSA"),
        ("Valid certificate authenticating a secp256k1 Peer ID", "Secp256k1"),
        ("Invalid certificate", "ECDSA"),
    ],
)
def test_the_specifications_certificates_of_identities_that_are_not_spoken(title: str, kind: str) -> None:
    """Members have Ed25519 identities; who has another one is told so (wire/public_key.py)."""
    with pytest.raises(HandshakeError, match=f"of type {kind}; only Ed25519 keys are supported"):
        proven_identity(bytes.fromhex(VECTORS[title]["certificate"]), NOW.timestamp())


def test_the_specifications_certificate_is_held_against_the_clock() -> None:
    vector = bytes.fromhex(VECTORS["Valid certificate authenticating an ED25519 Peer ID"]["certificate"])
    found = x509.load_der_x509_certificate(vector)
    begin, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    for now in (begin, end):
        proven_identity(vector, now)
    for now, words in ((begin - 1, "not valid before 1975"), (end + 1, "expired at 4096")):
        with pytest.raises(HandshakeError, match=words):
            proven_identity(vector, now)


@pytest.mark.parametrize("name", GOOD)
def test_certificates_that_prove_an_identity(name: str) -> None:
    assert proven_identity(GOOD[name]().der, NOW.timestamp()) == EVE.public_key


@pytest.mark.parametrize("name", BAD)
def test_certificates_that_prove_none(name: str) -> None:
    made, reason = BAD[name]
    with pytest.raises(HandshakeError) as caught:
        proven_identity(made().der, NOW.timestamp())
    assert reason in str(caught.value)
    assert str(caught.value).startswith("TLS handshake: the peer's certificate is refused: ")


def test_our_own_certificate() -> None:
    key, made = make_certificate(ALICE)
    found = x509.load_der_x509_certificate(made)  # cryptography's parser is strict
    assert found.version is x509.Version.v3
    assert found.serial_number > 0
    assert found.subject == found.issuer
    assert found.public_key() == key.public_key()
    found.verify_directly_issued_by(found)
    [extension] = found.extensions
    assert (extension.oid, extension.critical) == (LIBP2P, False)
    assert (found.not_valid_before_utc.year, found.not_valid_after_utc.year) == (1975, 4096)
    assert proven_identity(made, NOW.timestamp()) == ALICE.public_key


def test_every_certificate_has_a_key_and_a_number_of_its_own() -> None:
    made = [x509.load_der_x509_certificate(make_certificate(ALICE)[1]) for _ in range(20)]
    assert len({each.serial_number for each in made}) == 20
    assert len({spki(each) for each in made}) == 20


@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        proven_identity(data, NOW.timestamp())


_GENUINE = GOOD["P-256"]().der


@given(st.integers(0, len(_GENUINE) - 1), st.integers(1, 255))
def test_no_byte_may_be_another_one(place: int, change: int) -> None:
    altered = bytearray(_GENUINE)
    altered[place] ^= change
    with pytest.raises(HandshakeError):
        proven_identity(bytes(altered), NOW.timestamp())


@given(st.integers(0, len(_GENUINE) - 1))
def test_nothing_may_be_missing(size: int) -> None:
    with pytest.raises(HandshakeError):
        proven_identity(_GENUINE[:size], NOW.timestamp())


# -- DER -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535])
def test_der_lengths(size: int) -> None:
    encoded = der.encode(der.OCTET_STRING, bytes(size))
    assert der.decode(der.OCTET_STRING, encoded + b"rest") == (bytes(size), len(encoded))


def test_der_of_a_known_identifier() -> None:
    assert der.encode_oid("1.3.6.1.4.1.53594.1.1").hex() == "060a2b0601040183a25a0101"


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "04",
        "0401",
        "0480",
        "04810100",
        "048101",
        "0482000141",
        "04830000014100",
        "0500",
        "04ff",
        "0482ffff",
    ],
)
def test_bad_der(encoded: str) -> None:
    with pytest.raises(DecodeError):
        der.decode(der.OCTET_STRING, bytes.fromhex(encoded))
