import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import PeerError
from bethrou.wire.noise.records import LENGTH_SIZE, MAX_CIPHERTEXT, MAX_PLAINTEXT, RecordOpener, RecordSealer
from bethrou.wire.pnet import NONCE_SIZE, Keystream
from bethrou.wire.salsa20_library import Salsa20
from wire.libraries import with_each_library
from wire.support import load

from .recordings import RECORDINGS, Recording

KEY, NETWORK_KEY, NONCE = b"k" * 32, b"n" * 32, b"o" * NONCE_SIZE
TAG = 16

ON_ITS_OWN = [recording for recording in RECORDINGS if "pnet_plain" in recording.session]


def sealer(position: int = 0, salsa20: Salsa20 | None = None) -> RecordSealer:
    keystream = Keystream(NETWORK_KEY, NONCE, salsa20)
    keystream.xor(bytes(position))
    return RecordSealer(KEY, keystream)


def unprotected(wire: bytes, position: int = 0) -> bytes:
    keystream = Keystream(NETWORK_KEY, NONCE)
    keystream.xor(bytes(position))
    return keystream.xor(wire)


@with_each_library
@pytest.mark.parametrize("recording", ON_ITS_OWN, ids=[each.name for each in ON_ITS_OWN])
def test_what_we_sent_comes_out_bit_by_bit(recording: Recording, salsa20: Salsa20) -> None:
    network_key = bytes.fromhex(load(f"{recording.name.partition('.')[0]}.json")["psk"])
    raw = bytes.fromhex("".join(data for way, data in recording.session["raw"] if way == ">"))
    records = recording.records(">")
    size = sum(LENGTH_SIZE + len(plain) + TAG for plain in records)
    keystream = Keystream(network_key, raw[:NONCE_SIZE], salsa20)
    keystream.xor(raw[NONCE_SIZE:-size])
    seal = RecordSealer(recording.key(">"), keystream).seal
    assert b"".join(map(seal, records)) == raw[-size:]


@pytest.mark.parametrize("recording", ON_ITS_OWN, ids=[each.name for each in ON_ITS_OWN])
def test_what_the_peer_sent_is_read(recording: Recording) -> None:
    plain = bytes.fromhex("".join(data for way, data in recording.session["pnet_plain"] if way == "<"))
    records = recording.records("<")
    wire = plain[-sum(LENGTH_SIZE + len(record) + TAG for record in records) :]
    opener, position = RecordOpener(recording.key("<")), 0
    for record in records:
        size = int.from_bytes(wire[position : position + LENGTH_SIZE], "big")
        position += LENGTH_SIZE
        assert opener.open(wire[position : position + size]) == record
        position += size
    assert position == len(wire)


@with_each_library
@given(
    pieces=st.lists(
        st.one_of(st.binary(min_size=1, max_size=200), st.integers(1, MAX_PLAINTEXT)), max_size=6
    ),
    position=st.integers(0, 200),
)
def test_records_of_any_size_at_any_position(
    pieces: list[bytes | int], position: int, salsa20: Salsa20
) -> None:
    seal, opener = sealer(position, salsa20).seal, RecordOpener(KEY)
    for piece in pieces:
        plaintext = piece if isinstance(piece, bytes) else bytes(index % 251 for index in range(piece))
        wire = seal(memoryview(plaintext))
        assert len(wire) == LENGTH_SIZE + len(plaintext) + TAG
        record = unprotected(bytes(wire), position)
        assert int.from_bytes(record[:LENGTH_SIZE], "big") == len(plaintext) + TAG
        assert opener.open(memoryview(record)[LENGTH_SIZE:]) == plaintext
        position += len(wire)


def test_the_largest_record() -> None:
    assert MAX_PLAINTEXT == 65519
    record = unprotected(bytes(sealer().seal(bytes(MAX_PLAINTEXT))))
    assert record[:LENGTH_SIZE] == b"\xff\xff"
    assert len(record) == LENGTH_SIZE + MAX_CIPHERTEXT
    assert RecordOpener(KEY).open(record[LENGTH_SIZE:]) == bytes(MAX_PLAINTEXT)


def test_buffers_that_are_given_away_are_not_used_again() -> None:
    seal, opener = sealer().seal, RecordOpener(KEY)
    first = seal(b"first")
    before = bytes(first)
    second = seal(b"other")
    assert bytes(first) == before
    wire = unprotected(before + bytes(second))
    one = opener.open(wire[LENGTH_SIZE : LENGTH_SIZE + 5 + TAG])
    two = opener.open(wire[-5 - TAG :])
    assert (one, two) == (b"first", b"other")


def test_a_changed_bit_anywhere_is_noticed() -> None:
    record = unprotected(bytes(sealer().seal(b"plaintext")))[LENGTH_SIZE:]
    for place in range(len(record)):
        for bit in range(8):
            opener = RecordOpener(KEY)
            changed = bytearray(record)
            changed[place] ^= 1 << bit
            with pytest.raises(PeerError, match="altered"):
                opener.open(changed)


def test_records_left_out_repeated_or_exchanged_are_noticed() -> None:
    seal = sealer().seal
    wire = unprotected(b"".join(bytes(seal(plain)) for plain in (b"aaaa", b"bbbb", b"cccc")))
    step = LENGTH_SIZE + 4 + TAG
    first, second, third = (wire[i * step + LENGTH_SIZE : (i + 1) * step] for i in range(3))
    for order in ([second], [first, first], [first, third], [first, third, second]):
        opener = RecordOpener(KEY)
        with pytest.raises(PeerError, match="altered"):
            for record in order:
                opener.open(record)


def test_records_cut_short_anywhere() -> None:
    record = unprotected(bytes(sealer().seal(b"plaintext")))[LENGTH_SIZE:]
    for size in range(len(record)):
        with pytest.raises(PeerError, match="too short" if size < TAG else "altered"):
            RecordOpener(KEY).open(record[:size])


def test_an_empty_record_of_a_peer_is_read() -> None:
    # Nobody has a reason to send one, and go and js take it.
    record = unprotected(bytes(sealer().seal(b"")))
    assert record[:LENGTH_SIZE] == b"\x00\x10"
    opener = RecordOpener(KEY)
    assert opener.open(record[LENGTH_SIZE:]) == b""


def test_after_an_altered_record_a_good_one_is_still_the_next() -> None:
    # The counter moves only with records that are genuine; the link ends anyway.
    record = unprotected(bytes(sealer().seal(b"plaintext")))[LENGTH_SIZE:]
    opener = RecordOpener(KEY)
    with pytest.raises(PeerError):
        opener.open(bytes(len(record)))
    assert opener.open(record) == b"plaintext"
