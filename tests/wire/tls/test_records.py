"""Records: against OpenSSL's own, and against peers that break the rules."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from bethrou.errors import LinkLost, PeerError, TlsError
from bethrou.wire.pnet import Keystream
from bethrou.wire.secure_channel import MAX_PLAINTEXT
from bethrou.wire.tls import records as records_module
from bethrou.wire.tls.records import (
    HEADER_SIZE,
    MAX_CIPHERTEXT,
    MAX_CONTENT,
    MAX_IDLE_RECORDS,
    MAX_KEY_UPDATES,
    SUITES,
    RecordOpener,
    RecordSealer,
    TrafficKey,
)
from wire.support import CUTS, cut

from .openssl_peer import OpenSslPeer, records
from .test_handshake import handshake, meet

SUITE = SUITES["TLS_AES_128_GCM_SHA256"]
SECRET, OTHER = b"s" * 32, b"o" * 32
KEY, NONCE = b"k" * 32, b"n" * 24
ALERT, MESSAGE, DATA = 21, 22, 23
TICKET = b"\x04" + (40).to_bytes(3, "big") + bytes(40)
KEY_UPDATE, KEY_UPDATE_REQUEST = b"\x18\x00\x00\x01\x00", b"\x18\x00\x00\x01\x01"
CLOSE_NOTIFY = b"\x01\x00"

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


class Peer:
    """Makes records of any type, as no honest peer does. Its key is our opener's."""

    def __init__(self) -> None:
        self.key = TrafficKey(SUITE, SECRET)

    def record(
        self, content: bytes, kind: int = DATA, padding: int = 0, header: bytes = b"\x17\x03\x03"
    ) -> bytes:
        inner = content + bytes((kind,)) + bytes(padding)
        header += (len(inner) + 16).to_bytes(2, "big")
        sealed = bytearray(len(inner) + 16)
        self.key.encrypt_into(inner, header, memoryview(sealed))
        return header + bytes(sealed)

    def update(self, request: bool = False) -> bytes:
        record = self.record(KEY_UPDATE_REQUEST if request else KEY_UPDATE, MESSAGE)
        self.key.update()
        return record


class Ours:
    """Our two directions; what we send is read without pnet."""

    def __init__(self) -> None:
        self.sealer = RecordSealer(SUITE, OTHER, Keystream(KEY, NONCE))
        self.opener = RecordOpener(SUITE, SECRET, self.sealer)
        self._taken_off = Keystream(KEY, NONCE)
        self._key = TrafficKey(SUITE, OTHER)

    def read(self, data: bytes) -> list[bytes]:
        """All plaintexts of whole records, as the link reads them."""
        found, position, view = [], 0, memoryview(data)
        while True:
            plaintext, position = self.opener.read(view, position, len(data))
            if plaintext is None:
                assert len(data) - position < HEADER_SIZE + MAX_CIPHERTEXT
                return found
            found.append(bytes(plaintext))

    def sent(self, wire: bytes | memoryview) -> list[tuple[int, bytes]]:
        """The content types and contents of records that we sent; a key update is obeyed."""
        found = []
        for record in records(self._taken_off.xor(bytes(wire))):
            plain = bytearray(len(record) - HEADER_SIZE - 16)
            view = memoryview(record)
            self._key.decrypt_into(view[HEADER_SIZE:], view[:HEADER_SIZE], memoryview(plain))
            found.append((plain[-1], bytes(plain[:-1])))
            if found[-1] == (MESSAGE, KEY_UPDATE):
                self._key.update()
        return found


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def ours() -> Ours:
    return Ours()


