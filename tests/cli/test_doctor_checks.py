"""What each check says of given facts: pure functions, so the facts are written down here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bethrou.cli.doctor import on_discovery, on_exits, on_policy, on_reach, on_setup
from bethrou.cli.doctor.checks import CHECKS, examine
from bethrou.cli.doctor.facts import Facts, FileFact, PortFact, RedisFact
from bethrou.cli.doctor.finding import Finding, Level, ok, problem, warning
from bethrou.cli.doctor.report import as_lines, exit_status, summary
from bethrou.config import client_config, node_config
from bethrou.snapshots import (
    AddressReachability,
    ClockSnapshot,
    ExitSnapshot,
    NatSnapshot,
    PunchSnapshot,
    ReachabilitySnapshot,
    RelayingSnapshot,
    RelaySnapshot,
    WaySnapshot,
)
from ops.controlled import CONNECTION, EXIT, PEER, REACHABILITY, STATUS

HERE = "/ip4/203.0.113.9/tcp/4000"
OTHER = "12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU"
SPEAKS = ("/bethrou/proxy/1.0.0", "/bethrou/proxy/1.1.0", "/libp2p/dcutr")
BERLIN = replace(EXIT, agent="bethrou-py/0.1.0", protocols=SPEAKS)
BY_CIRCUIT = replace(BERLIN, path="circuit")
RUNNING = replace(STATUS, exits=(BERLIN,), pid=77, sources=())
RUNNING_NODE = replace(RUNNING, role="node", exits=(), listening=("/ip4/0.0.0.0/tcp/4000",))
PUNCHED = replace(REACHABILITY, punchable=(HERE,))

NODES = {"nodes": [{"addrs": [f"/ip4/192.0.2.7/tcp/4000/p2p/{PEER}"]}]}
CLIENT = Facts(
    role="client",
    user=1000,
    config_path="client.yaml",
    config=client_config(NODES),
    status=RUNNING,
    reach=REACHABILITY,
)
NODE = Facts(role="node", user=1000, status=RUNNING_NODE, reach=REACHABILITY)

Check = Callable[[Facts], Iterator[Finding]]


def level_and_text(check: Check, facts: Facts) -> list[tuple[str, str]]:
    return [(finding.level.value, finding.text) for finding in check(facts)]


def only(check: Check, facts: Facts) -> Finding:
    (finding,) = check(facts)
    return finding


# -- setup --------------------------------------------------------------------------------------------------------


def test_configuration() -> None:
    assert only(on_setup.configuration, CLIENT) == ok("config", "client.yaml can be used", "client.yaml")
    broken = replace(CLIENT, config=None, config_error="client.yaml: nodse: unknown key")
    assert only(on_setup.configuration, broken).level is Level.PROBLEM
    assert only(on_setup.configuration, broken).text == "client.yaml: nodse: unknown key"
    assert only(on_setup.configuration, NODE) == ok("config", "this node was started without a file")


def test_whether_it_runs() -> None:
    assert only(on_setup.running, CLIENT).text == "version 0.1.0, up 1 h 1 min"
    gone = replace(CLIENT, status=None, not_running="no client of this user runs here")
    finding = only(on_setup.running, gone)
    assert (finding.level, finding.fix) == (
        Level.WARNING,
        "start it with `bethrou-client connect`, then ask again",
    )
    former = only(on_setup.running, replace(CLIENT, status=replace(RUNNING, version="0.0.9")))
    assert former.text == "this client runs as version 0.0.9; installed is 0.1.0"
    assert former.fix == "restart the client"
    draining = replace(CLIENT, status=replace(RUNNING, draining=True))
    assert only(on_setup.running, draining).level is Level.WARNING


KEY = FileFact("network key", "my network.key", "", 0o600, 1000)


@pytest.mark.parametrize(
    ("file", "level", "text", "fix"),
    [
        (KEY, "ok", "the network key my network.key is its owner's alone (mode 0600)", ""),
        (
            replace(KEY, mode=0o400),
            "ok",
            "the network key my network.key is its owner's alone (mode 0400)",
            "",
        ),
        (
            replace(KEY, mode=0o644),
            "problem",
            "everybody on this machine can read the network key my network.key (mode 0644)",
            "chmod 600 'my network.key'",
        ),
        (
            replace(KEY, mode=0o660),
            "warning",
            "its group on this machine can read and change the network key my network.key (mode 0660)",
            "chmod 600 'my network.key'",
        ),
        (
            replace(KEY, owner=0),
            "warning",
            "the network key my network.key belongs to user 0, you are user 1000",
            "chown 1000 'my network.key', or run both as one user",
        ),
        (
            replace(KEY, fingerprint="00" * 16),
            "warning",
            "the network key my network.key is not the one that the running client uses",
            "restart the client, or put the former key back",
        ),
        (
            replace(KEY, fingerprint=STATUS.network),
            "ok",
            "the network key my network.key is its owner's alone (mode 0600)",
            "",
        ),
        (
            replace(KEY, error="network.key: is no network key"),
            "problem",
            "network.key: is no network key",
            "copy network.key from another member, or make one with `bethrou key new` for a new network",
        ),
    ],
)
def test_key_files(file: FileFact, level: str, text: str, fix: str) -> None:
    finding = only(on_setup.secrets, replace(CLIENT, files=(file,)))
    assert (finding.level, finding.text, finding.fix) == (level, text, fix)


PORT = "127.0.0.1:1080"


@pytest.mark.parametrize(
    ("runs", "port", "level", "text"),
    [
        (
            True,
            PortFact(PORT, True, ((77, "python"),)),
            "ok",
            f"{PORT} is held by this client, process 77 (python)",
        ),
        (True, PortFact(PORT, True), "ok", f"{PORT} is held by this client"),
        (
            True,
            PortFact(PORT, True, ((78, "nc"),)),
            "problem",
            f"{PORT} is taken by process 78 (nc), not by the running client",
        ),
        (True, PortFact(PORT, False), "problem", f"nobody listens on {PORT}, although the client runs"),
        (False, PortFact(PORT, False), "ok", f"{PORT} is free"),
        (False, PortFact(PORT, True, ((78, "nc"),)), "problem", f"{PORT} is taken by process 78 (nc)"),
        (False, PortFact(PORT, True), "problem", f"{PORT} is taken by a process of another user"),
    ],
)
def test_ports(runs: bool, port: PortFact, level: str, text: str) -> None:
    facts = replace(CLIENT, ports=(port, PortFact(PORT, None)))
    assert level_and_text(on_setup.ports, facts if runs else replace(facts, status=None)) == [(level, text)]


# -- exits --------------------------------------------------------------------------------------------------------


def with_exits(*exits: ExitSnapshot, reach: ReachabilitySnapshot | None = PUNCHED) -> Facts:
    return replace(CLIENT, status=replace(RUNNING, exits=exits, exits_known=len(exits)), reach=reach)


def test_an_exit_that_is_well() -> None:
    assert only(on_exits.exits, with_exits(BERLIN)) == ok("exits", "berlin: direct, 12 ms", PEER)
    assert list(on_exits.exits(NODE)) == []


def test_exits_that_are_not_well() -> None:
    down = replace(BERLIN, state="down", path="", reason="Connection refused", name="")
    slow = replace(BERLIN, state="slow", reason="three times as slow as usual")
    suspect = replace(BERLIN, state="suspect", reason="no answer")
    draining = replace(BERLIN, state="draining")
    not_kept = replace(BERLIN, state="known")
    assert level_and_text(on_exits.exits, with_exits(draining, slow, not_kept, suspect, down)) == [
        ("warning", "berlin is slow: three times as slow as usual"),
        ("warning", "berlin failed a request: no answer"),
        ("warning", "..HYdBfeSB cannot be reached: Connection refused"),
        ("ok", "berlin is stopping and takes nothing new"),
    ]
    assert level_and_text(on_exits.exits, with_exits(down)) == [
        ("problem", "none of 1 exit can be used"),
        ("warning", "..HYdBfeSB cannot be reached: Connection refused"),
    ]
    assert level_and_text(on_exits.exits, with_exits()) == [("problem", "none of 0 exits can be used")]


def test_many_exits_are_counted() -> None:
    found = level_and_text(on_exits.exits, with_exits(*[BERLIN] * 300))
    assert len(found) == on_exits.MAX_EXITS + 1
    assert found[-1] == ("ok", "and 280 more (280 ok); `bethrou status` has all")


FAILED = PunchSnapshot(PEER, False, HERE, 3, f"{HERE}: no connection came about", 20.0)
SAYS_NOTHING = WaySnapshot(PEER, (), False)
SAYS_WHERE = WaySnapshot(PEER, ("/ip4/198.51.100.7/tcp/4000",), True)
NONE_LISTED = "the exit lists no public address"
CLOSED = "/ip4/198.51.100.7/tcp/4000, where it says that it is, does not answer from here"
VAIN = f"hole punching failed in 3 rounds ({HERE}: no connection came about)"


@pytest.mark.parametrize(
    ("reach", "reason"),
    [
        (
            replace(PUNCHED, punching=False, ways=(SAYS_NOTHING,)),
            f"{NONE_LISTED}, and hole punching is off here",
        ),
        (replace(PUNCHED, punching=False, ways=(SAYS_WHERE,)), f"{CLOSED}, and hole punching is off here"),
        (replace(PUNCHED, punches=(FAILED,), ways=(SAYS_NOTHING,)), VAIN),
        (replace(PUNCHED, punches=(FAILED,), ways=(SAYS_WHERE,)), f"{CLOSED}, and {VAIN}"),
        (
            replace(PUNCHED, punches=(FAILED,), nat=NatSnapshot("symmetric", (), 2)),
            f"{VAIN}, as it must behind this symmetric NAT",
        ),
        (
            replace(REACHABILITY, ways=(SAYS_NOTHING,)),
            f"{NONE_LISTED}, and no peer sees this client at a public address",
        ),
        (replace(PUNCHED, ways=(SAYS_NOTHING,)), f"{NONE_LISTED}, and it punches no holes"),
        (replace(PUNCHED, ways=(SAYS_WHERE,)), CLOSED),
        (PUNCHED, "none has been found yet"),
        (None, "the running client does not say"),
    ],
)
def test_why_an_exit_is_reached_by_a_circuit(reach: ReachabilitySnapshot | None, reason: str) -> None:
    finding = only(on_exits.exits, with_exits(BY_CIRCUIT, reach=reach))
    assert (finding.level, finding.text) == (
        Level.WARNING,
        f"berlin: by circuit, 12 ms; no direct way: {reason}",
    )


def test_why_its_own_addresses_led_to_nothing() -> None:
    tried = "/ip4/198.51.100.7/tcp/4000: Connection refused"
    exit_ = replace(BY_CIRCUIT, no_direct_way=tried)
    for reach, addresses in (
        (replace(PUNCHED, ways=(SAYS_WHERE,)), ()),
        (PUNCHED, ("/ip4/192.0.2.7/tcp/4000", "/ip4/5.5.0.7/tcp/4000")),
    ):
        finding = only(on_exits.exits, with_exits(replace(exit_, addresses=addresses), reach=reach))
        assert finding.text == f"berlin: by circuit, 12 ms; no direct way: {tried}"
    # what is private elsewhere is nobody's fault
    elsewhere = replace(exit_, addresses=("/ip4/10.0.0.2/tcp/4000",))
    assert (
        NONE_LISTED
        in only(on_exits.exits, with_exits(elsewhere, reach=replace(PUNCHED, punching=False))).text
    )


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("most likely the two sides hold different network keys", "bethrou key show network.key"),
        (f"/ip4/192.0.2.7/tcp/1: {OTHER} answered instead of {PEER}", "write the peer ID that it prints"),
        (f"dialled {PEER}, but {OTHER} answered", "write the peer ID that it prints"),
        ("this device was removed from the network: ask", "ask the operator for an invite"),
        ("/dns4/x.example/tcp/1: no such host", "correct the name"),
        ("/ip4/192.0.2.7/tcp/1: Connection refused", "start it there"),
        ("/ip4/192.0.2.7/tcp/1: no answer within 5 s", "open its port in the firewall"),
        ("it is dialled for the first time", "see that it runs"),
    ],
)
def test_what_to_do_about_an_exit_that_is_away(reason: str, fix: str) -> None:
    down = replace(BERLIN, state="down", path="", reason=reason)
    (_, finding) = on_exits.exits(with_exits(down))
    assert fix in finding.fix


def test_exits_of_other_versions() -> None:
    older, same, newer = (
        replace(BERLIN, agent=f"bethrou-py/{each}") for each in ("0.0.9", "0.1", "0.10.0rc1")
    )
    assert level_and_text(on_exits.versions, with_exits(older, same, newer)) == [
        ("warning", "berlin: bethrou-py/0.0.9, proxy 1.1.0: older than this client (0.1.0)"),
        ("ok", "berlin: bethrou-py/0.1, proxy 1.1.0"),
        ("warning", "berlin: bethrou-py/0.10.0rc1, proxy 1.1.0: newer than this client (0.1.0)"),
    ]
    strange = replace(BERLIN, agent="bethrou-py/" + "9" * 5000)
    assert only(on_exits.versions, with_exits(strange)).level is Level.WARNING


def test_versions() -> None:
    go = replace(BERLIN, id=OTHER, name="", agent="go-libp2p/0.42", protocols=("/bethrou/proxy/1.0.0",))
    relay = replace(go, agent="", protocols=("/ipfs/id/1.0.0",))
    silent = replace(go, agent="", protocols=())
    away = replace(BERLIN, path="")
    assert level_and_text(on_exits.versions, with_exits(BERLIN, go, BERLIN, relay, silent, away)) == [
        ("ok", "2 exits: bethrou-py/0.1.0, proxy 1.1.0"),
        (
            "ok",
            "..KdSAEgdU: go-libp2p/0.42, proxy 1.0.0; "
            "no reasons for failures, and who ends sending first waits (half_close_wait)",
        ),
        (
            "warning",
            "..KdSAEgdU: a program that does not say what it is, which offers no proxy protocol that we know",
        ),
        ("ok", "..KdSAEgdU: a program that does not say what it is, proxy not known yet"),
    ]


def asking_for(*destinations: str) -> Facts:
    return replace(
        CLIENT,
        connections=tuple(replace(CONNECTION, destination=destination) for destination in destinations),
    )


def test_whether_names_are_looked_up_here() -> None:
    few = asking_for("192.0.2.1:443", "[2001:db8::1]:443", "192.0.2.1:443", "192.0.2.1:443")
    assert only(on_exits.names, few).level is Level.UNKNOWN
    leak = asking_for(
        "192.0.2.1:443", "[2001:db8::1]:443", "192.0.2.3:80", "example.com:443", "example.org:1"
    )
    finding = only(on_exits.names, leak)
    assert finding.level is Level.WARNING
    assert (
        finding.text
        == "3 of 5 connections ask for addresses: their applications look names up on this machine"
    )
    assert "socks5h" in finding.fix
    fine = asking_for("192.0.2.1:443", *["example.com:443"] * 4)
    assert level_and_text(on_exits.names, fine) == [
        ("ok", "4 of 5 connections ask for names, which are looked up at the exit")
    ]
    assert list(on_exits.names(NODE)) == []


# -- how it is reached --------------------------------------------------------------------------------------------


def reached(*addresses: AddressReachability, facts: Facts = NODE, **changes: object) -> Facts:
    return replace(facts, reach=replace(REACHABILITY, addresses=addresses, **changes))  # type: ignore[arg-type]


OPEN = AddressReachability(HERE, "reachable", 2, 0, 3, (PEER, OTHER), ())
SHUT = AddressReachability(HERE, "unreachable", 0, 4, 4, (), (PEER, OTHER, PEER, OTHER))
NO_VERDICT = AddressReachability(HERE, "unknown", 1, 1, 2, (PEER,), (OTHER,))
NOBODY = AddressReachability(HERE, "unknown", 0, 0, 0)
BY_WHOM = "4 of 4 members tried in vain: ..HYdBfeSB, ..HYdBfeSB, ..KdSAEgdU and 1 more"
CIRCUIT = f"/ip4/192.0.2.1/tcp/4000/p2p/{OTHER}/p2p-circuit"


@pytest.mark.parametrize(
    ("facts", "level", "text", "fix"),
    [
        (
            reached(OPEN),
            "ok",
            f"{HERE} is reachable (2 of 3 members got through: ..HYdBfeSB, ..KdSAEgdU)",
            "",
        ),
        (reached(NO_VERDICT), "unknown", f"{HERE}: members do not agree", ""),
        (reached(NOBODY), "unknown", f"{HERE}: no member could try it", ""),
        (
            reached(SHUT, nat=NatSnapshot("none", (HERE,), 1)),
            "problem",
            f"{HERE} is not reachable ({BY_WHOM})",
            "open TCP port 4000 in the firewall; or name a relay with --connect-relay",
        ),
        (
            reached(SHUT),
            "problem",
            f"{HERE} is not reachable ({BY_WHOM})",
            "forward a TCP port of the router to port 4000 of this machine, and open it in its firewall; "
            "or name a relay with --connect-relay",
        ),
        (
            reached(SHUT, own=(HERE, CIRCUIT)),
            "warning",
            f"{HERE} is not reachable ({BY_WHOM}); members come through a relay",
            "forward a TCP port of the router to port 4000 of this machine, and open it in its firewall",
        ),
        (reached(SHUT, facts=CLIENT), "ok", f"{HERE} is not reachable ({BY_WHOM}); a client need not be", ""),
        (reached(facts=CLIENT), "ok", "no public address of this client is known; it needs none", ""),
        (reached(own=(CIRCUIT,)), "ok", "no public address is known; members come through a relay", ""),
        (
            reached(own=("/ip4/10.0.0.2/tcp/4000",)),
            "unknown",
            "no public address is known: only its own network reaches it (/ip4/10.0.0.2/tcp/4000)",
            "",
        ),
        (
            reached(nat=NatSnapshot("unknown", ("/ip4/5.5.1.1/tcp/50123",), 1)),
            "problem",
            "members see this node at /ip4/5.5.1.1/tcp/50123, but nobody sees a port on which it listens",
            "forward a port in the router to the one on which it listens, or name a relay with --connect-relay",
        ),
    ],
)
def test_addresses(facts: Facts, level: str, text: str, fix: str) -> None:
    finding = only(on_reach.addresses, facts)
    assert (finding.level, finding.text, finding.fix) == (level, text, fix)


@pytest.mark.parametrize(
    ("nat", "level", "text"),
    [
        (NatSnapshot("none", (HERE,), 1), "ok", f"none: members see this machine's own address {HERE}"),
        (
            NatSnapshot("endpoint-independent", (HERE,), 2, keeps_port=True),
            "ok",
            f"port-preserving NAT: from 2 places one port is seen at {HERE}; holes can be punched",
        ),
        (
            NatSnapshot("endpoint-independent", (HERE,), 2),
            "ok",
            f"NAT that changes ports: from 2 places one port is seen at {HERE}; holes can be punched",
        ),
        (
            NatSnapshot("symmetric", (HERE, "/ip4/203.0.113.9/tcp/4001"), 2),
            "warning",
            f"symmetric NAT: each place sees another port ({HERE}, /ip4/203.0.113.9/tcp/4001); holes cannot be punched",
        ),
        (
            NatSnapshot("unknown", (HERE,), 1),
            "unknown",
            f"NAT of unknown kind: one port is seen at {HERE}, from 1 place; two that agree would tell",
        ),
        (NatSnapshot("unknown", (), 0), "unknown", "no member outside this network sees this machine"),
    ],
)
def test_nat(nat: NatSnapshot, level: str, text: str) -> None:
    assert level_and_text(on_reach.nat, reached(nat=nat)) == [(level, text)]


def test_punching() -> None:
    assert only(on_reach.punching, reached(punching=False)) == ok("punching", "off")
    assert only(on_reach.punching, reached()).level is Level.UNKNOWN
    punches = (FAILED, replace(FAILED, peer=OTHER, ok=True))
    assert only(on_reach.punching, reached(punchable=(HERE,), punches=punches)) == ok(
        "punching", f"peers are told of {HERE}; direct ways to 1 of 2 peers"
    )


RESERVED = RelaySnapshot(OTHER, True, "", (CIRCUIT,), 3540.0, None)


def test_relays() -> None:
    away = RelaySnapshot(PEER, False, "Connection refused", (), None, 3.0)
    limited = replace(RESERVED, duration=120, data=1 << 17)
    silent = replace(away, reason="")
    facts = replace(NODE, status=replace(RUNNING_NODE, relays=(RESERVED, away, limited, silent)))
    assert level_and_text(on_reach.relays, facts) == [
        ("ok", "relay ..KdSAEgdU brings members here for 59 min unless renewed; no limits"),
        ("warning", "relay ..HYdBfeSB brings no members: Connection refused"),
        (
            "warning",
            "relay ..KdSAEgdU brings members here for 59 min unless renewed, and cuts a circuit off after "
            "2 min, 131 kB each way",
        ),
        ("warning", "relay ..HYdBfeSB brings no members: nothing heard of it yet"),
    ]
    used = RelaySnapshot(OTHER, False, "", (), None, None)
    assert level_and_text(on_reach.relays, reached(facts=CLIENT, relays=(used,))) == [
        ("ok", "relay ..KdSAEgdU carries circuits of this client; no limits")
    ]


def test_a_relay() -> None:
    relaying = RelayingSnapshot(3, 2, 12_345_678, 10, 20, 5, 0, 0, 0, 0)
    facts = replace(NODE, status=replace(RUNNING_NODE, relaying=relaying))
    text = "relays for 3 of 10 nodes, 2 of 20 circuits, 12 MB so far; a circuit: no limits"
    assert only(on_reach.relaying, facts) == ok("relaying", text)
    full = replace(
        NODE, status=replace(RUNNING_NODE, relaying=replace(relaying, reservations=9, circuits=20))
    )
    finding = only(on_reach.relaying, full)
    assert finding.level is Level.WARNING
    assert finding.fix == "raise --relay-reservations and --relay-circuits, or start another relay"
    assert list(on_reach.relaying(NODE)) == []


# -- discovery ----------------------------------------------------------------------------------------------------


def test_redis() -> None:
    assert list(on_discovery.redis(CLIENT)) == []
    fine = replace(CLIENT, redis=RedisFact("Redis at 127.0.0.1:6379", "", 0.0031))
    assert only(on_discovery.redis, fine).text == "Redis at 127.0.0.1:6379 lets us in, within 3.1 ms"
    away = replace(
        CLIENT, redis=RedisFact("Redis at 127.0.0.1:1", "Redis at 127.0.0.1:1: Connection refused")
    )
    finding = only(on_discovery.redis, away)
    assert (finding.level, finding.text) == (Level.PROBLEM, "Redis at 127.0.0.1:1: Connection refused")


def test_sources() -> None:
    source = STATUS.sources[0]
    facts = replace(
        CLIENT, status=replace(RUNNING, sources=(source, replace(source, ok=False, detail="frozen")))
    )
    assert level_and_text(on_discovery.sources, facts) == [
        ("ok", "redis: 1 exit, listening"),
        ("warning", "redis is of no use now: frozen"),
    ]


def clocks(*offsets: float, redis: float | None = None) -> Facts:
    found = tuple(ClockSnapshot(f"peer-{number:08}", offset, 0.01) for number, offset in enumerate(offsets))
    fact = None if redis is None else RedisFact("Redis", "", 0.001, redis)
    return replace(CLIENT, reach=replace(REACHABILITY, clocks=found), redis=fact)


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        (clocks(0.2, -0.4), "ok", "within 1 s of ..00000000, ..00000001"),
        (clocks(-59.0), "ok", "within 59 s of ..00000000"),
        (clocks(61.0), "warning", "this machine's clock is 61 s behind that of ..00000000"),
        # one of three is wrong, and it is not ours
        (
            clocks(0.0, 7200.0, redis=0.0),
            "warning",
            "within 1 s of ..00000000, Redis, but not of ..00000001 (2 h before)",
        ),
        (
            clocks(redis=-5400.0),
            "problem",
            "this machine's clock is 90 min before that of Redis: announcements of nodes are refused as expired, "
            "here or there",
        ),
        (clocks(), "unknown", "nobody who tells the time could be asked: nodes of this program, or Redis"),
    ],
)
def test_clocks(facts: Facts, level: str, text: str) -> None:
    assert level_and_text(on_discovery.clock, facts) == [(level, text)]


def test_no_clock_is_asked_for_a_program_that_does_not_run() -> None:
    assert list(on_discovery.clock(replace(CLIENT, status=None, reach=None))) == []


# -- all of it ------------------------------------------------------------------------------------------------------


def test_facts_that_are_missing_are_no_findings() -> None:
    for role in ("client", "node"):
        findings = examine(Facts(role=role, user=0, not_running=f"no {role} of this user runs here"))
        assert [finding.check for finding in findings] == ["running"]


def test_every_check_is_called_and_documented() -> None:
    of_modules = {
        function
        for module in (on_discovery, on_exits, on_policy, on_reach, on_setup)
        for name, function in vars(module).items()
        if not name.startswith("_") and callable(function) and function.__module__ == module.__name__
    }
    assert of_modules == set(CHECKS)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    facts = (
        replace(
            CLIENT,
            config=client_config({**NODES, "rules": [{"use": "any"}]}),
            files=(KEY,),
            ports=(PortFact(PORT, True),),
            redis=RedisFact("Redis"),
            status=replace(RUNNING, sources=STATUS.sources),
            reach=replace(REACHABILITY, relays=(RESERVED,)),
        ),
        replace(
            NODE,
            config=node_config({"deny": ["198.51.100.0/24"]}),
            status=replace(RUNNING_NODE, relaying=RelayingSnapshot(0, 0, 0, 1, 1, 1, 0, 0, 0, 0)),
        ),
    )
    names = {finding.check for each in facts for finding in examine(each)}
    assert len(names) == len(CHECKS)
    assert [name for name in names if f"`{name}`" not in readme] == []


def test_a_report() -> None:
    findings = [
        ok("nat", "none"),
        warning("dns", "a leak\x1b[2J", "use socks5h://"),
        problem("redis", "away", "start it"),
    ]
    assert [line for line, _ in as_lines(findings)] == [
        "ok       nat           none",
        "warning  dns           a leak\\x1b[2J",
        "                       -> use socks5h://",
        "problem  redis         away",
        "                       -> start it",
    ]
    assert summary(findings) == "1 problem, 1 warning"
    assert [exit_status(findings[:count]) for count in range(4)] == [0, 0, 0, 1]


def test_a_finding_without_its_fix_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="have a fix"):
        Finding("nat", Level.WARNING, "symmetric")
    with pytest.raises(ValueError, match="have a fix"):
        Finding("nat", Level.OK, "none", "nothing")
