"""How a client reaches its exits, what they speak, and what it is asked for."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bethrou.cli.doctor.facts import CLIENT, Facts
from bethrou.cli.doctor.finding import Finding, ok, problem, unknown, warning
from bethrou.cli.doctor.words import peer_name
from bethrou.net.nat_kind import SYMMETRIC
from bethrou.quantities import counted, delay
from bethrou.snapshots import ExitSnapshot, PunchSnapshot, ReachabilitySnapshot
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.proxy_request import PROTOCOL_V1_0, PROTOCOL_V1_1
from bethrou.wire.reach import is_public

MAX_EXITS = 20
"""Exits that have a line of their own; the others are counted."""

FEW = 5
"""Connections from which nothing follows about the names of all."""

_OUR_AGENT = "bethrou-py/"
_GO = PROTOCOL_V1_0.rpartition("/")[2]
_RELEASE = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,3}", re.ASCII)

_USABLE = frozenset({"healthy", "slow", "suspect"})
_NOT_KEPT = "known"
_OPEN_A_PORT = (
    "open its port to the Internet, or forward one in its router, and have clients told of that address"
)


def exits(facts: Facts) -> Iterator[Finding]:
    """By which way each exit is reached, and why not by a better one."""
    status = facts.status
    if status is None or facts.role != CLIENT:
        return
    kept = [each for each in status.exits if each.state != _NOT_KEPT]
    if not any(each.state in _USABLE for each in kept):
        fix = (
            "see below what each exit says"
            if kept
            else "put the lines that a node prints into nodes of client.yaml"
        )
        yield problem("exits", f"none of {counted(status.exits_known, 'exit')} can be used", fix)
    # those with something to say first, in the order that they have else
    findings = [_exit(each, facts.reach) for each in kept]
    findings.sort(key=lambda finding: not finding.fix)
    yield from findings[:MAX_EXITS]
    if len(findings) > MAX_EXITS:
        rest = Counter(finding.level.value for finding in findings[MAX_EXITS:])
        counts = ", ".join(f"{count} {level}" for level, count in rest.items())
        yield ok("exits", f"and {len(findings) - MAX_EXITS} more ({counts}); `bethrou status` has all")


def _exit(exit_: ExitSnapshot, reach: ReachabilitySnapshot | None) -> Finding:
    name = peer_name(exit_.id, exit_.name)
    if exit_.state in ("down", "connecting"):
        reason = exit_.reason or "it is dialled for the first time"
        return warning("exits", f"{name} cannot be reached: {reason}", _remedy(reason), exit_.id)
    if exit_.path == "circuit":
        reason, fix = _why_no_direct_way(exit_, reach)
        text = f"{name}: by circuit, {delay(exit_.round_trip)}; no direct way: {reason}"
        return warning("exits", text, fix, exit_.id)
    if exit_.state == "suspect":
        fix = (
            "nothing at once: others are asked first, and it is tried again; if it stays so, look at its log"
        )
        return warning("exits", f"{name} failed a request: {exit_.reason}", fix, exit_.id)
    if exit_.state == "slow":
        fix = "nothing at once: others are asked first; if it stays so, see what its machine and line are busy with"
        return warning("exits", f"{name} is slow: {exit_.reason}", fix, exit_.id)
    if exit_.state == "draining":
        return ok("exits", f"{name} is stopping and takes nothing new", exit_.id)
    return ok("exits", f"{name}: {exit_.path}, {delay(exit_.round_trip)}", exit_.id)


_REMEDIES = (
    (
        "different network keys",
        "compare what `bethrou key show network.key` says on both sides; copy the right key",
    ),
    (
        " answered",
        "its identity is another one now: write the peer ID that it prints, or give it its node.key",
    ),
    ("removed from the network", "ask the operator for an invite, then `bethrou join` in a new directory"),
    (
        "no member of the network",
        "ask the operator for an invite, or for `bethrou members add` with this peer ID",
    ),
    ("no such host", "correct the name in its address, or write an IP address"),
    ("Connection refused", "start it there (`bethrou-node start`), or correct the port in its address"),
    ("no answer within", "open its port in the firewall there, or correct its address"),
)
"""What to do, by words of the reason; the first that are in it count."""

_ANY_REMEDY = "see that it runs (`bethrou status` there), and that its address and port are right and open"


def _remedy(reason: str) -> str:
    return next((fix for words, fix in _REMEDIES if words in reason), _ANY_REMEDY)


def _why_no_direct_way(exit_: ExitSnapshot, reach: ReachabilitySnapshot | None) -> tuple[str, str]:
    """The reason, and what to do."""
    at_the_exit = f"at the exit, {_OPEN_A_PORT}"
    if reach is None:
        return "the running client does not say", "restart it: it is of another version"
    way = next((each for each in reach.ways if each.peer == exit_.id), None)
    listed = way.listed if way is not None else ()
    closed = _closed(exit_, listed)
    punch = next((each for each in reach.punches if each.peer == exit_.id), None)
    if not reach.punching:
        beside = closed or "the exit lists no public address"
        return (
            f"{beside}, and hole punching is off here",
            "set punch: true in client.yaml and restart the client",
        )
    if punch is not None and not punch.ok:
        return _after_a_punch(punch, reach, closed), at_the_exit
    if not reach.punchable:
        reason = f"{closed or 'the exit lists no public address'}, and no peer sees this client at a public address"
        return reason, at_the_exit
    if way is not None and not way.punches:
        reason = f"{closed or 'the exit lists no public address'}, and it punches no holes"
        return reason, f"{at_the_exit}; or see that it does not run with --no-punch"
    return closed or "none has been found yet", f"wait a minute for the next attempt; or {at_the_exit}"


def _closed(exit_: ExitSnapshot, listed: Sequence[str]) -> str:
    """What came of its public addresses, those that it lists and those that are known otherwise; "": it has none."""
    known = [each for each in exit_.addresses if is_public(Multiaddr.parse(each))]
    if exit_.no_direct_way and (listed or known):
        return exit_.no_direct_way
    return f"{listed[0]}, where it says that it is, does not answer from here" if listed else ""


def _after_a_punch(punch: PunchSnapshot, reach: ReachabilitySnapshot, closed: str) -> str:
    reason = f"hole punching failed in {counted(punch.rounds, 'round')} ({punch.reason})"
    if reach.nat.kind == SYMMETRIC:
        reason += ", as it must behind this symmetric NAT"
    return f"{closed}, and {reason}" if closed else reason


def versions(facts: Facts) -> Iterator[Finding]:
    """Which programs and protocols the exits speak."""
    if facts.status is None or facts.role != CLIENT:
        return
    groups: dict[tuple[str, str], list[ExitSnapshot]] = {}
    for each in facts.status.exits:
        if each.path:
            groups.setdefault((each.agent, _protocol(each)), []).append(each)
    for (agent, protocol), some in sorted(groups.items(), key=lambda item: -len(item[1])):
        who = peer_name(some[0].id, some[0].name) if len(some) == 1 else counted(len(some), "exit")
        program = agent or "a program that does not say what it is"
        if protocol:
            yield _version(f"{who}: {program}, proxy {protocol}", agent, protocol, facts.status.version)
        else:
            fix = "it is a relay or another program: take it out of nodes, or start an exit there"
            yield warning("versions", f"{who}: {program}, which offers no proxy protocol that we know", fix)


def _version(text: str, agent: str, protocol: str, ours: str) -> Finding:
    if not agent.startswith(_OUR_AGENT):
        by_rules_of_go = "; no reasons for failures, and who ends sending first waits (half_close_wait)"
        return ok("versions", text + (by_rules_of_go if protocol == _GO else ""))
    theirs, mine = _release(agent.removeprefix(_OUR_AGENT)), _release(ours)
    if theirs < mine:
        fix = (
            "update it there, one exit after the other: connections move to the others (`bethrou node drain`)"
        )
        return warning("versions", f"{text}: older than this client ({ours})", fix)
    if theirs > mine:
        return warning("versions", f"{text}: newer than this client ({ours})", "update this client")
    return ok("versions", text)


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (0, 1) for 0.1.0, so that 0.1 is the same."""
    found = _RELEASE.match(version)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _protocol(exit_: ExitSnapshot) -> str:
    """The best that both speak. An exit that has said nothing yet is asked for each."""
    for protocol in (PROTOCOL_V1_1, PROTOCOL_V1_0):
        if protocol in exit_.protocols:
            return protocol.rpartition("/")[2]
    return "" if exit_.protocols else "not known yet"


def names(facts: Facts) -> Iterator[Finding]:
    """Whether applications look names up on this machine, where others see them (DNS leak)."""
    if facts.status is None or facts.role != CLIENT:
        return
    count = len(facts.connections)
    literal = sum(_is_address(each.destination) for each in facts.connections)
    if count < FEW:
        yield unknown(
            "dns", f"{counted(count, 'connection')} open: too few to see whether names are looked up here"
        )
    elif 2 * literal > count:
        fix = "use socks5h:// instead of socks5://, or have the application look names up at the proxy (remote DNS)"
        text = f"{literal} of {count} connections ask for addresses: their applications look names up on this machine"
        yield warning("dns", text, fix)
    else:
        yield ok(
            "dns", f"{count - literal} of {count} connections ask for names, which are looked up at the exit"
        )


def _is_address(destination: str) -> bool:
    host = destination.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
