"""Signed envelopes: a payload, its type, and the key that vouches for both (spec: libp2p/specs RFC 0002).

The signature covers the domain, which is not in the envelope: what was signed for one purpose cannot be
passed off as something else.
"""

from __future__ import annotations

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.keys import Identity, PublicKey

MAX_ENVELOPE = 16384
"""Longest envelope that is looked at, in bytes; ours hold records of at most 4 KiB."""

_PUBLIC_KEY, _PAYLOAD_TYPE, _PAYLOAD, _SIGNATURE = 1, 2, 3, 5


def seal(identity: Identity, domain: str, payload_type: bytes, payload: bytes) -> bytes:
    """Return the envelope around `payload`, signed by `identity` for `domain`."""
    signature = identity.sign(_signed_bytes(domain, payload_type, payload))
    return _encode(identity.public_key, payload_type, payload, signature)


def open_envelope(
    data: bytes, domain: str, payload_type: bytes, limit: int = MAX_ENVELOPE, *, exact: bool = False
) -> tuple[PublicKey, bytes]:
    """Return the signer and the payload. Whether that signer may say so is the caller's question.

    `exact`: only as `seal` writes it. The signature does not cover how an envelope is written, so whoever passes one on
    could otherwise make any number of others that say the same.
    Raises DecodeError when the envelope is malformed, longer than `limit` bytes, of another type, or its signature is
    not good.
    """
    if len(data) > limit:
        raise DecodeError(f"envelope is longer than {limit} bytes")
    parts: dict[int, bytes] = {}
    for number, _, value in protobuf.fields(data):
        if number in (_PUBLIC_KEY, _PAYLOAD_TYPE, _PAYLOAD, _SIGNATURE):
            if not isinstance(value, bytes):
                raise DecodeError(f"envelope field {number} has the wrong wire type")
            parts[number] = value
    if _PUBLIC_KEY not in parts:
        raise DecodeError("envelope has no public key")
    key = PublicKey.from_protobuf(parts[_PUBLIC_KEY])
    if parts.get(_PAYLOAD_TYPE, b"") != payload_type:
        raise DecodeError(f"envelope is of type {parts.get(_PAYLOAD_TYPE, b'')[:40]!r}, not {payload_type!r}")
    payload = parts.get(_PAYLOAD, b"")
    if not key.verify(parts.get(_SIGNATURE, b""), _signed_bytes(domain, payload_type, payload)):
        raise DecodeError("envelope has a bad signature")
    if exact and data != _encode(key, payload_type, payload, parts[_SIGNATURE]):
        raise DecodeError("envelope is written in another way than its signer does")
    return key, payload


def _encode(key: PublicKey, payload_type: bytes, payload: bytes, signature: bytes) -> bytes:
    return (
        protobuf.blob(_PUBLIC_KEY, key.to_protobuf())
        + protobuf.blob(_PAYLOAD_TYPE, payload_type)
        + protobuf.blob(_PAYLOAD, payload)
        + protobuf.blob(_SIGNATURE, signature)
    )


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    return b"".join(map(protobuf.length_prefixed, (domain.encode(), payload_type, payload)))
