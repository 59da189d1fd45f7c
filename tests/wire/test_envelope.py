import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.envelope import MAX_ENVELOPE, open_envelope, seal
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId

from .support import load

ENVELOPES = load("envelopes.json")["envelopes"]
IDS = [f"{index} {envelope['kind']}" for index, envelope in enumerate(ENVELOPES)]
IDENTITY = Identity.from_seed(bytes(range(32)))


def opened(
    envelope: dict[str, Any], domain: str | None = None, kind: bytes | None = None
) -> tuple[PeerId, bytes]:
    key, payload = open_envelope(
        bytes.fromhex(envelope["envelope"]),
        envelope["domain"] if domain is None else domain,
        bytes.fromhex(envelope["payload_type"]) if kind is None else kind,
    )
    return PeerId.from_public_key(key), payload


@pytest.mark.parametrize("envelope", ENVELOPES, ids=IDS)
def test_envelopes_of_go_verify(envelope: dict[str, Any]) -> None:
    signer, payload = opened(envelope)
    fields = envelope["fields"]
    assert str(signer) == fields.get("relay", fields.get("peer_id"))
    if "payload" in envelope:
        assert payload.hex() == envelope["payload"]


@pytest.mark.parametrize("envelope", [e for e in ENVELOPES if "signer_seed" in e], ids=lambda e: e["kind"])
def test_sealing_gives_the_bytes_of_go(envelope: dict[str, str]) -> None:
    identity = Identity.from_seed(bytes.fromhex(envelope["signer_seed"]))
    kind, payload = bytes.fromhex(envelope["payload_type"]), bytes.fromhex(envelope["payload"])
    assert seal(identity, envelope["domain"], kind, payload).hex() == envelope["envelope"]


@pytest.mark.parametrize("envelope", ENVELOPES, ids=IDS)
def test_another_domain_or_type_fails(envelope: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="bad signature"):
        opened(envelope, domain="other")
    with pytest.raises(DecodeError, match="of type"):
        opened(envelope, kind=b"\x03\x03")


@pytest.mark.parametrize("envelope", ENVELOPES, ids=IDS)
def test_any_changed_byte_fails(envelope: dict[str, Any]) -> None:
    data = bytes.fromhex(envelope["envelope"])
    domain, kind = envelope["domain"], bytes.fromhex(envelope["payload_type"])
    for place in range(len(data)):
        changed = data[:place] + bytes((data[place] ^ 0x04,)) + data[place + 1 :]
        with pytest.raises(DecodeError):
            open_envelope(changed, domain, kind)


def test_the_boundary_between_domain_and_payload_is_signed() -> None:
    data = seal(IDENTITY, "domain", b"/type", b"payload")
    with pytest.raises(DecodeError):
        open_envelope(
            data.replace(b"\x12\x05/type\x1a\x07payload", b"\x12\x04/typ\x1a\x08epayload"), "domain", b"/typ"
        )


def test_missing_and_misshapen_fields() -> None:
    data = seal(IDENTITY, "d", b"t", b"p")
    with pytest.raises(DecodeError, match="no public key"):
        open_envelope(b"", "d", b"t")
    with pytest.raises(DecodeError, match="bad signature"):
        open_envelope(data[: data.rindex(b"\x2a\x40")], "d", b"t")
    with pytest.raises(DecodeError, match="wire type"):
        open_envelope(data + protobuf.uint(3, 1), "d", b"t")
    with pytest.raises(DecodeError, match="longer"):
        open_envelope(bytes(MAX_ENVELOPE + 1), "d", b"t")


def test_unknown_fields_are_ignored() -> None:
    data = protobuf.uint(4, 1) + seal(IDENTITY, "d", b"t", b"p") + protobuf.blob(9, b"x")
    assert open_envelope(data, "d", b"t") == (IDENTITY.public_key, b"p")


@given(st.text(max_size=20), st.binary(max_size=10), st.binary(max_size=100))
def test_round_trip(domain: str, kind: bytes, payload: bytes) -> None:
    assert open_envelope(seal(IDENTITY, domain, kind, payload), domain, kind) == (
        IDENTITY.public_key,
        payload,
    )


@given(st.binary(max_size=100))
def test_random_bytes_only_raise_decode_errors(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        open_envelope(data, "d", b"t")
