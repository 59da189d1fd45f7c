import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire.announcement import (
    MAX_ADDRESSES,
    MAX_MESSAGE,
    MAX_SEQ,
    MAX_TTL,
    PRESENCE_TTL_FACTOR,
    AnnouncementKeys,
    Answer,
    Gone,
    Presence,
    Request,
    UnknownAnnouncement,
    decode,
    encode_answer,
    encode_gone,
    encode_presence,
    encode_request,
    presence_interval,
)
from bethrou.wire.envelope import MAX_ENVELOPE
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord
from bethrou.wire.psk import NetworkKey

from .hchacha20 import hchacha20

NETWORK_KEY = NetworkKey(bytes(range(32)))
KEYS = AnnouncementKeys(NETWORK_KEY)
STRANGER = AnnouncementKeys(NetworkKey(bytes(32)))
IDENTITY = Identity.from_seed(bytes(range(32)))
PEER = IDENTITY.peer_id
ID = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
OTHER = Identity.from_seed(bytes(32)).peer_id
ADDRESS = Multiaddr.parse("/ip4/8.8.8.8/tcp/4001")
CIRCUIT = Multiaddr.parse(f"/ip4/8.8.4.4/tcp/4001/p2p/{OTHER}/p2p-circuit")
RECORD = NodeRecord(PEER, 7, 1900000000, (ADDRESS,)).seal(IDENTITY)
RECORD64 = base64.b64encode(RECORD).decode()
NONCE = bytes(range(100, 124))

REQUEST = encode_request("client-reply-1", KEYS)
ANSWER = encode_answer(PEER, (ADDRESS, CIRCUIT), RECORD, KEYS)
PRESENCE = encode_presence(PEER, 5, 45.0, RECORD, KEYS)
GONE = encode_gone(PEER, 6, 45.0, RECORD, KEYS)
SEALED = encode_presence(PEER, 5, 45.0, RECORD, KEYS, True, NONCE)