@pytest.mark.parametrize("size", [1, 100, MAX_CONTENT, MAX_CONTENT + 1, MAX_PLAINTEXT])
@pytest.mark.parametrize("initiator", [True, False])
@pytest.mark.parametrize("suite", SUITES)
def test_openssl_reads_what_we_write_and_we_what_it_writes(suite: str, initiator: bool, size: int) -> None:
    side, other = handshake(initiator), OpenSslPeer(not initiator, suites=suite.encode())
    _, tickets = meet(side, other)
    sealer, opener = side.records(Keystream(KEY, NONCE))
    without_pnet = Keystream(KEY, NONCE)
    assert len(records(tickets)) == (2 if initiator else 0)
    assert _read_all(opener, tickets) == b""
    for seed in range(3):
        plaintext = bytes((seed + place) % 256 for place in range(size))
        wire = without_pnet.xor(bytes(sealer.seal(memoryview(plaintext))))
        assert all(len(record) <= HEADER_SIZE + MAX_CONTENT + 17 for record in records(wire))
        assert other.open(wire) == plaintext
        assert _read_all(opener, other.seal(plaintext)) == plaintext
    with pytest.raises(SSL.ZeroReturnError):
        other.open(without_pnet.xor(sealer.farewell()))


def _read_all(opener: RecordOpener, data: bytes) -> bytes:
    found, position = b"", 0
    while True:
        plaintext, position = opener.read(memoryview(data), position, len(data))
        if plaintext is None:
            assert position == len(data)
            return found
        found += plaintext


def test_openssl_says_goodbye() -> None:
    side, other = handshake(True), OpenSslPeer(False)
    _, tickets = meet(side, other)
    _, opener = side.records(Keystream(KEY, NONCE))
    other.connection.shutdown()
    with pytest.raises(LinkLost, match="the peer closed the connection"):
        _read_all(opener, tickets + other.output())


@given(st.lists(st.integers(1, 3 * MAX_CONTENT), max_size=5), CUTS)
def test_however_it_is_cut(sizes: list[int], cuts: list[int]) -> None:
    ours, peer = Ours(), Peer()
    sent = [os.urandom(size) for size in sizes]
    wire = b"".join(
        peer.record(data[start : start + MAX_CONTENT])
        for data in sent
        for start in range(0, len(data), MAX_CONTENT)
    )
    received, rest = b"", b""
    for piece in cut(wire, cuts):
        rest += piece
        position = 0
        while True:
            plaintext, position = ours.opener.read(memoryview(rest), position, len(rest))
            if plaintext is None:
                break
            received += plaintext
        rest = rest[position:]
    assert (received, rest) == (b"".join(sent), b"")


def test_several_records_come_as_one_plaintext(ours: Ours, peer: Peer) -> None:
    wire = b"".join(peer.record(bytes((number,)) * 1000) for number in range(10))
    assert ours.read(wire) == [
        b"".join(bytes((number,)) * 1000 for number in numbers)
        for numbers in (range(4), range(4, 8), range(8, 10))
    ]


def test_padding_is_taken_off(ours: Ours, peer: Peer) -> None:
    wire = peer.record(b"padded\x00\x17\x00", padding=1000) + peer.record(b"next")
    assert b"".join(ours.read(wire)) == b"padded\x00\x17\x00next"


def test_an_altered_record(peer: Peer) -> None:
    record = peer.record(b"plaintext")
    for place in (*range(HEADER_SIZE, len(record)), 1, 2):
        damaged = bytearray(record)
        damaged[place] ^= 1
        with pytest.raises(TlsError, match="wrong authentication tag") as caught:
            Ours().read(bytes(damaged))
        assert caught.value.alert == 20


def test_what_came_before_an_altered_record_is_read_first(ours: Ours, peer: Peer) -> None:
    wire = memoryview(peer.record(b"good") + peer.record(b"bad")[:-1] + b"\x00")
    plaintext, position = ours.opener.read(wire, 0, len(wire))
    assert plaintext == b"good"
    with pytest.raises(TlsError, match="wrong authentication tag"):
        ours.opener.read(wire, position, len(wire))


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (lambda peer: peer.record(CLOSE_NOTIFY, ALERT), LinkLost),
        (lambda peer: peer.record(b"\x02\x28", ALERT), LinkLost),
        (lambda peer: b"\x17\x03\x03\xff\xff", TlsError),
        (lambda peer: b"\x16\x03\x03\x00\x20", TlsError),
        (lambda peer: peer.record(b"", MESSAGE), None),
    ],
)
def test_data_in_front_of_the_end_is_not_lost(ours: Ours, peer: Peer, last, error) -> None:  # type: ignore[no-untyped-def]
    wire = memoryview(peer.record(b"a") + peer.record(b"b") + last(peer))
    plaintext, position = ours.opener.read(wire, 0, len(wire))
    assert plaintext == b"ab"
    if error is None:
        assert ours.opener.read(wire, position, len(wire)) == (None, len(wire))
    else:
        with pytest.raises(error):
            ours.opener.read(wire, position, len(wire))


