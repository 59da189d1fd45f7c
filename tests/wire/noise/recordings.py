"""The recorded Noise sessions, with our side's keys as key pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bethrou.wire.keys import Identity
from wire.support import sessions


@dataclass(frozen=True)
class Recording:
    """One session: who we were, and the messages in order."""

    name: str
    session: dict[str, Any]

    @property
    def initiator(self) -> bool:
        return bool(self.session["role"]["noise"] == "initiator")

    @property
    def early(self) -> bool:
        return bool(self.session["role"]["muxer"] == "early")

    @property
    def identity(self) -> Identity:
        return Identity(bytes.fromhex(self.session["ours"]["identity_seed"]))

    @property
    def muxers(self) -> tuple[str, ...]:
        return ("/yamux/1.0.0",) if self.early else ()

    def static(self) -> X25519PrivateKey:
        return self._key("noise_static_private")

    def ephemeral(self) -> X25519PrivateKey:
        return self._key("noise_ephemeral_private")

    def _key(self, name: str) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.session["ours"][name]))

    @property
    def handshake(self) -> list[dict[str, Any]]:
        return [message for message in self.session["noise"] if message["kind"] != "data"]

    def message(self, kind: str) -> bytes:
        return next(bytes.fromhex(m["message"]) for m in self.handshake if m["kind"] == kind)

    def records(self, direction: str) -> list[bytes]:
        """The plaintext of every transport message of one direction."""
        return [
            bytes.fromhex(message["plain"])
            for message in self.session["noise"]
            if message["kind"] == "data" and message["dir"] == direction
        ]

    def key(self, direction: str) -> bytes:
        ours = "key_initiator_to_responder" if self.initiator else "key_responder_to_initiator"
        theirs = "key_responder_to_initiator" if self.initiator else "key_initiator_to_responder"
        return bytes.fromhex(self.session["keys"][ours if direction == ">" else theirs])


RECORDINGS = [Recording(name, session) for name, session in sessions()]
IDS = [recording.name for recording in RECORDINGS]
