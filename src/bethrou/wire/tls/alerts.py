"""TLS alerts (RFC 8446, section 6 and appendix B.2): how either side says why it ends a session."""

from __future__ import annotations

CLOSE_NOTIFY = 0
UNEXPECTED_MESSAGE = 10
BAD_RECORD_MAC = 20
RECORD_OVERFLOW = 22
BAD_CERTIFICATE = 42
DECODE_ERROR = 50
INTERNAL_ERROR = 80

_NAMES = {
    UNEXPECTED_MESSAGE: "unexpected_message",
    BAD_RECORD_MAC: "bad_record_mac",
    RECORD_OVERFLOW: "record_overflow",
    40: "handshake_failure",
    BAD_CERTIFICATE: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    DECODE_ERROR: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    INTERNAL_ERROR: "internal_error",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}


def describe_alert(code: int) -> str:
    """An alert for people, in the specification's words."""
    return _NAMES.get(code, f"of number {code}")
