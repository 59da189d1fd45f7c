"""The handshake in memory: ours against ours, and against OpenSSL with whatever certificates."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from OpenSSL import SSL

from bethrou.errors import HandshakeError, IdentityMismatch
from bethrou.wire.keys import Identity
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import Keystream
from bethrou.wire.secure_channel import Handshake, SecureSession
from bethrou.wire.tls.handshake import MAX_HANDSHAKE, TlsHandshake
from bethrou.wire.tls.records import MAX_CIPHERTEXT
from bethrou.wire.tls.security import Tls

from .certificates import BAD, EVE, GOOD, NOW, Made, make, unknown
from .openssl_peer import YAMUX, OpenSslPeer, records

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
BOTH_ROLES = pytest.mark.parametrize("initiator", [True, False], ids=["dialer", "listener"])


def tls(identity: Identity = ALICE, fast_aes: bool = True) -> Tls:
    return Tls(identity, lambda: int(NOW.timestamp() * 1e9), fast_aes)


def handshake(
    initiator: bool, expected: PeerId | None = None, muxers: Sequence[str] = (YAMUX,), ours: Tls | None = None
) -> TlsHandshake:
    return (ours or tls()).handshake(initiator=initiator, expected=expected, muxers=muxers)


def take(side: Handshake, data: bytes) -> bytes:
    """What a side of ours answers to the records in `data`, as the upgrade reads them."""
    answer = b""
    for record in records(data):
        if side.session is not None:
            break  # what follows is for the link
        assert side.body_size(record[:5]) == len(record) - 5
        answer += side.receive(record)
    return answer


def shake_hands(dialer: Handshake, listener: Handshake) -> tuple[SecureSession, SecureSession]:
    to_listener = dialer.start()
    while dialer.session is None or listener.session is None:
        to_dialer = take(listener, to_listener)
        to_listener = take(dialer, to_dialer)
        assert to_dialer or to_listener or listener.session is not None, "nobody has anything to say"
    return dialer.session, listener.session


def meet(ours: TlsHandshake, peer: OpenSslPeer) -> tuple[bytes, bytes]:
    """Run the handshake with OpenSSL to the end of both. The last that we said, and what the peer said behind it."""
    said = ours.start() if ours._initiator else take(ours, peer.start())
    heard = b""
    while not peer.done or ours.session is None:
        heard = peer.receive(said)
        said = take(ours, heard)
        assert heard or said or ours.session is not None, "nobody has anything to say"
    return said, heard if ours._initiator else b""


def test_both_sides_learn_who_the_other_is() -> None:
    dialer, listener = handshake(True, BOB.peer_id), handshake(False, ours=tls(BOB))
    first, second = shake_hands(dialer, listener)
    assert (first.peer_id, first.public_key) == (BOB.peer_id, BOB.public_key)
    assert (second.peer_id, second.public_key) == (ALICE.peer_id, ALICE.public_key)
    assert first.muxer == second.muxer == YAMUX
    assert dialer.secrets["CLIENT_TRAFFIC_SECRET_0"] == listener.secrets["CLIENT_TRAFFIC_SECRET_0"]
    assert dialer.secrets["SERVER_TRAFFIC_SECRET_0"] == listener.secrets["SERVER_TRAFFIC_SECRET_0"]


def test_no_secret_is_in_a_text() -> None:
    dialer, listener = handshake(True), handshake(False)
    shake_hands(dialer, listener)
    texts = [
        repr(each) for each in (dialer, dialer.session, *dialer.records(Keystream(bytes(32), bytes(24))))
    ]
    for secret in dialer.secrets.values():
        assert not any(secret.hex() in text or repr(secret) in text for text in texts)


@pytest.mark.parametrize(
    ("dialers", "listeners", "chosen"),
    [
        ([YAMUX], [YAMUX], YAMUX),
        (["/odd/1.0.0", YAMUX], [YAMUX], YAMUX),
        ([YAMUX, "/odd/1.0.0"], ["/odd/1.0.0", YAMUX], YAMUX),
        (["/odd/1.0.0"], [YAMUX], None),
        ([], [YAMUX], None),
        ([YAMUX], [], None),
    ],
)
def test_the_choice_of_the_muxer(dialers: list[str], listeners: list[str], chosen: str | None) -> None:
    for session in shake_hands(handshake(True, muxers=dialers), handshake(False, muxers=listeners)):
        assert session.muxer == chosen


@BOTH_ROLES
@pytest.mark.parametrize("name", GOOD)
def test_a_peer_with_a_good_certificate(name: str, initiator: bool) -> None:
    ours = handshake(initiator, EVE.peer_id)
    meet(ours, OpenSslPeer(not initiator, GOOD[name]()))
    assert ours.session is not None
    assert (ours.session.peer_id, ours.session.muxer) == (EVE.peer_id, YAMUX)


@BOTH_ROLES
@pytest.mark.parametrize("name", BAD)
def test_a_peer_with_a_bad_certificate_is_told_so(name: str, initiator: bool) -> None:
    made, reason = BAD[name]
    ours, peer = handshake(initiator), OpenSslPeer(not initiator, made())
    with pytest.raises(HandshakeError) as caught:
        meet(ours, peer)
    assert reason in str(caught.value)
    assert ours.session is None
    words = ours.last_words()
    assert words
    with pytest.raises(SSL.Error, match="alert"):
        peer.open(words) if peer.done else peer.receive(words)


@BOTH_ROLES
def test_another_peer_than_the_expected_one(initiator: bool) -> None:
    ours, peer = handshake(initiator, BOB.peer_id), OpenSslPeer(not initiator, make(EVE))
    with pytest.raises(IdentityMismatch, match=f"dialled {BOB.peer_id}, but {EVE.peer_id} answered"):
        meet(ours, peer)
    if initiator:
        assert not peer.done
        assert peer.connection.get_peer_certificate() is None  # it has not learned who asked


@BOTH_ROLES
def test_two_certificates(initiator: bool) -> None:
    ours = handshake(initiator)
    with pytest.raises(HandshakeError, match="the peer sent 2 certificates; one is allowed"):
        meet(ours, OpenSslPeer(not initiator, make(), more=[make(BOB)]))
    assert ours.session is None


def test_a_dialer_without_a_certificate() -> None:
    ours = handshake(False)
    with pytest.raises(HandshakeError, match="peer did not return a certificate"):
        meet(ours, OpenSslPeer(True, anonymous=True))


@BOTH_ROLES
def test_an_oversized_certificate(initiator: bool) -> None:
    big = make(also=((unknown(40_000), False),))
    with pytest.raises(HandshakeError, match="more than 32 KiB"):
        meet(handshake(initiator), OpenSslPeer(not initiator, big))


@BOTH_ROLES
def test_a_large_certificate_in_many_records(initiator: bool) -> None:
    ours = handshake(initiator)
    meet(ours, OpenSslPeer(not initiator, make(also=((unknown(20_000), False),))))
    assert ours.session is not None


@BOTH_ROLES
def test_older_versions_are_refused(initiator: bool) -> None:
    ours, peer = handshake(initiator), OpenSslPeer(not initiator, version=SSL.TLS1_2_VERSION)
    with pytest.raises((HandshakeError, SSL.Error), match=r"version|protocol"):
        meet(ours, peer)
    assert ours.session is None


def test_other_protocols_than_ours() -> None:
    ours = handshake(False)
    with pytest.raises(HandshakeError, match=r"the peer speaks only h2, http/1\.1 \(ALPN\)"):
        meet(ours, OpenSslPeer(True, make(), alpn=["h2", "http/1.1"]))
    assert ours.last_words()


@BOTH_ROLES
def test_a_peer_that_knows_no_muxers_and_one_that_has_no_alpn(initiator: bool) -> None:
    for alpn in (["libp2p"], []):
        ours = handshake(initiator)
        meet(ours, OpenSslPeer(not initiator, make(), alpn=alpn))
        assert ours.session is not None
        assert ours.session.muxer is None


@BOTH_ROLES
def test_no_name_is_sent(initiator: bool) -> None:
    """specs/tls, Future Extensibility: no SNI."""
    if initiator:
        peer = OpenSslPeer(False)
        meet(handshake(True), peer)
        assert peer.connection.get_servername() is None
    else:
        peer = OpenSslPeer(True)
        peer.connection.set_tlsext_host_name(b"example.com")  # to be ignored
        ours = handshake(False)
        meet(ours, peer)
        assert ours.session is not None


@pytest.mark.parametrize(
    ("dialer_fast", "listener_fast", "suite"),
    [
        (True, True, "AES_128_GCM"),
        (False, True, "CHACHA20"),
        (True, False, "CHACHA20"),
        (False, False, "CHACHA20"),
    ],
)
def test_chacha20_where_either_side_has_no_instructions_for_aes(
    dialer_fast: bool, listener_fast: bool, suite: str
) -> None:
    dialer = handshake(True, ours=tls(fast_aes=dialer_fast))
    listener = handshake(False, ours=tls(fast_aes=listener_fast))
    shake_hands(dialer, listener)
    assert suite in dialer._suite
    assert dialer._suite == listener._suite


def test_a_listener_sends_no_session_tickets() -> None:
    peer, ours = OpenSslPeer(True), handshake(False)
    assert meet(ours, peer) == (b"", b"")
    sealer, _ = ours.records(Keystream(bytes(32), bytes(24)))
    sent = Keystream(bytes(32), bytes(24)).xor(bytes(sealer.seal(b"first words")))
    assert peer.open(sent) == b"first words"  # numbered 0: no ticket has gone before


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff"]
)
@BOTH_ROLES
def test_what_is_no_record(initiator: bool, data: bytes) -> None:
    ours = handshake(initiator)
    if initiator:
        ours.start()
    with pytest.raises(HandshakeError, match=r"no TLS record|at most"):
        ours.body_size(data[:5])


@BOTH_ROLES
def test_records_of_nonsense(initiator: bool) -> None:
    for kind in (20, 21, 22, 23):
        ours = handshake(initiator)
        if initiator:
            ours.start()
        with pytest.raises(HandshakeError):
            for _ in range(200):
                ours.receive(bytes((kind, 3, 3, 0, 40)) + bytes(range(40)))


@BOTH_ROLES
def test_a_handshake_without_end(initiator: bool) -> None:
    """A message of 16 MiB in small records: given up long before."""
    ours = handshake(initiator)
    if initiator:
        ours.start()
    sent = 0
    with pytest.raises(HandshakeError):
        for _ in range(1000):
            record = (
                b"\x16\x03\x03\x10\x00"
                + (b"\x01\xff\xff\xff" if not sent else b"")
                + bytes(4096 - 4 * (not sent))
            )
            sent += len(record)
            ours.receive(record)
    assert sent <= MAX_HANDSHAKE + MAX_CIPHERTEXT


def test_damaged_at_any_place_no_session_comes_of_it() -> None:
    """Both sides sign what they have heard and said."""
    size = len(handshake(True).start())
    for place in range(0, size, 13):
        dialer, listener = handshake(True), handshake(False)
        damaged = bytearray(dialer.start())
        damaged[place % len(damaged)] ^= 0x41
        with pytest.raises(HandshakeError):
            if listener.body_size(bytes(damaged[:5])) != len(damaged) - 5:
                raise HandshakeError("the listener waits for more, or would read on behind it")
            take(dialer, listener.receive(bytes(damaged)))
            pytest.fail("no alert")
        assert dialer.session is None


def test_a_certificate_that_openssl_calls_too_weak() -> None:
    with pytest.raises(HandshakeError, match="too weak"):
        handshake(True).verify(Made(make().certificate, None).der, 66)
