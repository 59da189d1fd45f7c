import io
import json

import pytest

from bethrou.config import LogFormat, LogLevel
from bethrou.events import (
    CircuitEnded,
    DescriptorsShort,
    DialFailed,
    Event,
    ExitChanged,
    HolePunched,
    HolePunchFailed,
    InviteRefused,
    InviteUsedTwice,
    LinkClosed,
    LinkOpened,
    MemberCutOff,
    MemberJoined,
    MemberListTaken,
    MemberListUnwritten,
    ReachabilityChanged,
    RelayLost,
    RelayReserved,
    RequestEnded,
    SourceChanged,
    StrangerRefused,
    TurnedAway,
)
from bethrou.ops.log_events import CLIENT_WORDS, NODE_WORDS, STRANGERS_AT_ONCE, EventLog, Words
from bethrou.ops.logs import make_logger

PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
OTHER = "12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU"


class Lines:
    """An event log whose lines can be read, and a clock that can be set."""

    def __init__(
        self, words: Words = CLIENT_WORDS, hide: bool = False, level: LogLevel = LogLevel.INFO
    ) -> None:
        self._stream = io.StringIO()
        self.now = 100.0
        log = make_logger(level, LogFormat.JSON, hide, self._stream)
        self._events = EventLog(log, words, lambda: self.now, hide)

    def tell(self, *events: Event, after: float = 0.0) -> list[dict[str, object]]:
        """The lines that `events` make, `after` seconds later."""
        self.now += after
        before = self._stream.tell()
        for event in events:
            self._events(event)
        self._stream.seek(before)
        lines = [json.loads(line) for line in self._stream.read().splitlines()]
        return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def ended(**changes: object) -> RequestEnded:
    values: dict[str, object] = {
        "id": "00112233445566aa",
        "peer": PEER,
        "destination": "example.com:443",
        "result": "ok",
        "reason": "",
        "sent": 517,
        "received": 4096,
        "seconds": 0.12345,
    }
    return RequestEnded(**{**values, **changes})  # type: ignore[arg-type]


def failed(reason: str = "refused", peer: str = PEER) -> DialFailed:
    return DialFailed(peer, reason, 0.75)


def test_a_request_is_one_line_at_info() -> None:
    assert Lines().tell(ended()) == [
        {
            "level": "info",
            "event": "request",
            "result": "ok",
            "exit": PEER[-8:],
            "destination": "example.com:443",
            "sent": 517,
            "received": 4096,
            "seconds": 0.123,
            "id": "00112233445566aa",
        }
    ]


def test_the_node_names_the_member_and_what_is_empty_is_left_out() -> None:
    (line,) = Lines(NODE_WORDS).tell(ended(id="", user="ann", result="refused", reason="connection refused"))
    assert line["member"] == PEER[-8:]
    assert line["user"] == "ann"
    assert line["reason"] == "connection refused"
    assert "id" not in line
    assert "exit" not in line


def test_a_request_without_an_exit_names_none() -> None:
    (line,) = Lines().tell(ended(peer="", result="no-exit", reason="none of 2 exits can be reached"))
    assert "exit" not in line
    assert line["reason"] == "none of 2 exits can be reached"


def test_hidden_destinations_are_in_no_field() -> None:
    lines = Lines(hide=True, level=LogLevel.DEBUG)
    told = lines.tell(
        ended(),
        ended(result="no-such-host", reason="lookup example.com: no such host"),
        ended(result="overloaded", reason="lookup example.com: too many look-ups"),
        ExitChanged(PEER, "", "healthy", "suspect", "lookup example.com: broken"),
        StrangerRefused("socks", "127.0.0.1:5000", "host 'example.com\\x00' has characters that no name has"),
    )
    assert len(told) == 5
    assert "example.com" not in json.dumps(told)
    assert told[-1]["reason"] == "host ... has characters that no name has"


def test_an_aborted_request_says_why_with_hidden_destinations_too() -> None:
    (line,) = Lines(hide=True).tell(ended(result="aborted", reason="destination: connection reset"))
    assert line["reason"] == "destination: connection reset"


@pytest.mark.parametrize(("words", "up", "down"), [(CLIENT_WORDS, "exit up", "exit down")])
def test_links_come_and_go_at_info(words: Words, up: str, down: str) -> None:
    opened, closed = Lines(words).tell(
        LinkOpened(PEER, "/ip4/1.2.3.4/tcp/4000", "direct", False),
        LinkClosed(PEER, "/ip4/1.2.3.4/tcp/4000", "the peer closed the connection"),
    )
    assert (opened["event"], opened["level"], opened["exit"]) == (up, "info", PEER[-8:])
    assert (closed["event"], closed["level"]) == (down, "info")
    assert closed["reason"] == "the peer closed the connection"


