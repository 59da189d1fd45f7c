"""TLS 1.3 as one of the securities that an upgrade may agree on (wire/secure_channel.py).

OpenSSL (pyOpenSSL) is loaded by the first handshake: 3 MB and 30 ms that a program without TLS links does without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId

if TYPE_CHECKING:
    from bethrou.wire.tls.handshake import TlsHandshake, TlsIdentity

PROTOCOL_ID = "/tls/1.0.0"


class Tls:
    """TLS for all links of `identity`. `time_ns` is the time of day in Unix nanoseconds, for certificates.

    `fast_aes` says whether the processor has instructions for AES.
    """

    protocol_id = PROTOCOL_ID
    name = "tls"
    title = "TLS"

    def __init__(self, identity: Identity, time_ns: Callable[[], int], fast_aes: bool = True) -> None:
        self._identity = identity
        self._fast_aes = fast_aes
        self._time_ns = time_ns
        self._presented: TlsIdentity | None = None

    def handshake(self, *, initiator: bool, expected: PeerId | None, muxers: Sequence[str]) -> TlsHandshake:
        """Begin a handshake. The certificate is the same for all."""
        from bethrou.wire.tls.handshake import TlsHandshake, TlsIdentity

        if self._presented is None:
            self._presented = TlsIdentity(self._identity, self._fast_aes)
        return TlsHandshake(
            self._presented,
            initiator=initiator,
            expected=expected,
            muxers=muxers,
            now=self._time_ns() / 1e9,
        )

    def under(self, identity: Identity) -> Tls:
        """TLS for another identity."""
        return Tls(identity, self._time_ns, self._fast_aes)
