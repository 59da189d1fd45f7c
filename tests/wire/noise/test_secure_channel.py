from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bethrou.errors import HandshakeError, IdentityMismatch
from bethrou.wire import protobuf
from bethrou.wire.keys import Identity
from bethrou.wire.noise.handshake import XXHandshake, public_bytes
from bethrou.wire.noise.secure_channel import SIGNATURE_PREFIX, HandshakePayload, NoiseChannel
from bethrou.wire.peer_id import PeerId

from .recordings import IDS, RECORDINGS, Recording

YAMUX, MPLEX, ODD = "/yamux/1.0.0", "/mplex/6.7.0", "/odd/1.0.0"
ALICE, BOB, EVE = Identity(b"a" * 32), Identity(b"b" * 32), Identity(b"e" * 32)
STATIC = X25519PrivateKey.from_private_bytes(b"s" * 32)
SIGNED = SIGNATURE_PREFIX + public_bytes(STATIC)


def channel(
    identity: Identity,
    initiator: bool,
    expected: PeerId | None = None,
    muxers: Sequence[str] = (YAMUX,),
) -> NoiseChannel:
    return NoiseChannel(identity, initiator=initiator, expected=expected, muxers=muxers)


def shake_hands(initiator: NoiseChannel, responder: NoiseChannel) -> None:
    answer = responder.receive(initiator.start())
    assert answer is not None
    last = initiator.receive(answer)
    assert last is not None
    assert responder.receive(last) is None


class Scripted:
    """A peer that says what it likes in its identity payload. Its static key is `STATIC`."""

    def __init__(self, payload: bytes, initiator: bool) -> None:
        self._handshake = XXHandshake(initiator, STATIC, X25519PrivateKey.generate())
        self._payload = payload

    def against(self, ours: NoiseChannel) -> None:
        """Run the handshake until our side has read the payload."""
        if self._handshake.initiator:
            answer = ours.receive(self._handshake.write(b""))
            assert answer is not None
            self._handshake.read(answer)
            ours.receive(self._handshake.write(self._payload))
        else:
            self._handshake.read(ours.start())
            ours.receive(self._handshake.write(self._payload))


def payload(identity: Identity = BOB, signed: bytes = SIGNED, extensions: bytes = b"") -> bytes:
    return (
        protobuf.blob(1, identity.public_key.to_protobuf())
        + protobuf.blob(2, identity.sign(signed))
        + (protobuf.blob(4, extensions) if extensions else b"")
    )


def lists(*names: str) -> bytes:
    return b"".join(protobuf.blob(2, name.encode()) for name in names)


BOTH_ROLES = pytest.mark.parametrize("initiator", [True, False], ids=["initiator", "responder"])


@pytest.mark.parametrize("recording", RECORDINGS, ids=IDS)
def test_recorded_handshakes_bit_by_bit(recording: Recording) -> None:
    theirs = recording.session["theirs"]
    ours = NoiseChannel(
        recording.identity,
        initiator=recording.initiator,
        expected=PeerId.parse(theirs["peer_id"]) if recording.initiator else None,
        muxers=recording.muxers,
        static=recording.static,
        ephemeral=recording.ephemeral,
    )
    if recording.initiator:
        assert ours.start() == recording.message("msg1")
        assert ours.receive(recording.message("msg2")) == recording.message("msg3")
    else:
        assert ours.receive(recording.message("msg1")) == recording.message("msg2")
        assert ours.session is None
        assert ours.receive(recording.message("msg3")) is None
    session = ours.session
    assert session is not None
    assert str(session.peer_id) == theirs["peer_id"]
    assert session.public_key.raw.hex() == theirs["identity_public"]
    assert session.muxer == (YAMUX if recording.early else None)
    assert ours.keys is not None
    assert (ours.keys.send, ours.keys.receive) == (recording.key(">"), recording.key("<"))


