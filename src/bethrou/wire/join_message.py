"""The messages of `/bethrou/join/1.0.0`: a device redeems an invite at a node.

Each is uv(length) || one JSON object. The device sends `{"grant","redemption"}` (base64 of the envelopes, grant.py);
the node answers `{"status":"ok","admission":base64}` or `{"status":"error","code":C,"message":M}`.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire.grant import MAX_ADMISSION, MAX_GRANT, MAX_REDEMPTION
from bethrou.wire.json_reader import encode_prefixed, text_field

PROTOCOL = "/bethrou/join/1.0.0"

MAX_MESSAGE = 8192
"""Longest message in bytes."""


class Refusal(Enum):
    """Why an invite is not redeemed."""

    EXPIRED = "expired"
    USED = "used"
    """Another device has joined with it."""
    REMOVED = "removed"
    """The operator has removed this device, or withdrawn the invite."""
    FOREIGN = "foreign"
    """Another operator, or another network."""
    INVALID = "invalid"
    """The messages make no sense."""
    UNABLE = "unable"
    """This node cannot remember that an invite is used; another one may."""


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """The device's message."""

    grant: bytes
    redemption: bytes

    def encode(self) -> bytes:
        """Return the message with its length."""
        fields = {"grant": to_base64(self.grant), "redemption": to_base64(self.redemption)}
        return encode_prefixed(fields, MAX_MESSAGE)

    @classmethod
    def decode(cls, message: dict[str, Any]) -> JoinRequest:
        """Read the object. Raises DecodeError."""
        return cls(
            from_base64(message, "grant", MAX_GRANT), from_base64(message, "redemption", MAX_REDEMPTION)
        )


def encode_admission(envelope: bytes) -> bytes:
    """Return the node's message that the device is in."""
    return encode_prefixed({"status": "ok", "admission": to_base64(envelope)}, MAX_MESSAGE)


def encode_refusal(refusal: Refusal, message: str) -> bytes:
    """Return the node's message that it is not; `message` is for people."""
    return encode_prefixed({"status": "error", "code": refusal.value, "message": message}, MAX_MESSAGE)


def decode_answer(message: dict[str, Any]) -> bytes | tuple[Refusal, str]:
    """Read the node's answer: an admission's envelope, or why there is none. Raises DecodeError."""
    status = text_field(message, "status")
    if status == "ok":
        return from_base64(message, "admission", MAX_ADMISSION)
    if status != "error":
        raise DecodeError("answer to an invite has no status that is known")
    code = text_field(message, "code")
    known = next((refusal for refusal in Refusal if refusal.value == code), Refusal.UNABLE)
    return known, text_field(message, "message")


def to_base64(data: bytes) -> str:
    """Return base64 (RFC 4648, section 4) with padding."""
    return binascii.b2a_base64(data, newline=False).decode()


def from_base64(message: dict[str, Any], key: str, limit: int) -> bytes:
    """Return the bytes of a field; at most `limit`. Raises DecodeError when they are missing, too."""
    text = text_field(message, key)
    if not text or len(text) > limit * 4 // 3 + 4:
        raise DecodeError(f"JSON field {key!r} is missing or too long")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise DecodeError(f"JSON field {key!r} is no base64") from error
