"""The session as transcripts: what the peer sends, and what that means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import MuxerError
from bethrou.wire.yamux.frame import (
    ACK,
    DATA,
    FIN,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    header,
)
from bethrou.wire.yamux.session import Seen, Session, StreamCore
from bethrou.wire.yamux.state import State
from bethrou.wire.yamux.window import BUDGET, WindowBudget
from wire.support import CUTS, byte_by_byte, cut, sessions

from .frames import credit, data, fin, go_away, opening, ping, pong, reset

MIB = 1024 * 1024


class Playbook:
    """A session and its peer. `peer(...)` says what the peer sends and asserts what is seen of it."""

    def __init__(self, client: bool = True, max_inbound: int = 1000) -> None:
        self.budget = WindowBudget()
        self.session = Session(client, max_inbound, self.budget)

    def peer(self, *chunks: bytes, sees: list[tuple[Any, ...]]) -> None:
        seen = [each for chunk in chunks for each in self.session.receive(memoryview(chunk))]
        assert [self._plain(*each) for each in seen] == sees

    @staticmethod
    def _plain(what: Seen, core: StreamCore | None, value: Any) -> tuple[Any, ...]:
        plain: tuple[Any, ...] = (what,) if core is None else (what, core.id)
        if value is None:
            return plain
        return (*plain, bytes(value) if isinstance(value, memoryview) else value)

    def breaks_the_session(self, *chunks: bytes, reason: str, code: int = 1) -> None:
        with pytest.raises(MuxerError, match=reason) as caught:
            for chunk in chunks:
                list(self.session.receive(memoryview(chunk)))
        assert caught.value.code == code

    def opened(self, stream: int) -> StreamCore:
        """A stream of the peer's."""
        self.peer(opening(stream), sees=[(Seen.OPENED, stream)])
        return self.session.streams[stream]


# -- the usual lives of streams --------------------------------------------------------------------------------------


def test_a_stream_of_ours_from_its_opening_to_its_end() -> None:
    play = Playbook(client=True)
    core = play.session.open()
    assert (core.id, core.state, core.send_window) == (1, State.OPEN, INITIAL_WINDOW)
    assert core.take_flags() == SYN
    assert core.take_flags() == 0
    assert play.session.unacknowledged == 1
    play.peer(credit(1, 0, ACK), sees=[])
    assert play.session.unacknowledged == 0
    play.peer(data(1, b"answer"), sees=[(Seen.DATA, 1, b"answer")])
    play.peer(credit(1, 1000), sees=[(Seen.CREDIT, 1)])
    assert core.send_window == INITIAL_WINDOW + 1000
    play.session.sent_fin(core)
    assert core.state is State.FIN_SENT
    play.peer(data(1, b" and more"), sees=[(Seen.DATA, 1, b" and more")])
    play.peer(fin(1), sees=[(Seen.FIN, 1)])
    assert core.state is State.FINISHED
    assert not play.session.streams


def test_a_stream_of_the_peer_as_go_and_js_open_it() -> None:
    play = Playbook(client=True)
    play.peer(opening(2) + data(2, b"request"), sees=[(Seen.OPENED, 2), (Seen.DATA, 2, b"request")])
    core = play.session.streams[2]
    assert core.take_flags() == ACK
    assert play.session.inbound == 1
    assert core.send_window == INITIAL_WINDOW  # the window of a SYN is additive, and go and js send 0
    play.peer(fin(2), sees=[(Seen.FIN, 2)])
    assert core.state is State.FIN_RECEIVED
    play.session.sent_fin(core)
    assert core.state is State.FINISHED
    assert play.session.inbound == 0
    assert not play.session.streams


def test_a_stream_of_the_peer_as_rust_opens_it() -> None:
    play = Playbook(client=True)
    play.peer(data(2, b"first", SYN), sees=[(Seen.OPENED, 2), (Seen.DATA, 2, b"first")])
    play.peer(data(2, b"last", 0) + data(2, b"", FIN), sees=[(Seen.DATA, 2, b"last"), (Seen.FIN, 2)])