def test_both_sides_learn_who_the_other_is() -> None:
    alice, bob = channel(ALICE, True, BOB.peer_id), channel(BOB, False)
    shake_hands(alice, bob)
    assert alice.session is not None and bob.session is not None
    assert alice.session.peer_id == BOB.peer_id
    assert bob.session.peer_id == ALICE.peer_id
    assert alice.keys is not None
    assert bob.keys is not None
    assert (alice.keys.send, alice.keys.receive) == (bob.keys.receive, bob.keys.send)


def test_every_handshake_has_keys_of_its_own() -> None:
    seen = set()
    for _ in range(3):
        alice, bob = channel(ALICE, True), channel(BOB, False)
        shake_hands(alice, bob)
        assert alice.session is not None
        assert alice.keys is not None
        seen |= {alice.keys.send, alice.keys.receive}
    assert len(seen) == 6


def test_sizes_are_those_of_go() -> None:
    for muxers, second, third in (((YAMUX,), 216, 184), ((), 200, 168)):
        alice, bob = channel(ALICE, True, muxers=muxers), channel(BOB, False, muxers=muxers)
        first = alice.start()
        answer = bob.receive(first)
        assert answer is not None
        last = alice.receive(answer)
        assert last is not None
        assert (len(first), len(answer), len(last)) == (32, second, third)


@pytest.mark.parametrize(
    ("initiators", "responders", "chosen"),
    [
        ([YAMUX], [YAMUX], YAMUX),
        ([YAMUX], [], None),
        ([], [YAMUX], None),
        ([], [], None),
        ([MPLEX], [YAMUX], None),
        # inlined-muxer-negotiation: the initiator's order decides
        ([MPLEX, YAMUX], [YAMUX], YAMUX),
        ([MPLEX, YAMUX], [YAMUX, MPLEX], MPLEX),
        ([YAMUX, MPLEX], [MPLEX, YAMUX], YAMUX),
        ([ODD, YAMUX], [MPLEX, YAMUX, ODD], ODD),
    ],
)
def test_the_early_choice_of_a_muxer(
    initiators: list[str], responders: list[str], chosen: str | None
) -> None:
    alice = channel(ALICE, True, muxers=initiators)
    bob = channel(BOB, False, muxers=responders)
    shake_hands(alice, bob)
    assert alice.session is not None and bob.session is not None
    assert alice.session.muxer == bob.session.muxer == chosen


@BOTH_ROLES
@pytest.mark.parametrize(
    ("extensions", "muxer"),
    [
        (b"", None),
        (protobuf.blob(1, b"certhash"), None),
        (protobuf.blob(1, b"") + lists(YAMUX), YAMUX),  # js: an empty certificate hash beside the muxers
        (lists(""), None),
        (lists("\N{SNOWMAN}" * 100, YAMUX), YAMUX),
        (protobuf.blob(2, b"\xff\xfe") + lists(YAMUX), YAMUX),
        (protobuf.blob(9, b"unknown") + lists(YAMUX), YAMUX),
        (lists(*[ODD] * 31, YAMUX), YAMUX),
    ],
)
def test_lists_of_muxers_as_they_come(initiator: bool, extensions: bytes, muxer: str | None) -> None:
    ours = channel(ALICE, initiator)
    Scripted(payload(extensions=extensions), not initiator).against(ours)
    assert ours.session is not None
    assert ours.session.muxer == muxer


@BOTH_ROLES
def test_unknown_fields_of_the_payload_are_skipped(initiator: bool) -> None:
    ours = channel(ALICE, initiator)
    Scripted(payload() + protobuf.blob(3, b"data of old") + protobuf.blob(77, b"new"), not initiator).against(
        ours
    )
    assert ours.session is not None
    assert ours.session.peer_id == BOB.peer_id


_RSA = protobuf.blob(1, b"\x08\x00\x12\x04\x01\x02\x03\x04") + protobuf.blob(2, bytes(256))
_SECP256K1 = protobuf.blob(1, b"\x08\x02\x12\x21" + bytes(33)) + protobuf.blob(2, bytes(70))
_SHORT_KEY = protobuf.blob(1, b"\x08\x01\x12\x1f" + bytes(31)) + protobuf.blob(2, bytes(64))