def hkdf(info: bytes) -> bytes:
    """RFC 5869 for one block: extract with a salt of zeros, expand."""
    extracted = hmac.new(bytes(32), bytes(range(32)), hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def mac(text: str) -> str:
    return base64.b64encode(
        hmac.new(hkdf(b"bethrou announce v1"), text.encode("utf-8", "replace"), hashlib.sha256).digest()
    ).decode()


def box(message: bytes, nonce: bytes = NONCE) -> str:
    """draft-irtf-cfrg-xchacha-03, 2.3: XChaCha20-Poly1305 by way of HChaCha20."""
    key = hchacha20(hkdf(b"bethrou sealed v1"), nonce[:16])
    ciphertext = ChaCha20Poly1305(key).encrypt(bytes(4) + nonce[16:], message, None)
    return base64.b64encode(nonce + ciphertext).decode()


def sealed(message: bytes) -> bytes:
    return json.dumps({"action": "sealed", "v": 1, "box": box(message)}).encode()


def proved(**changed: Any) -> bytes:
    """A presence with a MAC that is right for what it says."""
    fields = {"action": "presence", "v": 1, "id": ID, "seq": 5, "ttl": 45, "record": RECORD64} | changed
    text = "|".join(str(fields[key]) for key in ("action", "id", "seq", "ttl", "record"))
    return json.dumps({"mac": mac(text)} | fields).encode()


# -- the bytes -----------------------------------------------------------------------------------------------


def test_the_request_is_that_of_go() -> None:
    assert REQUEST == b'{"action":"discover","reply":"client-reply-1"}'


def test_the_answer_is_that_of_go_and_has_the_record() -> None:
    assert (
        encode_answer(PEER, (ADDRESS, CIRCUIT), None, KEYS)
        == (
            f'{{"id":"{ID}","addrs":["/ip4/8.8.8.8/tcp/4001/p2p/{ID}",'
            f'"/ip4/8.8.4.4/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{ID}"]}}'
        ).encode()
    )
    assert json.loads(ANSWER)["record"] == RECORD64


def test_the_presence_is_as_documented() -> None:
    expected = mac(f"presence|{ID}|5|45|{RECORD64}")
    text = f'"id":"{ID}","seq":5,"ttl":45,"record":"{RECORD64}","mac":"{expected}"'
    assert PRESENCE.decode() == f'{{"action":"presence","v":1,{text}}}'


def test_the_goodbye_is_as_documented() -> None:
    message = json.loads(GONE)
    assert message["mac"] == mac(f"gone|{ID}|6|45|{RECORD64}")
    assert list(message) == ["action", "v", "id", "seq", "ttl", "record", "mac"]


@pytest.mark.parametrize(
    "message", [REQUEST, ANSWER, PRESENCE, GONE], ids=["request", "answer", "presence", "gone"]
)
def test_the_box_is_as_documented(message: bytes) -> None:
    assert decode(sealed(message), KEYS) == replace(decode(message, KEYS), sealed=True)


def test_our_box_is_the_documented_one() -> None:
    assert SEALED.decode() == f'{{"action":"sealed","v":1,"box":"{box(PRESENCE)}"}}'


def test_the_reference_for_boxes_is_right() -> None:
    """draft-irtf-cfrg-xchacha-03, 2.2.1."""
    found = hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927"))
    assert found.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


def test_no_key_shows() -> None:
    shown = repr(KEYS)
    assert NETWORK_KEY.fingerprint in shown
    for secret in (hkdf(b"bethrou announce v1"), hkdf(b"bethrou sealed v1"), NETWORK_KEY.raw):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


# -- reading -------------------------------------------------------------------------------------------------


def test_what_was_written_is_read() -> None:
    assert decode(REQUEST, KEYS) == Request("client-reply-1")
    assert decode(ANSWER, KEYS) == Answer(PEER, (ADDRESS, CIRCUIT), RECORD)
    assert decode(PRESENCE, KEYS) == Presence(PEER, 5, 45.0, RECORD)
    assert decode(GONE, KEYS) == Gone(PEER, 6, 45.0, RECORD)
    assert decode(SEALED, KEYS) == Presence(PEER, 5, 45.0, RECORD, sealed=True)


@pytest.mark.parametrize(
    "message",
    [
        '{"action":"discover","reply":"client-reply-1700000000000000000"}',
        '{"reply":"client-reply-1700000000000000000"}',
        '{"action":"","reply":"client-reply-1700000000000000000"}',
        '{"action":null,"reply":"client-reply-1700000000000000000","new":[{}]}',
        '{"Action":"discover","REPLY":"client-reply-1700000000000000000"}',
        '{"reply":"x","Reply":"client-reply-1700000000000000000"}',
        f'{{"reply":"client-reply-1700000000000000000","id":"{ID}","addrs":[]}}',
    ],
)
def test_requests_as_go_takes_them(message: str) -> None:
    assert decode(message.encode(), KEYS) == Request("client-reply-1700000000000000000")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"action": "discover"},
        {"action": "discover", "id": ID, "addrs": [str(ADDRESS)]},
        {"action": "discover", "reply": ""},
        {"action": "discover", "reply": "  "},
        {"action": "discover", "reply": None},
        {"action": "discover", "reply": 5},
        {"action": 5, "reply": "x"},
        {"action": ["discover"], "reply": "x"},
        {"reply": "a" * 257},
        {"reply": "a\nb"},
        {"reply": "a\x00b"},
        {"reply": "\x1b[2J"},
        {"reply": "\u202eabc"},
        {"reply": "\ud800"},
    ],
    ids=repr,
)
def test_requests_that_nobody_can_answer(message: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode(json.dumps(message).encode(), KEYS)


def test_the_longest_channel() -> None:
    assert decode(encode_request("a" * 256, KEYS), KEYS) == Request("a" * 256)


@pytest.mark.parametrize("reply", ["", " ", "a" * 257, "a\nb", "\ud800"])
def test_no_request_without_a_usable_channel(reply: str) -> None:
    with pytest.raises(ValueError, match="reply channel"):
        encode_request(reply, KEYS)


def answer(**changed: Any) -> bytes:
    return json.dumps({"id": ID, "addrs": [f"{ADDRESS}/p2p/{ID}"]} | changed).encode()


def test_answers_as_go_sends_them() -> None:
    expected = Answer(PEER, (ADDRESS,), None)
    assert decode(answer(), KEYS) == expected
    assert decode(answer(record=None, new=1), KEYS) == expected
    assert decode(answer(record=""), KEYS) == expected
    assert decode(answer().replace(b'"id"', b'"ID"').replace(b'"addrs"', b'"Addrs"'), KEYS) == expected


def test_addresses_of_somebody_else_and_nonsense_are_left_out() -> None:
    addresses = [
        f"/ip4/8.8.4.4/tcp/1/p2p/{OTHER}",
        "nonsense",
        5,
        None,
        [],
        f"{ADDRESS}/p2p/{ID}",
        str(ADDRESS),
    ]
    assert decode(answer(addrs=addresses), KEYS) == Answer(PEER, (ADDRESS,), None)
    assert decode(answer(addrs=addresses[:1], record=RECORD64), KEYS) == Answer(PEER, (), RECORD)


def test_no_more_than_128_addresses_are_looked_at() -> None:
    addresses = [f"/ip4/8.8.8.8/tcp/{port}" for port in range(1, 2000)]
    message = decode(answer(addrs=addresses), KEYS)
    assert isinstance(message, Answer)
    assert message.addrs == tuple(map(Multiaddr.parse, addresses[:MAX_ADDRESSES]))
    with pytest.raises(DecodeError, match="no address"):
        decode(answer(addrs=[5] * MAX_ADDRESSES + addresses[:1]), KEYS)
    same = decode(answer(addrs=[f"{ADDRESS}/p2p/{ID}"] * 500), KEYS)
    assert same == Answer(PEER, (ADDRESS,), None)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": ""},
        {"id": None},
        {"id": 5},
        {"id": "1" * 5000},
        {"id": str(OTHER)},
        {"addrs": None},
        {"addrs": []},
        {"addrs": {}},
        {"addrs": "/ip4/8.8.8.8/tcp/4001"},
        {"addrs": ["/p2p-webrtc-star"]},
        {"addrs": [f"/ip4/8.8.8.8/tcp/{port}" for port in range(10_000)]},
        {"record": 5},
        {"record": "not base64"},
        {"record": "YQ"},
        {"record": "A" * (MAX_ENVELOPE // 3 * 4 + 8)},
    ],
    ids=lambda changed: repr(changed)[:50],
)
def test_answers_that_say_nothing(changed: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode(answer(**changed), KEYS)


def test_no_answer_that_would_end_a_go_clients_search() -> None:
    with pytest.raises(ValueError, match="without addresses"):
        encode_answer(PEER, (), RECORD, KEYS)
    with pytest.raises(ValueError, match="of the peer"):
        encode_answer(PEER, (ADDRESS, ADDRESS.with_peer(OTHER)), RECORD, KEYS)
    assert encode_answer(PEER, (ADDRESS.with_peer(PEER),), None, KEYS) == encode_answer(
        PEER, (ADDRESS,), None, KEYS
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"mac": ""},
        {"mac": None},
        {"mac": 5},
        {"mac": mac("presence")},
        {"mac": mac(f"gone|{ID}|5|45|{RECORD64}")},
        {"mac": mac(f"presence|{ID}|5|45|{RECORD64}")[:-4]},
        {"mac": "A" * 10_000},
        {"id": str(OTHER), "mac": json.loads(PRESENCE)["mac"]},
        {"seq": 6, "mac": json.loads(PRESENCE)["mac"]},
        {"ttl": 46, "mac": json.loads(PRESENCE)["mac"]},
        {"action": "gone", "mac": json.loads(PRESENCE)["mac"]},
        {"record": RECORD64[:-4], "mac": json.loads(PRESENCE)["mac"]},
        {"seq": -1},
        {"seq": 5.0},
        {"seq": True},
        {"seq": "5"},
        {"seq": None},
        {"seq": MAX_SEQ + 1},
        {"ttl": -1},
        {"ttl": 45.5},
        {"ttl": MAX_TTL + 1},
        {"id": "12D3KooW"},
        {"id": ""},
        {"id": "\ud800"},
        {"record": ""},
        {"record": "="},
        {"record": "A" * (MAX_ENVELOPE // 3 * 4 + 8)},
    ],
    ids=lambda changed: repr(changed)[:50],
)
def test_presences_that_are_none(changed: dict[str, Any]) -> None:
    assert decode(proved(), KEYS) == decode(PRESENCE, KEYS)
    with pytest.raises(DecodeError) as caught:
        decode(proved(**changed), KEYS)
    assert not isinstance(caught.value, UnknownAnnouncement)


def test_a_stranger_proves_nothing_and_opens_nothing() -> None:
    for message in (PRESENCE, GONE, SEALED):
        with pytest.raises(DecodeError, match="not of a member"):
            decode(message, STRANGER)


@pytest.mark.parametrize(
    "message",
    [
        {"action": "farewell"},
        {"action": "DISCOVER", "reply": "x"},
        json.loads(PRESENCE) | {"v": 2},
        json.loads(PRESENCE) | {"v": None},
        json.loads(PRESENCE) | {"v": True},
        json.loads(PRESENCE) | {"v": [1]},
        json.loads(SEALED) | {"v": 2},
    ],
    ids=lambda message: repr(message)[:40],
)
def test_what_a_later_version_says_is_told_apart_from_damage(message: dict[str, Any]) -> None:
    with pytest.raises(UnknownAnnouncement):
        decode(json.dumps(message).encode(), KEYS)
    with pytest.raises(UnknownAnnouncement):
        decode(sealed(json.dumps({"action": "farewell"}).encode()), KEYS)


def test_a_box_in_a_box() -> None:
    with pytest.raises(DecodeError, match="twice"):
        decode(sealed(SEALED), KEYS)


@pytest.mark.parametrize(
    "content", ["", "YQ==", "YQ", base64.b64encode(bytes(39)).decode(), 5, None, [], "A" * 40_000]
)
def test_boxes_that_are_none(content: object) -> None:
    with pytest.raises(DecodeError):
        decode(json.dumps({"action": "sealed", "v": 1, "box": content}).encode(), KEYS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"reply":"x"',
        b'{"reply":"x"}{}',
        b'{"reply":NaN}',
        b'{"reply":"x","n":' + b"1" * 5000 + b"}",
        b'{"reply":"x","a":' + b"[" * 17 + b"]" * 17 + b"}",
        b"[" * MAX_MESSAGE,
        b'{"a":' * (MAX_MESSAGE // 5),
        b'{"reply":"x"}' + b" " * MAX_MESSAGE,
        b'{"reply":"' + b"x" * (8 << 20) + b'"}',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_message_at_all(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data, KEYS)


@pytest.mark.timeout(10)
def test_no_text_takes_long_to_read() -> None:
    brackets, escapes = b"[" * 20, b'\\"' * ((MAX_MESSAGE - 30) // 2)
    for data in (brackets + b'"' + escapes, brackets + b'"' + escapes + b'"', brackets + escapes):
        with pytest.raises(DecodeError):
            decode(data, KEYS)


@pytest.mark.parametrize("data", [PRESENCE, GONE, SEALED], ids=["presence", "gone", "sealed"])
def test_every_cut_and_every_damaged_byte_is_noticed(data: bytes) -> None:
    original = decode(data, KEYS)
    for place in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:place], KEYS)
        for bit in (0x01, 0x20, 0x80):
            # Another case of a key changes nothing, so that the message may still be what it was, but nothing else.
            damaged = data[:place] + bytes((data[place] ^ bit,)) + data[place + 1 :]
            with contextlib.suppress(DecodeError):
                assert decode(damaged, KEYS) == original


@pytest.mark.parametrize("data", [REQUEST, ANSWER], ids=["request", "answer"])
def test_damage_to_what_is_not_proved_only_raises_decode_errors(data: bytes) -> None:
    for place in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:place], KEYS)
        for bit in (0x01, 0x20, 0x80):
            with contextlib.suppress(DecodeError):
                decode(data[:place] + bytes((data[place] ^ bit,)) + data[place + 1 :], KEYS)


# -- writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [encode_presence, encode_gone])
def test_what_nobody_reads_is_not_written(encode: Callable[..., bytes]) -> None:
    for seq, ttl in ((-1, 1.0), (MAX_SEQ + 1, 1.0), (1, -0.5), (1, MAX_TTL + 1), (1, float("nan"))):
        with pytest.raises(ValueError, match="seq of 0 to"):
            encode(PEER, seq, ttl, RECORD, KEYS)
    with pytest.raises(ValueError, match="node record"):
        encode(PEER, 1, 1.0, b"", KEYS)
    with pytest.raises(ValueError, match="16384 bytes"):
        encode(PEER, 1, 1.0, bytes(MAX_ENVELOPE + 1), KEYS)


def test_a_ttl_is_rounded_up() -> None:
    message = decode(encode_presence(PEER, 1, 44.1, RECORD, KEYS), KEYS)
    assert message == Presence(PEER, 1, 45.0, RECORD)


def test_the_longest_messages_can_be_read() -> None:
    record = bytes(range(256)) * (MAX_ENVELOPE // 256)
    data = encode_presence(PEER, MAX_SEQ, MAX_TTL, record, KEYS, True, NONCE)
    assert decode(data, KEYS) == Presence(PEER, MAX_SEQ, MAX_TTL, record, True)
    long = [Multiaddr.parse(f"/dns4/{'a' * 200}.example/tcp/{port}") for port in range(1, 300)]
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        encode_answer(PEER, long, None, KEYS)


@pytest.mark.parametrize("nonce", [b"", bytes(12), bytes(25)])
def test_a_box_needs_its_nonce(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="24 random bytes"):
        encode_request("x", KEYS, True, nonce)


SEALS = st.none() | st.binary(min_size=24, max_size=24)


@given(
    st.sampled_from([encode_presence, encode_gone]), st.integers(0, MAX_SEQ), st.integers(0, MAX_TTL), SEALS
)
def test_presence_round_trip(encode: Callable[..., bytes], seq: int, ttl: int, seal: bytes | None) -> None:
    data = encode(PEER, seq, ttl, RECORD, KEYS, seal is not None, seal or b"")
    kind = Presence if encode is encode_presence else Gone
    assert decode(data, KEYS) == kind(PEER, seq, ttl, RECORD, seal is not None)


@given(
    st.lists(st.integers(1, 65535), min_size=1, max_size=MAX_ADDRESSES, unique=True),
    st.none() | st.binary(min_size=1, max_size=500),
    SEALS,
)
def test_answer_round_trip(ports: list[int], record: bytes | None, seal: bytes | None) -> None:
    addresses = tuple(Multiaddr.tcp("2001:db8::1", port) for port in ports)
    data = encode_answer(PEER, addresses, record, KEYS, seal is not None, seal or b"")
    assert decode(data, KEYS) == Answer(PEER, addresses, record, seal is not None)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(ID)
    | st.just(RECORD64),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["reply", "id", "addrs", "record", "v", "seq", "ttl", "mac", "box", "ID"])


@given(st.sampled_from(["", "discover", "presence", "gone", "sealed"]), st.dictionaries(NAMES, VALUES))
def test_random_messages_only_raise_decode_errors(action: str, message: dict[str, Any]) -> None:
    data = json.dumps({"action": action} | message).encode()
    for variant in (data, sealed(data)):
        with contextlib.suppress(DecodeError):
            decode(variant, KEYS)


# -- arithmetic ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "seconds"), [(0, 15.0), (1, 15.0), (500, 15.0), (501, 15.03), (4096, 122.88)]
)
def test_the_interval_grows_with_the_network(known: int, seconds: float) -> None:
    assert presence_interval(known) == pytest.approx(seconds)
    assert presence_interval(known) * PRESENCE_TTL_FACTOR < MAX_TTL