def test_a_whole_stream_in_one_frame() -> None:
    play = Playbook(client=True)
    play.peer(
        data(2, b"all of it", SYN | FIN),
        sees=[(Seen.OPENED, 2), (Seen.DATA, 2, b"all of it"), (Seen.FIN, 2)],
    )
    assert play.session.streams[2].state is State.FIN_RECEIVED


def test_an_empty_stream() -> None:
    for wire in (credit(2, 0, SYN | FIN), data(2, b"", SYN | FIN)):
        Playbook().peer(wire, sees=[(Seen.OPENED, 2), (Seen.FIN, 2)])


def test_credit_of_a_first_frame_is_added() -> None:
    play = Playbook()
    play.peer(credit(2, 5000, SYN), sees=[(Seen.OPENED, 2), (Seen.CREDIT, 2)])
    assert play.session.streams[2].send_window == INITIAL_WINDOW + 5000
    core = play.session.open()
    play.peer(credit(1, 7000, ACK), sees=[(Seen.CREDIT, 1)])
    assert core.send_window == INITIAL_WINDOW + 7000


@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
def test_fin_and_rst_on_either_type_of_frame(kind: int) -> None:
    play = Playbook()
    play.opened(2)
    play.peer(header(kind, FIN, 2, 0), sees=[(Seen.FIN, 2)])
    play.opened(4)
    play.peer(header(kind, RST, 4, 0), sees=[(Seen.RST, 4, 0)])
    play.opened(6)
    play.peer(header(kind, FIN | RST, 6, 0), sees=[(Seen.FIN, 6), (Seen.RST, 6, 0)])
    assert set(play.session.streams) == {2}


@pytest.mark.parametrize("code", [0, 1, 0x1001, 0x1002, 2**32 - 1])
def test_the_code_of_a_reset_is_no_credit(code: int) -> None:
    play = Playbook()
    core = play.opened(2)
    play.peer(reset(2, code), sees=[(Seen.RST, 2, code)])
    assert core.send_window == INITIAL_WINDOW
    assert core.state is State.RESET


def test_data_in_front_of_a_reset_in_one_frame() -> None:
    play = Playbook()
    play.opened(2)
    play.peer(data(2, b"last words", RST), sees=[(Seen.DATA, 2, b"last words"), (Seen.RST, 2, 0)])


def test_data_behind_the_peers_fin_is_not_delivered() -> None:
    play = Playbook()
    play.opened(2)
    play.peer(fin(2), sees=[(Seen.FIN, 2)])
    play.peer(data(2, b"too late") + fin(2), sees=[])
    play.peer(credit(2, 10), sees=[(Seen.CREDIT, 2)])  # its readers go on


def test_a_stream_that_is_reset_on_opening() -> None:
    play = Playbook()
    play.peer(credit(2, 0, SYN | RST), sees=[(Seen.OPENED, 2), (Seen.RST, 2, 0)])
    assert not play.session.streams
    assert play.session.inbound == 0


# -- pings and goodbyes ----------------------------------------------------------------------------------------------


def test_pings_and_pongs() -> None:
    play = Playbook()
    play.peer(ping(0), sees=[(Seen.PING, 0)])
    play.peer(ping(2**32 - 1) + pong(7), sees=[(Seen.PING, 2**32 - 1), (Seen.PONG, 7)])


def test_a_ping_is_to_be_answered_once_however_it_comes_in() -> None:
    play = Playbook()
    play.peer(*byte_by_byte(ping(77)), sees=[(Seen.PING, 77)])


@pytest.mark.parametrize("code", [0, 1, 2, 0x1005])
def test_go_away(code: int) -> None:
    Playbook().peer(go_away(code), sees=[(Seen.GO_AWAY, code)])


# -- what is ignored -------------------------------------------------------------------------------------------------