def test_an_exit_that_stays_away_is_told_of_once_and_then_every_minute() -> None:
    lines = Lines()
    (first,) = lines.tell(failed())
    assert (first["level"], first["event"], first["reason"]) == ("warn", "exit cannot be reached", "refused")
    told = [line for _ in range(160) for line in lines.tell(failed(), after=0.75)]
    assert [line["event"] for line in told] == ["exit still cannot be reached"] * 2


def test_another_reason_is_news_but_no_flood() -> None:
    lines = Lines()
    lines.tell(failed())
    assert lines.tell(failed("another network key"), after=1.0) == []
    (news,) = lines.tell(failed("another network key"), after=10.0)
    assert news["reason"] == "another network key"


def test_each_exit_is_told_of_by_itself_and_again_after_it_was_up() -> None:
    lines = Lines()
    assert len(lines.tell(failed(), failed(peer=OTHER))) == 2
    lines.tell(LinkOpened(PEER, "/ip4/1.2.3.4/tcp/4000", "direct", False))
    (again,) = lines.tell(failed(), failed(peer=OTHER), after=1.0)
    assert (again["event"], again["exit"]) == ("exit cannot be reached", PEER[-8:])


def test_every_failed_dial_is_there_at_debug() -> None:
    assert len(Lines(level=LogLevel.DEBUG).tell(*[failed()] * 10)) == 10


def test_strangers_are_warned_of_without_a_flood() -> None:
    lines = Lines()
    stranger = StrangerRefused("link", "/ip4/9.9.9.9/tcp/5000", "speaks HTTP")
    told = lines.tell(*[stranger] * 5000)
    assert len(told) == STRANGERS_AT_ONCE
    assert (told[0]["level"], told[0]["event"]) == ("warn", "stranger refused")
    (next_one,) = lines.tell(*[stranger] * 3, after=5.0)
    assert next_one["untold"] == 5000 - STRANGERS_AT_ONCE
    assert len(lines.tell(StrangerRefused("socks", "127.0.0.1:1", "speaks HTTP"))) == 1


def test_a_shortage_is_told_of_once_and_its_end_once() -> None:
    lines = Lines()
    short, over = DescriptorsShort("socks", True), DescriptorsShort("socks", False)
    (first,) = lines.tell(short)
    assert first["level"] == "error"
    (back,) = lines.tell(over, after=0.5)
    assert back["level"] == "info"
    assert lines.tell(*[short, over] * 50, after=0.5) == []
    assert len(lines.tell(short, over, after=60.0)) == 2


def test_one_line_for_each_change_of_an_exit_that_is_connected() -> None:
    drains, serves, suspected, well = Lines().tell(
        ExitChanged(PEER, "", "connecting", "healthy", "connected"),
        ExitChanged(PEER, "", "healthy", "draining", "says that it takes no new requests"),
        ExitChanged(PEER, "", "draining", "healthy", "serves again"),
        ExitChanged(PEER, "berlin", "healthy", "suspect", "failed a request: RST"),
        ExitChanged(PEER, "berlin", "suspect", "healthy", "took a request"),
        ExitChanged(PEER, "", "healthy", "down", "the link was lost"),
    )
    assert drains["event"] == "exit takes no new requests"
    assert serves["event"] == "exit serves again"
    assert (suspected["level"], suspected["name"], suspected["reason"]) == (
        "warn",
        "berlin",
        "failed a request: RST",
    )
    assert well["event"] == "exit is well again"


def test_a_source_that_falls_ill_and_gets_well() -> None:
    ill, well = Lines().tell(
        SourceChanged("redis", False, "127.0.0.1:6379: Connection refused"),
        SourceChanged("redis", True, "listening"),
    )
    assert (ill["level"], ill["source"], ill["reason"]) == (
        "warn",
        "redis",
        "127.0.0.1:6379: Connection refused",
    )
    assert (well["level"], well["source"]) == ("info", "redis")


def test_a_circuit_is_one_line() -> None:
    circuit = CircuitEnded(PEER, OTHER, "the relay's limit of 60 s is reached", 10, 20, 60.00001)
    (line,) = Lines(NODE_WORDS).tell(circuit)
    assert line == {
        "level": "info",
        "event": "circuit",
        "source": PEER[-8:],
        "target": OTHER[-8:],
        "sent": 10,
        "received": 20,
        "seconds": 60.0,
        "reason": "the relay's limit of 60 s is reached",
    }
    (line,) = Lines(NODE_WORDS).tell(CircuitEnded(PEER, OTHER, "", 10, 20, 1.0))
    assert "reason" not in line


def test_a_relay_that_stays_away_is_told_once_and_then_rarely() -> None:
    lines = Lines(NODE_WORDS)
    away = RelayLost(PEER, "refused", 2.0)
    assert [line["event"] for line in lines.tell(away, away)] == ["not reachable through relay"]
    assert lines.tell(away, after=10) == []
    assert [line["event"] for line in lines.tell(away, after=60)] == ["still not reachable through relay"]
    (line,) = lines.tell(RelayReserved(PEER, ("/ip4/192.0.2.1/tcp/1",)))
    assert line["addresses"] == "/ip4/192.0.2.1/tcp/1"
    assert [line["event"] for line in lines.tell(away)] == ["not reachable through relay"]


