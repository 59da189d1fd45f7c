import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import NegotiationError, UnsupportedProtocol
from bethrou.wire.multistream import HEADER, MAX_LENGTH, MAX_PROPOSALS, Dialer, Listener, frame

from .support import CUTS, byte_by_byte, cut, sessions

NA = b"\x03na\n"
NOISE = "/noise"


def only(*names: str) -> Callable[[str], bool]:
    return lambda name: name in names


def feed(side: Dialer | Listener, chunks: list[bytes]) -> tuple[str | None, bytes]:
    """Feed all chunks; return what was agreed on and everything that was to be sent."""
    agreed, sent = None, side.data_to_send()
    for chunk in chunks:
        agreed = side.receive(chunk)
        sent += side.data_to_send()
    return agreed, sent


def test_frames() -> None:
    assert HEADER == b"\x13/multistream/1.0.0\n"
    assert frame("na") == NA
    assert frame("x" * 200) == b"\xc9\x01" + b"x" * 200 + b"\n"
    assert len(frame("x" * (MAX_LENGTH - 1))) == MAX_LENGTH + 2
    with pytest.raises(ValueError, match="exceeds"):
        frame("x" * MAX_LENGTH)


def test_the_dialer_proposes_in_its_first_write() -> None:
    dialer = Dialer([NOISE])
    assert dialer.data_to_send() == HEADER + b"\x07/noise\n"
    assert dialer.data_to_send() == b""
    assert dialer.receive(HEADER + b"\x07/noise\n") == NOISE
    assert dialer.data_to_send() == b""
    assert dialer.surplus == b""


def test_the_dialer_goes_on_after_na() -> None:
    dialer = Dialer(["/tls/1.0.0", NOISE])
    assert dialer.data_to_send() == HEADER + frame("/tls/1.0.0")
    assert dialer.receive(HEADER + NA) is None
    assert dialer.data_to_send() == frame(NOISE)
    assert dialer.receive(frame(NOISE) + b"next") == NOISE
    assert dialer.surplus == b"next"


def test_the_dialer_gives_up_after_its_last_proposal() -> None:
    dialer = Dialer(["/a", "/b"])
    dialer.receive(HEADER + NA)
    with pytest.raises(UnsupportedProtocol, match="/a, /b"):
        dialer.receive(NA)


def test_the_dialer_refuses_another_answer() -> None:
    with pytest.raises(NegotiationError, match="answered '/other'") as caught:
        Dialer([NOISE]).receive(HEADER + frame("/other"))
    assert not isinstance(caught.value, UnsupportedProtocol)


def test_a_dialer_needs_a_proposal() -> None:
    with pytest.raises(ValueError, match="no protocol"):
        Dialer([])


def test_the_listener_sends_its_header_first() -> None:
    listener = Listener(only(NOISE))
    assert listener.data_to_send() == HEADER
    assert listener.receive(HEADER) is None
    assert listener.receive(frame("/tls/1.0.0")) is None
    assert listener.data_to_send() == NA
    assert listener.receive(frame(NOISE)) == NOISE
    assert listener.data_to_send() == frame(NOISE)


def test_pipelined_proposals_are_answered_in_order() -> None:
    listener = Listener(only("/b", "/c"))
    data = HEADER + frame("/a") + frame("/b") + frame("/c")
    assert feed(listener, [data]) == ("/b", HEADER + NA + frame("/b"))
    # Behind the agreement nothing is a proposal any more.
    assert listener.surplus == frame("/c")


def test_bytes_keep_coming_behind_the_agreement() -> None:
    listener = Listener(only(NOISE))
    assert listener.receive(HEADER + frame(NOISE) + b"one") == NOISE
    assert listener.receive(b"two") == NOISE
    assert listener.surplus == b"onetwo"


def test_there_is_no_surplus_before_the_agreement() -> None:
    listener = Listener(only(NOISE))
    listener.receive(HEADER + b"\x07/no")
    assert listener.surplus == b""


def test_ls_is_answered_na() -> None:
    assert feed(Listener(lambda name: True), [HEADER + frame("ls")]) == (None, HEADER + NA)