def test_frames_of_unknown_streams_are_ignored_and_drained() -> None:
    play = Playbook(client=True)
    for stream in (1, 2, 3, 100, 101, 2**32 - 1):
        play.peer(data(stream, bytes(100)) + credit(stream, 5) + fin(stream) + reset(stream), sees=[])
    play.peer(data(9, bytes(2 * MIB)), data(9, bytes(50)) + ping(1), sees=[(Seen.PING, 1)])
    assert not play.session.streams


def test_frames_that_cross_with_our_end_are_ignored() -> None:
    play = Playbook(client=True)
    core = play.session.open()
    play.session.sent_rst(core)
    play.peer(data(1, b"crossed") + credit(1, 100) + fin(1) + reset(1, 5), sees=[])
    core = play.session.open()
    play.session.sent_fin(core)
    play.peer(fin(3), sees=[(Seen.FIN, 3)])
    play.peer(credit(3, 100) + data(3, b"x"), sees=[])  # js sends credit behind its FIN


def test_the_rest_of_a_frame_whose_stream_has_ended_is_drained() -> None:
    play = Playbook()
    core = play.opened(2)
    wire = data(2, bytes(1000)) + ping(5)
    play.peer(wire[:500], sees=[(Seen.DATA, 2, bytes(488))])
    play.session.sent_rst(core)
    play.peer(wire[500:], sees=[(Seen.PING, 5)])


def test_a_second_ack_is_ignored() -> None:
    play = Playbook()
    play.session.open()
    play.session.open()
    play.peer(credit(1, 0, ACK), credit(1, 0, ACK), data(1, b"x", ACK), sees=[(Seen.DATA, 1, b"x")])
    assert play.session.unacknowledged == 1


def test_data_of_stream_0_is_ignored() -> None:
    Playbook().peer(data(0, b"x") + credit(0, 5), sees=[])


# -- what ends the session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "stream"), [(True, 1), (True, 3), (True, 0), (False, 2), (False, 4), (False, 0)]
)
@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
def test_ids_that_are_not_the_peers_to_open(client: bool, stream: int, kind: int) -> None:
    Playbook(client).breaks_the_session(header(kind, SYN, stream, 0), reason="not its to open")


def test_an_id_that_is_alive_is_not_opened_again() -> None:
    play = Playbook()
    play.opened(2)
    play.breaks_the_session(opening(2), reason="stream 2 twice")
    play = Playbook()
    play.peer(data(2, b"a", SYN), sees=[(Seen.OPENED, 2), (Seen.DATA, 2, b"a")])
    play.breaks_the_session(data(2, b"a", SYN), reason="stream 2 twice")


def test_an_id_that_is_over_may_come_again_and_ids_in_any_order() -> None:
    play = Playbook()
    play.peer(opening(10) + reset(10), sees=[(Seen.OPENED, 10), (Seen.RST, 10, 0)])
    play.peer(opening(10) + opening(4), sees=[(Seen.OPENED, 10), (Seen.OPENED, 4)])


def test_the_window_to_the_last_byte_in_one_frame_as_js_sends_it() -> None:
    play = Playbook()
    core = play.opened(2)
    whole = bytes(INITIAL_WINDOW)
    play.peer(data(2, whole), sees=[(Seen.DATA, 2, whole)])
    assert core.window.credit == 0
    play.breaks_the_session(data(2, b"x"), reason="with a window of 0")


def test_a_frame_of_megabytes_within_a_window_that_has_grown() -> None:
    play = Playbook()
    core = play.opened(2)
    window, now = core.window, 0.0
    while window.credit < 3 * MIB:  # a fast reader far away
        window.receive(window.credit)
        window.consume(window._held)
        now += 0.1
        assert window.grant(now, 0.1) > 0
    size = window.credit
    wire = data(2, bytes(size))
    received = 0
    for start in range(0, len(wire), 65519):
        for what, _, value in play.session.receive(memoryview(wire)[start : start + 65519]):
            assert what is Seen.DATA
            received += len(value)
    assert received == size
    assert window.credit == 0