@BOTH_ROLES
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (payload(signed=SIGNATURE_PREFIX + bytes(32)), "signature"),
        (payload(signed=public_bytes(STATIC)), "signature"),
        (payload(EVE)[:38] + payload(BOB)[38:], "signature"),
        (payload()[:-1] + b"\x00", "signature"),
        (protobuf.blob(1, BOB.public_key.to_protobuf()) + protobuf.blob(2, b"short"), "signature"),
        (protobuf.blob(1, BOB.public_key.to_protobuf()), "no identity"),
        (protobuf.blob(2, BOB.sign(SIGNED)), "no identity"),
        (b"", "no identity"),
        (_RSA, "RSA"),
        (_SECP256K1, "Secp256k1"),
        (_SHORT_KEY, "32 bytes"),
        (b"\xff" * 10, "malformed"),
        (payload()[:-5], "malformed"),
        (payload() + b"\x22\x7f", "malformed"),
        (payload(extensions=b"\x12\x7f"), "malformed"),
        (payload(extensions=lists(*[ODD] * 33)), "33 muxers"),
    ],
)
def test_payloads_that_prove_nothing(initiator: bool, sent: bytes, reason: str) -> None:
    ours = channel(ALICE, initiator)
    with pytest.raises(HandshakeError, match=reason):
        Scripted(sent, not initiator).against(ours)
    assert ours.session is None


def test_the_initiator_gives_away_nothing_to_another_peer_than_the_dialled_one() -> None:
    alice, eve = channel(ALICE, True, BOB.peer_id), channel(EVE, False)
    answer = eve.receive(alice.start())
    assert answer is not None
    with pytest.raises(IdentityMismatch, match=f"dialled {BOB.peer_id}, but {EVE.peer_id} answered"):
        alice.receive(answer)
    assert alice.session is None


def test_a_responder_may_expect_somebody_too() -> None:
    alice, bob = channel(ALICE, True), channel(BOB, False, EVE.peer_id)
    answer = bob.receive(alice.start())
    assert answer is not None
    last = alice.receive(answer)
    assert last is not None
    with pytest.raises(IdentityMismatch):
        bob.receive(last)


def test_a_signature_of_another_session_is_worth_nothing() -> None:
    # Eve repeats what Bob once signed: the static key in it is not hers.
    recorded = payload(BOB, SIGNATURE_PREFIX + public_bytes(X25519PrivateKey.generate()))
    alice = channel(ALICE, True, BOB.peer_id)
    with pytest.raises(HandshakeError, match="signature"):
        Scripted(recorded, False).against(alice)


def test_a_changed_bit_in_any_message_is_noticed() -> None:
    sizes = (32, 216, 184)
    for number, size in enumerate(sizes):
        for place in range(size):
            alice, bob = channel(ALICE, True), channel(BOB, False)
            with pytest.raises(HandshakeError):
                message: bytes | None = alice.start()
                for turn, side in enumerate((bob, alice, bob)):
                    assert message is not None
                    if turn == number:
                        message = message[:place] + bytes([message[place] ^ 0x10]) + message[place + 1 :]
                    message = side.receive(message)
            assert bob.session is None


def test_messages_behind_the_end_of_the_handshake() -> None:
    alice, bob = channel(ALICE, True), channel(BOB, False)
    shake_hands(alice, bob)
    for side in (alice, bob):
        with pytest.raises(HandshakeError, match="out of turn"):
            side.receive(bytes(200))


def test_the_payload_is_read_as_it_is_written() -> None:
    written = HandshakePayload(BOB.public_key, BOB.sign(SIGNED), (YAMUX, MPLEX))
    assert HandshakePayload.decode(written.encode()) == written
    assert HandshakePayload.decode(payload()).encode() == payload()
