"""What commands show, as text of 80 columns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bethrou.cli.control_commands import event_line
from bethrou.cli.control_tables import MAX_ROWS, Screen, serves, summary
from bethrou.quantities import counted, delay, duration, size
from bethrou.snapshots import (
    AddressReachability,
    CandidateSnapshot,
    MemberSnapshot,
    RelayingSnapshot,
    RelaySnapshot,
    StatusSnapshot,
    WhySnapshot,
)
from ops.controlled import CONNECTION, EXIT, PEER, STATUS, WHY

Capture = pytest.CaptureFixture[str]

OTHER = "12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU"
DOWN = replace(
    EXIT,
    id=OTHER,
    name="",
    state="down",
    reason=f"/ip4/192.0.2.8/tcp/4000/p2p/{OTHER}: Connection refused",
    since=200_000.0,
    round_trip=None,
    path="",
    address="",
    streams=0,
    load=None,
)
MEMBER = MemberSnapshot(
    PEER, "/ip4/192.0.2.9/tcp/50123", "direct", "bethrou-py/0.1.0", 3, 0.0456, 10**7, 512, 75.0
)
NODE = replace(
    STATUS,
    role="node",
    exits=(),
    sources=(),
    strategy="",
    listening=("/ip4/0.0.0.0/tcp/4000",),
    members=(MEMBER, replace(MEMBER, id=OTHER, streams=4)),
)
HOSTILE = "\x1b[2J\u202eevil[bold red]\n" + "x" * 200


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def printed(capsys: Capture) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() and len(line) <= 80 for line in lines)
    return lines


def test_the_status_of_a_client(capsys: Capture) -> None:
    Screen().show_status(replace(STATUS, exits=(DOWN, EXIT)))
    assert printed(capsys) == [
        "client serving: 1 of 2 exits can be used, 2 connections",
        "12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU",
        "network dc6bbab0846474c86c5ab90063ef7193, up 1 h 1 min, version 0.1.0",
        "listening on 127.0.0.1:1080, strategy random",
        "",
        "EXIT      STATE      FOR    RTT  CONN  VIA     NOTE",
        "berlin    healthy  1 min  12 ms     2  direct  eu, load 25%",
        "KdSAEgdU  down       2 d                       /ip4/192.0.2.8/tcp/4000/p2p/..KdS",
        "                                               AEgdU: Connection refused",
        "",
        "SOURCE  STATE  EXITS  HEARD  SKIPPED  SILENT  NOTE",
        "redis   ok         1      5        0     2 s  listening",
    ]


def test_the_status_of_a_node(capsys: Capture) -> None:
    Screen().show_status(NODE)
    assert printed(capsys)[3:] == [
        "listening on /ip4/0.0.0.0/tcp/4000",
        "",
        "MEMBER    ADDRESS                   VIA       RTT  REQ   SENT  RECEIVED    FOR",
        "KdSAEgdU  /ip4/192.0.2.9/tcp/50123  direct  46 ms    4  10 MB     512 B  1 min",
        "HYdBfeSB  /ip4/192.0.2.9/tcp/50123  direct  46 ms    3  10 MB     512 B  1 min",
    ]


def test_what_encrypts_a_link(capsys: Capture) -> None:
    exits = (
        replace(EXIT, security="tls"),
        replace(EXIT, id=OTHER, name="", path="circuit", security="noise"),
    )
    Screen().show_status(replace(STATUS, exits=exits))
    assert printed(capsys)[5:8] == [
        "EXIT      STATE      FOR    RTT  CONN  VIA            NOTE",
        "berlin    healthy  1 min  12 ms     2  direct tls     eu, load 25%",
        "KdSAEgdU  healthy  1 min  12 ms     2  circuit noise  eu, load 25%",
    ]
    members = (replace(MEMBER, security="tls"), replace(MEMBER, id=OTHER, streams=2, security="noise"))
    Screen().show_status(replace(NODE, members=members))
    assert printed(capsys)[5:] == [
        "MEMBER    ADDRESS                   VIA       RTT  REQ   SENT  RECEIVED    FOR",
        "HYdBfeSB  /ip4/192.0.2.9/tcp/50123  tls     46 ms    3  10 MB     512 B  1 min",
        "KdSAEgdU  /ip4/192.0.2.9/tcp/50123  direct  46 ms    2  10 MB     512 B  1 min",
    ]


def test_the_status_of_a_relay(capsys: Capture) -> None:
    relaying = RelayingSnapshot(3, 2, 12_345_678, 2048, 4096, 1024, 0, 0, 0, 0)
    Screen().show_status(replace(NODE, relaying=relaying))
    assert printed(capsys)[4:6] == [
        "relaying 2 of 4096 circuits (no limits) for 3 of 2048 nodes, 12 MB so far",
        "",
    ]
    Screen().show_status(
        replace(NODE, relaying=replace(relaying, rate=10**7, circuit_rate=10**6, duration=120, data=10**8))
    )
    assert printed(capsys)[4:6] == [
        "relaying 2 of 4096 circuits (2 min, 100 MB each way, 10 MB/s in all, 1.0 MB/s ",
        "each) for 3 of 2048 nodes, 12 MB so far",
    ]


def test_the_status_of_a_node_behind_relays(capsys: Capture) -> None:
    reserved = RelaySnapshot(PEER, True, "", ("/ip4/192.0.2.7/tcp/4000/p2p-circuit",), 3540.5, None, 120, 0)
    refused = RelaySnapshot(OTHER, False, "the relay says: no more room", (), None, 25.0)
    found = (
        AddressReachability("/ip4/192.0.2.9/tcp/4000", "unreachable", 0, 2, 2),
        AddressReachability("/ip4/192.0.2.9/tcp/4001", "reachable", 3, 0, 3),
    )
    Screen().show_status(
        replace(NODE, members=(), relays=(reserved, refused), reachability=found, checked=61.0)
    )
    assert printed(capsys)[9:] == [
        "",
        "RELAY     STATE       EXPIRES  NOTE",
        "HYdBfeSB  reserved  in 59 min  a circuit: 2 min",
        "KdSAEgdU  waiting              the relay says: no more room; asked again in 25 s",
        "",
        "ADDRESS                  FROM OUTSIDE  YES  NO  ASKED    AGO",
        "/ip4/192.0.2.9/tcp/4000  unreachable     0   2      2  1 min",
        "/ip4/192.0.2.9/tcp/4001  reachable       3   0      3  1 min",
    ]


def test_connections(capsys: Capture) -> None:
    idle = replace(CONNECTION, id="ff" * 8, idle=70.0, peer="", user="")
    Screen().show_connections([idle, CONNECTION], STATUS)
    assert printed(capsys) == [
        "ID                DESTINATION      EXIT      USER   SENT  RECEIVED  OPEN   IDLE",
        "00112233445566aa  example.com:443  berlin    ann   517 B     41 kB  12 s    0 s",
        "ffffffffffffffff  example.com:443  choosing        517 B     41 kB  12 s  1 min",
    ]
    Screen().show_connections([replace(CONNECTION, user="", id="")], NODE)
    assert printed(capsys) == [
        "ID  DESTINATION      MEMBER     SENT  RECEIVED  OPEN  IDLE",
        "-   example.com:443  HYdBfeSB  517 B     41 kB  12 s   0 s",
    ]


def test_very_many_connections_are_counted(capsys: Capture) -> None:
    Screen().show_connections([CONNECTION] * (MAX_ROWS + 31_000), STATUS)
    lines = printed(capsys)
    assert len(lines) == MAX_ROWS + 2
    assert lines[-1] == "and 31000 more; --json has them all"


def test_why(capsys: Capture) -> None:
    out = CandidateSnapshot(OTHER, "", None, "it is down: Connection refused", None, "down")
    second = replace(WHY.candidates[0], id=OTHER, name="paris", place=2, reason="")
    Screen().show_why(replace(WHY, candidates=(out, second, *WHY.candidates), notes=("A note.",)))
    assert printed(capsys) == [
        "example.com:443: through an exit, strategy random",
        "TURN  EXIT      STATE      RTT  WHY",
        "   1  berlin    healthy  12 ms  the only one that is up",
        "   2  paris     healthy  12 ms",
        "   -  KdSAEgdU  down            it is down: Connection refused",
        "A note.",
    ]


@pytest.mark.parametrize(
    ("why", "line"),
    [
        (replace(WHY, action="block", rule="block: *.example"), "blocked (rule: block: *.example)"),
        (replace(WHY, action="direct"), "leaves from this machine, through no exit"),
        (replace(WHY, candidates=()), "through an exit, strategy random"),
    ],
)
def test_why_without_candidates(capsys: Capture, why: WhySnapshot, line: str) -> None:
    Screen().show_why(replace(why, candidates=()))
    first, *rest = printed(capsys)
    assert first == f"example.com:443: {line}"
    assert bool(rest) == (why.action == "exit")


@pytest.mark.parametrize(
    ("status", "line", "serving"),
    [
        (STATUS, "client serving: 1 of 1 exit can be used, 2 connections", True),
        (replace(STATUS, exits=()), "client without an exit: 0 of 0 exits can be used", False),
        (replace(STATUS, exits=(DOWN,)), "client without an exit: 0 of 1 exit can be used", False),
        (
            replace(STATUS, exits=(replace(EXIT, state="draining"), replace(EXIT, state="slow"))),
            "client serving: 1 of 2 exits can be used, 2 connections",
            True,
        ),
        (
            replace(STATUS, draining=True, connections=1),
            "client draining: 1 connection left, nothing new is taken",
            False,
        ),
        (NODE, "node serving: 2 members, 2 requests", True),
        (replace(NODE, members=()), "node serving: 0 members, 2 requests", True),
        (replace(NODE, draining=True), "node draining: 2 connections left, nothing new is taken", False),
    ],
)
def test_whether_it_serves(status: StatusSnapshot, line: str, serving: bool) -> None:
    assert (summary(status), serves(status)) == (line, serving)


def test_where_nothing_is_it_says_what_to_do(capsys: Capture) -> None:
    screen = Screen()
    screen.show_status(replace(STATUS, exits=(), sources=()))
    assert "nodes of client.yaml" in printed(capsys)[-1]
    screen.show_status(replace(NODE, members=()))
    assert f"  - id: {NODE.id}" in printed(capsys)
    screen.show_connections([], STATUS)
    assert printed(capsys) == ["No connections. Try: curl -x socks5h://127.0.0.1:1080 https://example.com/"]
    screen.show_connections([], replace(STATUS, listening=(), draining=True))
    assert "draining" in printed(capsys)[0]
    screen.show_connections([], NODE)
    assert printed(capsys) == ["No request is being carried."]


def test_what_others_wrote_is_shown_as_text(capsys: Capture) -> None:
    screen = Screen()
    exit_ = replace(EXIT, name=HOSTILE, tags=(HOSTILE,), state=HOSTILE, reason=HOSTILE, path=HOSTILE)
    screen.show_status(replace(STATUS, exits=(exit_,), listening=(HOSTILE,)))
    lines = printed(capsys)
    assert lines[3].endswith("evil[bold ")  # rich would have made it red
    screen.show_connections([replace(CONNECTION, destination=HOSTILE, user=HOSTILE, id=HOSTILE)], STATUS)
    screen.show_why(replace(WHY, destination=HOSTILE, rule=HOSTILE, notes=(HOSTILE,)))
    assert printed(capsys)


# -- events ---------------------------------------------------------------------------------------------------------


def test_an_event_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    event = {
        "event": "request_ended",
        "time": 1_795_428_000.125,
        "id": "00112233445566aa",
        "peer": PEER,
        "destination": "example.com:443",
        "reason": "",
        "sent": 5,
        "seconds": 0.12345,
        "user": 'a "b"',
        "inbound": False,
    }
    line = event_line(event)
    assert line[8:] == (
        " request ended      id=00112233445566aa peer=HYdBfeSB destination=example.com:443 sent=5 seconds=0.123 "
        'user="a \\"b\\"" inbound=False'
    )


@settings(deadline=None)
@given(event=st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.none() | st.booleans()))
def test_any_event_is_a_printable_line(event: dict[str, object]) -> None:
    assert event_line(event).isprintable()


# -- quantities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (9949, "9.9 kB"),
        (9951, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (0.9, "0 s", "0 s"),
        (59.9, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (185, "3 min 5 s", "3 min"),
        (3600, "1 h", "1 h"),
        (3605, "1 h", "1 h"),
        (3 * 86400 + 4 * 3600 + 5, "3 d 4 h", "3 d"),
        (-1, "0 s", "0 s"),
        (float("inf"), "0 s", "0 s"),
        (float("nan"), "0 s", "0 s"),
    ],
)
def test_durations(seconds: float, text: str, short: str) -> None:
    assert (duration(seconds), duration(seconds, 1)) == (text, short)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0004, "0.4 ms"),
        (0.00994, "9.9 ms"),
        (0.00995, "10 ms"),
        (0.9994, "999 ms"),
        (1.25, "1.2 s"),
    ],
)
def test_delays(seconds: float | None, text: str) -> None:
    assert delay(seconds) == text


def test_counts() -> None:
    assert (counted(1, "exit"), counted(2, "exit")) == ("1 exit", "2 exits")
