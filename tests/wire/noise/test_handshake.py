import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import HandshakeError
from bethrou.wire.noise import handshake as module
from bethrou.wire.noise.handshake import XXHandshake, public_bytes

from .recordings import IDS, RECORDINGS, Recording

KEYS = [X25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3, 4)]

_P = 2**255 - 19
LOW_ORDER_POINTS = [number.to_bytes(32, "little") for number in (0, 1, _P - 1, _P, _P + 1)] + [
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
"""The points whose product with any private key is zero (cr.yp.to/ecdh.html, "small order")."""


def pair() -> tuple[XXHandshake, XXHandshake]:
    return XXHandshake(True, KEYS[0], KEYS[1]), XXHandshake(False, KEYS[2], KEYS[3])


def flipped(message: bytes, place: int, bit: int = 1) -> bytes:
    return message[:place] + bytes([message[place] ^ bit]) + message[place + 1 :]


@pytest.mark.parametrize("recording", RECORDINGS, ids=IDS)
def test_recorded_handshakes_bit_by_bit(recording: Recording) -> None:
    ours = XXHandshake(recording.initiator, recording.static(), recording.ephemeral())
    for message in recording.handshake:
        plain, whole = bytes.fromhex(message["plain"]), bytes.fromhex(message["message"])
        if message["dir"] == ">":
            assert ours.write(plain) == whole
        else:
            assert ours.read(whole) == plain
    assert ours.finished
    keys = ours.split()
    assert keys.handshake_hash.hex() == recording.session["keys"]["handshake_hash"]
    assert (keys.send, keys.receive) == (recording.key(">"), recording.key("<"))
    assert ours.remote_static is not None
    assert ours.remote_static.hex() == recording.session["theirs"]["noise_static_public"]


@given(st.tuples(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300)))
def test_both_sides_agree_whatever_the_payloads(payloads: tuple[bytes, bytes, bytes]) -> None:
    initiator, responder = pair()
    assert responder.read(initiator.write(payloads[0])) == payloads[0]
    assert initiator.read(responder.write(payloads[1])) == payloads[1]
    assert responder.read(initiator.write(payloads[2])) == payloads[2]
    assert initiator.remote_static == public_bytes(KEYS[2])
    assert responder.remote_static == public_bytes(KEYS[0])
    here, there = initiator.split(), responder.split()
    assert (here.send, here.receive) == (there.receive, there.send)
    assert here.handshake_hash == there.handshake_hash
    assert here.send != here.receive


def test_a_changed_bit_anywhere_in_message_1_is_noticed_in_message_2() -> None:
    for place in range(32 + 5):
        for bit in (1, 0x80):  # X25519 itself ignores the highest bit of a key; the hash does not
            initiator, responder = pair()
            responder.read(flipped(initiator.write(b"clear"), place, bit))
            with pytest.raises(HandshakeError, match="not encrypted for us"):
                initiator.read(responder.write(b"payload"))


def test_a_changed_bit_anywhere_in_message_2_is_noticed() -> None:
    for place in range(32 + 48 + 7 + 16):
        initiator, responder = pair()
        responder.read(initiator.write(b""))
        message = responder.write(b"payload")
        with pytest.raises(HandshakeError, match="not encrypted for us"):
            initiator.read(flipped(message, place, 0x80))


def test_a_changed_bit_anywhere_in_message_3_is_noticed() -> None:
    for place in range(48 + 7 + 16):
        initiator, responder = pair()
        responder.read(initiator.write(b""))
        initiator.read(responder.write(b""))
        message = initiator.write(b"payload")
        with pytest.raises(HandshakeError, match="not encrypted for us"):
            responder.read(flipped(message, place, 0x80))


def test_messages_cut_short_anywhere() -> None:
    initiator, responder = pair()
    first = initiator.write(b"")
    for size in range(len(first)):
        with pytest.raises(HandshakeError, match="too short"):
            pair()[1].read(first[:size])
    responder.read(first)
    second = responder.write(b"payload")
    for size in range(len(second)):
        fresh, _ = pair()
        fresh.write(b"")
        with pytest.raises(HandshakeError):
            fresh.read(second[:size])
    initiator.read(second)
    third = initiator.write(b"payload")
    for size in range(len(third)):
        fresh, again = pair()
        again.read(fresh.write(b""))
        fresh.read(again.write(b"payload"))
        with pytest.raises(HandshakeError):
            again.read(third[:size])


def test_bytes_behind_a_message_are_noticed() -> None:
    initiator, responder = pair()
    responder.read(initiator.write(b""))
    with pytest.raises(HandshakeError):
        initiator.read(responder.write(b"payload") + b"x")


@pytest.mark.parametrize("point", LOW_ORDER_POINTS, ids=range(len(LOW_ORDER_POINTS)))
@pytest.mark.parametrize("high_bit", [0, 0x80])
def test_low_order_ephemeral_keys(point: bytes, high_bit: int) -> None:
    point = flipped(point, 31, high_bit)
    initiator, responder = pair()
    responder.read(point)
    with pytest.raises(HandshakeError, match="unusable public key"):
        responder.write(b"")
    initiator.write(b"")
    with pytest.raises(HandshakeError, match="unusable public key"):
        initiator.read(point + bytes(48 + 16))


@pytest.mark.parametrize("point", LOW_ORDER_POINTS, ids=range(len(LOW_ORDER_POINTS)))
def test_low_order_static_keys(point: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretending(key: X25519PrivateKey) -> bytes:
        return point if key in (KEYS[0], KEYS[2]) else public_bytes(key)

    monkeypatch.setattr(module, "public_bytes", pretending)
    initiator, responder = pair()
    responder.read(initiator.write(b""))
    with pytest.raises(HandshakeError, match="unusable public key"):
        initiator.read(responder.write(b""))
    monkeypatch.undo()
    initiator, responder = pair()
    responder.read(initiator.write(b""))
    initiator.read(responder.write(b""))
    monkeypatch.setattr(module, "public_bytes", pretending)
    with pytest.raises(HandshakeError, match="unusable public key"):
        responder.read(initiator.write(b""))


def test_messages_out_of_turn() -> None:
    initiator, responder = pair()
    for early in (lambda: initiator.read(bytes(96)), lambda: responder.write(b"")):
        with pytest.raises(HandshakeError, match="out of turn"):
            early()
    first = initiator.write(b"")
    responder.read(first)
    for wrong in (lambda: initiator.write(b""), lambda: responder.read(first)):
        with pytest.raises(HandshakeError, match="out of turn"):
            wrong()
    with pytest.raises(HandshakeError, match="not finished"):
        initiator.split()
    initiator.read(responder.write(b""))
    responder.read(initiator.write(b""))
    for side in (initiator, responder):
        with pytest.raises(HandshakeError, match="out of turn"):
            side.write(b"")
        with pytest.raises(HandshakeError, match="out of turn"):
            side.read(bytes(64))


def test_a_reflected_message_is_refused() -> None:
    # A peer that sends our own message 1 back as if it were an answer.
    initiator, _ = pair()
    first = initiator.write(b"")
    with pytest.raises(HandshakeError):
        initiator.read(first)
    with pytest.raises(HandshakeError):
        initiator.read(first + bytes(64))


def test_keys_are_not_shown() -> None:
    initiator, responder = pair()
    responder.read(initiator.write(b""))
    initiator.read(responder.write(b""))
    responder.read(initiator.write(b""))
    keys = initiator.split()
    for shown in (repr(keys), repr(initiator)):
        assert keys.send.hex() not in shown
        assert repr(keys.send) not in shown