def test_whether_a_node_can_be_reached_is_told() -> None:
    lines = Lines(NODE_WORDS)
    (line,) = lines.tell(ReachabilityChanged(False, "/ip4/5.5.1.1/tcp/4001 is unreachable", 3))
    assert line["event"] == "not reachable from outside: relays are chosen"
    assert (line["found"], line["known"]) == ("/ip4/5.5.1.1/tcp/4001 is unreachable", 3)
    (line,) = lines.tell(ReachabilityChanged(True, "/ip4/5.5.1.1/tcp/4001 is reachable", 3))
    assert line["event"] == "reachable from outside: no relay is chosen"


def test_a_pair_that_can_never_punch_is_told_of_once_in_an_hour() -> None:
    failed = HolePunchFailed(
        PEER, "/ip4/192.0.2.7/tcp/4001", 3, "/ip4/192.0.2.7/tcp/4001: no connection", 30.0123
    )
    lines = Lines()
    assert lines.tell(failed) == [
        {
            "level": "info",
            "event": "no direct way, the relay goes on serving",
            "exit": PEER[-8:],
            "rounds": 3,
            "reason": "/ip4/192.0.2.7/tcp/4001: no connection",
            "seconds": 30.012,
        }
    ]
    assert [lines.tell(failed, after=60.0) for _ in range(59)] == [[]] * 59
    assert len(lines.tell(failed, after=60.0)) == 1
    assert len(lines.tell(HolePunchFailed(OTHER, "", 1, "refused", 1.0))) == 1


def test_where_nothing_was_tried_nothing_is_told() -> None:
    untried = HolePunchFailed(PEER, "", 0, "no peer sees a port of this host at a public address", 0.0)
    assert Lines().tell(untried) == []
    assert [line["level"] for line in Lines(level=LogLevel.DEBUG).tell(untried)] == ["debug"]


def test_a_hole_is_told_of_and_makes_the_next_failure_news() -> None:
    failed = HolePunchFailed(PEER, "", 1, "refused", 1.0)
    lines = Lines(NODE_WORDS)
    lines.tell(failed)
    assert lines.tell(HolePunched(PEER, "/ip4/192.0.2.7/tcp/4001", 2, 0.4)) == [
        {
            "level": "info",
            "event": "direct way found",
            "member": PEER[-8:],
            "address": "/ip4/192.0.2.7/tcp/4001",
            "rounds": 2,
            "seconds": 0.4,
        }
    ]
    assert len(lines.tell(failed, after=1.0)) == 1


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            MemberListTaken(3, 5, ("tablet",), ("laptop", "phone")),
            {
                "level": "info",
                "event": "member list",
                "serial": 3,
                "members": 5,
                "added": "tablet",
                "gone": "laptop, phone",
            },
        ),
        (MemberListTaken(2, 1, (), ()), {"level": "info", "event": "member list", "serial": 2, "members": 1}),
        (
            MemberListUnwritten("node.members", "No space left on device"),
            {
                "level": "error",
                "event": "member list cannot be written",
                "file": "node.members",
                "reason": "No space left on device",
            },
        ),
        (
            MemberJoined(PEER, "laptop", "client"),
            {"level": "info", "event": "member joined", "member": PEER, "name": "laptop", "role": "client"},
        ),
        (
            TurnedAway(PEER, "removed"),
            {
                "level": "warn",
                "event": "this device was removed from the network: ask its operator for an invite",
                "exit": PEER[-8:],
            },
        ),
        (
            TurnedAway(PEER, "unknown"),
            {"level": "warn", "event": "not a member: ask its operator for an invite", "exit": PEER[-8:]},
        ),
    ],
)
def test_what_happens_to_members(event: Event, line: dict[str, object]) -> None:
    assert Lines().tell(event) == [line]


def test_two_devices_by_one_invite_are_an_error() -> None:
    (line,) = Lines(NODE_WORDS).tell(InviteUsedTwice(PEER, "laptop"))
    assert (line["level"], line["member"], line["name"]) == ("error", PEER, "laptop")


@pytest.mark.parametrize("event", [InviteRefused(PEER, "used"), MemberCutOff(PEER, "removed")])
def test_what_anybody_can_make_happen_does_not_fill_the_log(event: Event) -> None:
    lines = Lines(NODE_WORDS)
    assert len(lines.tell(*[event] * 1000)) == STRANGERS_AT_ONCE
    (line,) = lines.tell(event, after=60.0)
    assert line["untold"] == 1000 - STRANGERS_AT_ONCE