def test_repeated_and_reordered_records(peer: Peer) -> None:
    first, second = peer.record(b"first"), peer.record(b"second")
    for wire in (first + first, second + first, second):
        with pytest.raises(TlsError, match="wrong authentication tag"):
            Ours().read(wire)


@pytest.mark.parametrize(
    ("make", "reason", "alert"),
    [
        (lambda peer: b"\x17\x03\x03\x41\x01" + bytes(MAX_CIPHERTEXT + 1), "record of 16641 bytes", 22),
        (lambda peer: b"\x17\x03\x03\x00\x10" + bytes(16), "too short", 50),
        (lambda peer: b"\x17\x03\x03\x00\x00", "too short", 50),
        (lambda peer: b"\x14\x03\x03\x00\x01\x01", "type 20 instead of an encrypted one", 10),
        (lambda peer: b"\x15\x03\x03\x00\x02\x02\x28", "type 21 instead of an encrypted one", 10),
        (lambda peer: peer.record(bytes(MAX_CONTENT + 1)), "16385 bytes of content", 22),
        (lambda peer: peer.record(b"", 0, 100), "without content", 10),
        (lambda peer: peer.record(b"x", 20), "record of type 20", 10),
        (lambda peer: peer.record(b"x", 99), "record of type 99", 10),
        (lambda peer: peer.record(b"\x02", ALERT), "malformed TLS alert", 50),
        (lambda peer: peer.record(b"\x02\x28\x00", ALERT), "malformed TLS alert", 50),
        (
            lambda peer: peer.record(b"\x01\x00\x00\x00", MESSAGE),
            "message of type 1 behind the handshake",
            10,
        ),
        (lambda peer: peer.record(b"\x0d\x00\x00\x02\x00\x00", MESSAGE), "message of type 13", 10),
        (lambda peer: peer.record(TICKET[:-1], MESSAGE), "cut by the end of a record", 50),
        (lambda peer: peer.record(b"\x18\x00", MESSAGE), "cut by the end of a record", 50),
        (lambda peer: peer.record(b"\x18\x00\x00\x01\x02", MESSAGE), "malformed TLS key update", 50),
        (lambda peer: peer.record(b"\x18\x00\x00\x00", MESSAGE), "malformed TLS key update", 50),
        (lambda peer: peer.record(KEY_UPDATE + TICKET, MESSAGE), "something behind it", 10),
    ],
)
def test_rules_of_tls(ours: Ours, peer: Peer, make, reason: str, alert: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TlsError, match=reason) as caught:
        ours.read(make(peer))
    assert caught.value.alert == alert
    assert ours.sent(ours.sealer.farewell(caught.value)) == [(ALERT, bytes((2, alert)))]


def test_alerts_of_the_peer_are_named(peer: Peer) -> None:
    assert isinstance(_ending(peer, b"\x02\x2a"), LinkLost)
    for number, name in ((42, "bad_certificate"), (20, "bad_record_mac"), (200, "of number 200")):
        assert name in str(_ending(Peer(), bytes((2, number))))


def _ending(peer: Peer, alert: bytes) -> LinkLost:
    with pytest.raises(LinkLost) as caught:
        Ours().read(peer.record(alert, ALERT))
    return caught.value


def test_our_farewell(ours: Ours) -> None:
    assert ours.sent(ours.sealer.farewell()) == [(ALERT, CLOSE_NOTIFY)]
    assert ours.sealer.farewell(LinkLost("the peer closed the connection")) == b""
    assert ours.sent(ours.sealer.farewell(PeerError("of another layer"))) == [(ALERT, b"\x02\x50")]


def test_session_tickets_are_passed_over(ours: Ours, peer: Peer) -> None:
    wire = peer.record(TICKET + TICKET, MESSAGE) + peer.record(b"data") + peer.record(TICKET, MESSAGE)
    assert ours.read(wire + peer.record(b"more")) == [b"data", b"more"]


