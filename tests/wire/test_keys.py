import contextlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError, KeyFileError
from bethrou.wire import protobuf
from bethrou.wire.keys import Identity, PublicKey

from .support import load

IDENTITIES = load("peer_ids.json")["identities"]
FIRST = IDENTITIES[0]
SEED = bytes.fromhex(FIRST["seed"])


def pem(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.mark.parametrize("vector", IDENTITIES, ids=lambda vector: vector["peer_id"])
def test_identities_of_go(vector: dict[str, str]) -> None:
    identity = Identity.parse(bytes.fromhex(vector["private_key_protobuf"]))
    assert identity.to_protobuf().hex() == vector["private_key_protobuf"]
    assert identity.public_key.raw.hex() == vector["public_key"]
    assert identity.public_key.to_protobuf().hex() == vector["public_key_protobuf"]
    assert str(identity.peer_id) == vector["peer_id"]
    assert Identity.from_seed(bytes.fromhex(vector["seed"])).to_protobuf() == identity.to_protobuf()


@pytest.mark.parametrize("vector", IDENTITIES, ids=lambda vector: vector["peer_id"])
def test_signatures_of_go(vector: dict[str, dict[str, str]]) -> None:
    identity = Identity.from_seed(bytes.fromhex(str(vector["seed"])))
    message = bytes.fromhex(vector["signature"]["message"])
    signature = bytes.fromhex(vector["signature"]["signature"])
    assert identity.sign(message) == signature
    assert identity.public_key.verify(signature, message)


def test_a_signature_over_something_else_is_not_good() -> None:
    identity = Identity.from_seed(SEED)
    signature = identity.sign(b"message")
    assert not identity.public_key.verify(signature, b"messagf")
    assert not identity.public_key.verify(signature[:-1], b"message")
    assert not identity.public_key.verify(b"", b"message")
    assert not Identity.from_seed(bytes(32)).public_key.verify(signature, b"message")


def test_the_old_form_with_the_public_key_twice() -> None:
    public = bytes.fromhex(FIRST["public_key"])
    data = b"\x08\x01\x12\x60" + SEED + public + public
    assert Identity.parse(data).to_protobuf().hex() == FIRST["private_key_protobuf"]


def test_pkcs8_text_as_openssl_writes_it() -> None:
    text = pem(Ed25519PrivateKey.from_private_bytes(SEED))
    assert text.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    for variant in (text, text.replace(b"\n", b"\r\n"), b"\n" + text, b"\xef\xbb\xbf" + text, text.rstrip()):
        assert str(Identity.parse(variant).peer_id) == FIRST["peer_id"]


def test_the_rfc_8410_example() -> None:
    text = (
        b"-----BEGIN PRIVATE KEY-----\n"
        b"MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
        b"-----END PRIVATE KEY-----\n"
    )
    expected = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    assert Identity.parse(text).public_key.raw.hex() == expected


ED25519 = Ed25519PrivateKey.from_private_bytes(SEED)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello\n", "neither a libp2p private key nor PEM"),
        (SEED, "neither a libp2p private key nor PEM"),
        (bytes.fromhex(FIRST["private_key_protobuf"])[:-1], "neither"),
        (bytes.fromhex(FIRST["private_key_protobuf"]) + b"\n", "neither"),
        (b"\x08\x01\x12\x20" + SEED, "64 bytes of data, this one 32"),
        (b"\x08\x01\x12\x40" + SEED + bytes(32), "does not belong"),
        (b"\x08\x01\x12\x60" + SEED + bytes.fromhex(FIRST["public_key"]) + bytes(32), "does not belong"),
        (b"\x08\x00\x12\x20" + SEED, "RSA"),
        (b"\x08\x02\x12\x20" + SEED, "Secp256k1"),
        (b"\x08\x03\x12\x20" + SEED, "ECDSA"),
        (b"\x08\x09\x12\x20" + SEED, "unknown type 9"),
        (b"\x08\x01", "lacks"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "not of type Ed25519"),
        (pem(ec.generate_private_key(ec.SECP256R1()), PrivateFormat.TraditionalOpenSSL), "EC PRIVATE KEY"),
        (pem(ED25519, encryption=BestAvailableEncryption(b"x")), "ENCRYPTED PRIVATE KEY"),
        (pem(ED25519, PrivateFormat.OpenSSH), "OPENSSH PRIVATE KEY"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\n", "cannot be read"),
        (b"x" * 20000, "longer"),
    ],
)
def test_unusable_files_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        Identity.parse(data)


def test_the_secret_is_nowhere_to_be_seen() -> None:
    identity = Identity.from_seed(SEED)
    assert repr(identity) == f"Identity({FIRST['peer_id']})"
    one_line = pem(ED25519, PrivateFormat.OpenSSH).replace(b"\n", b" ")
    with pytest.raises(KeyFileError) as caught:
        Identity.parse(one_line)
    assert "b3BlbnNzaC1rZXk" not in str(caught.value)


def test_generate_uses_the_given_randomness() -> None:
    asked: list[int] = []

    def randbytes(count: int) -> bytes:
        asked.append(count)
        return SEED

    assert str(Identity.generate(randbytes).peer_id) == FIRST["peer_id"]
    assert asked == [32]
    assert Identity.generate(os.urandom).peer_id != Identity.generate(os.urandom).peer_id


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_wrong_sizes_are_a_local_mistake(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Identity.from_seed(bytes(size))
    with pytest.raises(ValueError, match="32 bytes"):
        PublicKey(bytes(size))


@pytest.mark.parametrize(
    ("key_type", "name"), [(0, "RSA"), (2, "Secp256k1"), (3, "ECDSA"), (7, "unknown type 7")]
)
def test_public_keys_of_other_types_are_named(key_type: int, name: str) -> None:
    with pytest.raises(DecodeError, match=name):
        PublicKey.from_protobuf(protobuf.uint(1, key_type) + protobuf.blob(2, bytes(33)))


@pytest.mark.parametrize(
    "data", ["", "0801", "1220" + "00" * 32, "0801121f" + "00" * 31, "08011221" + "00" * 33]
)
def test_malformed_public_keys(data: str) -> None:
    with pytest.raises(DecodeError):
        PublicKey.from_protobuf(bytes.fromhex(data))


def test_fields_in_any_order() -> None:
    key = PublicKey(SEED)
    assert PublicKey.from_protobuf(protobuf.blob(2, SEED) + protobuf.uint(1, 1)) == key


@given(st.binary(max_size=120))
def test_random_files_only_raise_key_file_errors(data: bytes) -> None:
    for candidate in (data, b"\x08\x01\x12" + data, b"-----BEGIN PRIVATE KEY-----\n" + data):
        with contextlib.suppress(KeyFileError):
            Identity.parse(candidate)