def test_the_number_of_proposals_is_bounded() -> None:
    listener = Listener(only(NOISE))
    listener.receive(HEADER + frame("/x") * (MAX_PROPOSALS - 1))
    with pytest.raises(NegotiationError, match=str(MAX_PROPOSALS)):
        listener.receive(frame("/x"))


def test_the_longest_message_passes() -> None:
    name = "/" + "x" * (MAX_LENGTH - 2)
    assert Listener(only(name)).receive(HEADER + frame(name)) == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x13/multistream/2.0.0\n", "does not speak multistream"),
        (b"GET / HTTP/1.1\r\n", "does not speak multistream"),
        (b"\xff", "does not speak multistream"),
        (frame(NOISE), "does not speak multistream"),
        (HEADER + b"\x81\x08", "more than 1024"),
        (HEADER + b"\x80\x80", "more than 1024"),
        (HEADER + b"\x87\x00/noise\n", "more than 1024"),
        (HEADER + b"\x00", "newline"),
        (HEADER + b"\x06/noise", "newline"),
        (HEADER + b"\x03\xff\xfe\n", "no text"),
    ],
)
def test_broken_rules(data: bytes, reason: str) -> None:
    for chunks in ([data], byte_by_byte(data)):
        for side in (Listener(only(NOISE)), Dialer([NOISE])):
            with pytest.raises(NegotiationError, match=reason):
                feed(side, chunks)


def test_random_bytes_of_a_wrong_network_key_fail_at_once() -> None:
    for first in set(range(256)) - {HEADER[0]}:
        with pytest.raises(NegotiationError):
            Listener(only(NOISE)).receive(bytes((first,)))


RECORDED = [
    (f"{name}.{stream['stream']}", stream)
    for name, session in sessions()
    for stream in session["streams"]
    if stream["protocol"] != "/nope/1.0.0"
]


@pytest.mark.parametrize("stream", [stream for _, stream in RECORDED], ids=[name for name, _ in RECORDED])
@pytest.mark.parametrize("split", [lambda data: [data], byte_by_byte], ids=["whole", "bytes"])
def test_recorded_streams(stream: dict[str, str], split: Callable[[bytes], list[bytes]]) -> None:
    protocol = stream["protocol"]
    received, sent = bytes.fromhex(stream["received"]), bytes.fromhex(stream["sent"])
    side = Dialer([protocol]) if stream["opened_by"] == "us" else Listener(only(protocol))
    agreed, written = feed(side, split(received))
    assert agreed == protocol
    assert sent.startswith(written)
    assert side.surplus == received[len(HEADER + frame(protocol)) :]


def test_a_recorded_refusal() -> None:
    stream = next(
        s for _, session in sessions() for s in session["streams"] if s["protocol"] == "/nope/1.0.0"
    )
    dialer = Dialer(["/nope/1.0.0", "/bethrou/ping/1.0.0"])
    agreed, written = feed(dialer, [bytes.fromhex(stream["received"])])
    assert agreed == "/bethrou/ping/1.0.0"
    assert written == bytes.fromhex(stream["sent"])


PROTOCOLS = st.lists(st.text("abc/.", min_size=1, max_size=150), min_size=1, max_size=5, unique=True)


@given(PROTOCOLS, st.binary(max_size=60), CUTS, CUTS)
def test_any_chunking_agrees_on_the_same(
    names: list[str], payload: bytes, cuts: list[int], more: list[int]
) -> None:
    names = ["/" + name for name in names]
    whole, pieces = Listener(only(names[-1])), Listener(only(names[-1]))
    data = HEADER + b"".join(map(frame, names)) + payload
    expected = feed(whole, [data])
    assert feed(pieces, cut(data, cuts)) == expected
    assert pieces.surplus == whole.surplus == payload
    answers = expected[1] + payload
    dialer = Dialer(names)
    assert feed(dialer, cut(answers, more)) == (names[-1], data[: len(data) - len(payload)])
    assert dialer.surplus == payload


@given(st.binary(max_size=80), CUTS, st.booleans())
def test_random_bytes_only_raise_negotiation_errors(data: bytes, cuts: list[int], greeted: bool) -> None:
    for side in (Dialer([NOISE]), Listener(only(NOISE))):
        with contextlib.suppress(NegotiationError):
            feed(side, cut(HEADER * greeted + data, cuts))