def test_a_frame_longer_than_the_window_is_refused_when_the_window_is_used_up_not_before() -> None:
    # Only what has arrived counts: the credit may come while the frame is on its way.
    play = Playbook()
    core = play.opened(2)
    wire = data(2, bytes(INITIAL_WINDOW + 1000))
    play.peer(wire[: 12 + INITIAL_WINDOW], sees=[(Seen.DATA, 2, bytes(INITIAL_WINDOW))])
    core.window.consume(INITIAL_WINDOW)
    assert core.window.grant(0.0, 0.01) > 1000
    play.peer(wire[12 + INITIAL_WINDOW :], sees=[(Seen.DATA, 2, bytes(1000))])


def test_over_sending_in_small_frames() -> None:
    play = Playbook()
    play.opened(2)
    for _ in range(INITIAL_WINDOW // 4096):
        list(play.session.receive(memoryview(data(2, bytes(4096)))))
    play.breaks_the_session(data(2, b"x"), reason="sent 1 bytes with a window of 0")


def test_each_stream_has_a_window_of_its_own() -> None:
    play = Playbook()
    play.opened(2)
    play.opened(4)
    list(play.session.receive(memoryview(data(2, bytes(INITIAL_WINDOW)))))
    list(play.session.receive(memoryview(data(4, bytes(INITIAL_WINDOW)))))
    play.breaks_the_session(data(4, b"x"), reason="window of 0")


def test_credit_past_32_bits() -> None:
    play = Playbook()
    core = play.opened(2)
    play.peer(credit(2, 2**32 - 1 - INITIAL_WINDOW), sees=[(Seen.CREDIT, 2)])
    assert core.send_window == 2**32 - 1
    play.breaks_the_session(credit(2, 1), reason="more credit than 32 bits hold")
    play = Playbook()
    play.opened(2)
    play.breaks_the_session(credit(2, 2**32 - 1), reason="more credit than 32 bits hold")


@pytest.mark.parametrize(
    "wire",
    [b"\x01" + bytes(11), b"\x00\x04" + bytes(10), b"HTTP/1.1 200 OK\r\n"],
    ids=["version", "type", "HTTP"],
)
def test_what_is_not_yamux(wire: bytes) -> None:
    Playbook().breaks_the_session(wire, reason="not Yamux")
    play = Playbook()
    play.opened(2)
    play.breaks_the_session(*byte_by_byte(wire), reason="not Yamux")


def test_what_stands_in_front_of_a_breach_counts() -> None:
    play = Playbook()
    play.opened(2)
    seen = []
    with pytest.raises(MuxerError):
        for what, *_ in play.session.receive(memoryview(data(2, b"good") + reset(2) + opening(1))):
            seen.append(what)  # what came before the error counts
    assert seen == [Seen.DATA, Seen.RST]


def test_what_is_done_about_a_frame_counts_for_the_next() -> None:
    play = Playbook()
    core = play.opened(2)
    seen = []
    for what, *_ in play.session.receive(memoryview(data(2, b"enough") + data(2, b"in vain") + fin(2))):
        seen.append(what)
        play.session.sent_rst(core)
    assert seen == [Seen.DATA]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_streams_beyond_the_limit_are_refused_one_by_one() -> None:
    play = Playbook(max_inbound=2)
    play.peer(opening(2) + opening(4), sees=[(Seen.OPENED, 2), (Seen.OPENED, 4)])
    play.peer(data(6, b"in vain", SYN) + data(6, b"more") + fin(6), sees=[(Seen.REFUSED, 6)])
    play.peer(opening(8), sees=[(Seen.REFUSED, 8)])
    play.peer(reset(2), sees=[(Seen.RST, 2, 0)])
    play.peer(opening(8), sees=[(Seen.OPENED, 8)])
    assert play.session.inbound == 2


def test_streams_of_ours_do_not_count_against_the_peers_limit() -> None:
    play = Playbook(max_inbound=1)
    for _ in range(5):
        play.session.open()
    play.opened(2)
    assert play.session.inbound == 1


def test_every_kind_of_answer_frees_an_unacknowledged_stream() -> None:
    play = Playbook()
    cores = [play.session.open() for _ in range(5)]
    assert play.session.unacknowledged == 5
    play.peer(credit(1, 0, ACK), sees=[])
    play.peer(data(3, b"x", ACK), sees=[(Seen.DATA, 3, b"x")])
    play.peer(reset(5), sees=[(Seen.RST, 5, 0)])
    play.session.sent_rst(cores[3])
    assert play.session.unacknowledged == 1
    play.peer(data(9, b"", ACK | FIN), sees=[(Seen.FIN, 9)])
    assert play.session.unacknowledged == 0


def test_ids_alternate_and_end_before_they_repeat() -> None:
    for client, first in ((True, 1), (False, 2)):
        session = Playbook(client).session
        assert [session.open().id for _ in range(3)] == [first, first + 2, first + 4]
        session._next_id = 2**32 - 4 + first
        assert session.open().id == 2**32 - 4 + first
        with pytest.raises(MuxerError, match="used up"):
            session.open()


# -- everything at once ----------------------------------------------------------------------------------------------


def test_recorded_sessions_give_the_recorded_streams() -> None:
    for name, recording in sessions():
        session = Session(recording["role"]["yamux"] == "client", 100, WindowBudget())
        ours = {entry["stream"]: entry for entry in recording["streams"] if entry["opened_by"] == "us"}
        for _ in ours:
            session.open()
        received: dict[int, bytes] = {}
        ends: dict[int, str] = {}
        for way, kind, flags, stream, length, payload in recording["yamux"]:
            if way == ">":
                continue
            for what, core, value in session.receive(
                memoryview(header(kind, flags, stream, length) + bytes.fromhex(payload))
            ):
                if what is Seen.DATA and core is not None:
                    received[core.id] = received.get(core.id, b"") + value
                elif what in (Seen.FIN, Seen.RST) and core is not None:
                    ends[core.id] = what.name
        for entry in recording["streams"]:
            assert received.get(entry["stream"], b"").hex() == entry["received"], name
            assert ends.get(entry["stream"]) == entry["end_received"], name


_IDS = st.sampled_from([1, 2, 3, 4])
_FRAMES = st.lists(
    st.one_of(
        st.builds(header, st.just(WINDOW_UPDATE), st.integers(0, 15), _IDS, st.integers(0, 5000)),
        st.builds(data, _IDS, st.binary(max_size=40), st.integers(0, 15)),
        st.builds(header, st.just(PING), st.sampled_from([SYN, ACK]), st.just(0), st.integers(0, 9)),
    ),
    max_size=30,
)


def _outcome(chunks: list[bytes]) -> list[Any]:
    play = Playbook()
    play.session.open()
    result: list[Any] = []
    try:
        for chunk in chunks:
            for what, core, value in play.session.receive(memoryview(chunk)):
                if what is Seen.DATA and core is not None:
                    if result and result[-1][:2] == [what, core.id]:
                        result[-1][2] += bytes(value)
                    else:
                        result.append([what, core.id, bytes(value)])
                else:
                    result.append([what, core.id if core else None, value])
    except MuxerError as error:
        # What a broken chunk began with is lost with it: the session is over.
        return [str(error)]
    for core in list(play.session.streams.values()):
        play.session.sent_rst(core)
    assert play.session.inbound == play.session.unacknowledged == 0
    assert play.budget.take(BUDGET) == BUDGET
    return result


@given(_FRAMES, CUTS)
def test_any_frames_in_any_cut_mean_the_same(frames: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(frames)
    whole = _outcome([wire])
    assert _outcome(cut(wire, cuts)) == whole
    assert _outcome(byte_by_byte(wire)) == whole