@pytest.mark.parametrize("record", [lambda peer: peer.record(b""), lambda peer: peer.record(TICKET, MESSAGE)])
def test_records_without_data_are_counted(ours: Ours, peer: Peer, record) -> None:  # type: ignore[no-untyped-def]
    for _ in range(3):
        assert ours.read(b"".join(record(peer) for _ in range(MAX_IDLE_RECORDS))) == []
        assert ours.read(peer.record(b"data")) == [b"data"]
    with pytest.raises(TlsError, match="in a row without data"):
        ours.read(b"".join(record(peer) for _ in range(MAX_IDLE_RECORDS + 1)))


def test_the_peer_may_change_its_key(ours: Ours, peer: Peer) -> None:
    wire = (
        peer.record(b"a")
        + peer.update()
        + peer.record(b"b")
        + peer.update()
        + peer.update()
        + peer.record(b"c")
    )
    assert b"".join(ours.read(wire)) == b"abc"
    assert ours.sent(ours.sealer.seal(b"unmoved")) == [(DATA, b"unmoved")]


def test_the_peer_may_ask_for_another_key_of_ours(ours: Ours, peer: Peer) -> None:
    assert ours.sent(ours.sealer.seal(b"before")) == [(DATA, b"before")]
    assert ours.read(peer.update(request=True) + peer.update(request=True) + peer.record(b"x")) == [b"x"]
    # RFC 8446, section 4.6.3: one answer for all, in front of our next data
    assert ours.sent(ours.sealer.seal(b"after")) == [(MESSAGE, KEY_UPDATE), (DATA, b"after")]
    assert ours.sent(ours.sealer.seal(b"later")) == [(DATA, b"later")]


def test_a_flood_of_key_updates(ours: Ours, peer: Peer) -> None:
    for _ in range(MAX_KEY_UPDATES):
        assert ours.read(peer.update(request=True) + peer.record(b".")) == [b"."]
    with pytest.raises(TlsError, match="33 TLS key updates for 32 bytes"):
        ours.read(peer.update() + peer.record(b"."))


def test_key_updates_for_much_data(ours: Ours, peer: Peer) -> None:
    for _ in range(MAX_KEY_UPDATES + 10):
        assert sum(map(len, ours.read(peer.update()))) == 0
        for _ in range(64):
            assert len(ours.read(peer.record(bytes(MAX_CONTENT)))[0]) == MAX_CONTENT


def test_we_change_our_key_in_time(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "RECORDS_PER_KEY", 5)
    kinds = [kind for _ in range(12) for kind, _ in ours.sent(ours.sealer.seal(b"data"))]
    assert kinds == [*[DATA] * 5, MESSAGE, *[DATA] * 5, MESSAGE, *[DATA] * 2]


@pytest.mark.parametrize("initiator", [True, False])
def test_openssl_follows_our_key_update(initiator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    side, other = handshake(initiator), OpenSslPeer(not initiator)
    meet(side, other)
    sealer, _ = side.records(Keystream(KEY, NONCE))
    without_pnet = Keystream(KEY, NONCE)
    monkeypatch.setattr(records_module, "RECORDS_PER_KEY", 3)
    for number in range(10):
        plaintext = bytes((number,)) * 1000
        assert other.open(without_pnet.xor(bytes(sealer.seal(plaintext)))) == plaintext


def test_the_traffic_secrets_of_rfc_8448() -> None:
    """Section 3: the server's application traffic key, and its key update is that of section 7.2."""
    secret = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
    key = TrafficKey(SUITE, secret)
    assert key._iv.to_bytes(12, "big").hex() == "cf782b88dd83549aadf1e984"
    sealed = memoryview(bytearray(4 + 1 + 16))
    key.encrypt_into(b"test\x17", b"\x17\x03\x03\x00\x15", sealed)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(bytes.fromhex("9f02283b6c9c07efc26bb9f2ac92e356"))
    nonce = bytes.fromhex("cf782b88dd83549aadf1e984")
    assert cipher.encrypt(nonce, b"test\x17", b"\x17\x03\x03\x00\x15") == bytes(sealed)


@given(st.binary(max_size=200))
def test_noise_is_no_record(data: bytes) -> None:
    with contextlib.suppress(TlsError):
        assert Ours().read(data) == []
